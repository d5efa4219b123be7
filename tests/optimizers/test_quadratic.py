"""The quadratic model in the span of a few directions: its matrix against dense truth, its
minimiser.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import host, standard

from gnopt.engine.arrays import Workspace
from gnopt.optimizers.quadratic import curvature_products, minimise

RIDGE = 1e-10


def value(Q, b, x):
    return b @ x + 0.5 * x @ Q @ x


def system(size, seed, rank=None):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal((rank or size + 2, size)) * rng.uniform(0.01, 100.0, size)
    return V.T @ V, V.T @ rng.standard_normal(len(V))


def test_matrix_of_the_model(ops, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    V = np.random.default_rng(0).standard_normal((3, case.net.size))
    for rows in (6, 4):
        tape = case.tape().head(rows)
        workspace = Workspace(ops, "float64")
        Q = curvature_products(
            case.net, case.W, tape, case.loss, case.y[:rows], list(ops.asarray(V)), workspace
        )
        # 𝒢_L's mean over targets: column by column, as the loss gives its product with vectors.
        unit = np.eye(case.net.sizes[-1])[:, None, :].repeat(rows, axis=1)
        h, y = tape.output, case.y[:rows]
        columns = case.loss.expected_gn_product(ops, h, y, ops.asarray(unit))
        expected = host(columns).transpose(1, 2, 0)
        if case.loss_name != "binary_mixture":
            np.testing.assert_allclose(expected, truth.output_gn[:rows], atol=1e-12)
        GN = np.einsum("nkp,nkj,njq->pq", truth.J[:rows], expected, truth.J[:rows]) / rows
        case.check(Q, V @ GN @ V.T)


@given(st.integers(1, 4), st.integers(0, 2**32))
def test_minimiser_is_at_least_as_good_as_anything_near_or_less(size, seed):
    Q, b = system(size, seed)
    x = minimise(Q, b, RIDGE)
    best, slack = value(Q, b, x), 1e-6 * abs(value(Q, b, x)) + 1e-12
    assert best <= 0.0
    rng = np.random.default_rng(seed)
    for t in np.linspace(-1.0, 3.0, 41):  # any multiple of the step
        assert best <= value(Q, b, t * x) + slack
    for _ in range(20):  # any step beside it
        assert best <= value(Q, b, x * (1.0 + 0.1 * rng.standard_normal(size))) + slack
    for fewer in range(1, size):  # any subset of the directions
        part = np.zeros(size)
        part[:fewer] = minimise(Q[:fewer, :fewer], b[:fewer], RIDGE)
        assert best <= value(Q, b, part) + slack


def test_one_direction_has_a_closed_form():
    assert minimise(np.array([[4.0]]), np.array([-2.0]), 0.0)[0] == 0.5


def test_scale_of_a_direction_does_not_matter():
    Q, b = system(3, 0)
    scale = np.array([1e-6, 1.0, 1e7])
    x = minimise(Q, b, 1e-6)
    np.testing.assert_allclose(
        minimise(Q * np.outer(scale, scale), b * scale, 1e-6) * scale, x, rtol=1e-9
    )


@pytest.mark.parametrize("ridge", [1e-10, 1e-6])
def test_parallel_directions_do_no_harm(ridge):
    """The second direction repeats the first, exactly and nearly: the decrease is that of the first
    alone.
    """
    for noise in (0.0, 1e-12, 1e-8):
        v = np.random.default_rng(0).standard_normal((5, 1))
        V = np.hstack([v, -2.0 * v + noise])
        Q, b = V.T @ V, V.T @ np.arange(5.0)
        x = minimise(Q, b, ridge)
        alone = minimise(Q[:1, :1], b[:1], ridge)
        assert np.abs(x).max() < 1e3 * np.abs(alone).max()
        assert value(Q, b, x) <= (1.0 - 1e-4) * value(Q[:1, :1], b[:1], alone)


def test_direction_without_curvature_is_left_out():
    Q, b = np.diag([2.0, 0.0, -1.0]), np.array([-1.0, -1.0, -1.0])
    np.testing.assert_allclose(minimise(Q, b, 0.0), [0.5, 0.0, 0.0])
    np.testing.assert_array_equal(minimise(np.zeros((2, 2)), b[:2], 0.0), 0.0)
    Q[1, 1] = np.nan
    np.testing.assert_allclose(minimise(Q, b, 0.0), [0.5, 0.0, 0.0])


def test_system_that_cannot_be_solved_falls_back_on_the_first_direction():
    Q = np.array([[1.0, 5.0], [5.0, 1.0]])  # indefinite
    np.testing.assert_allclose(minimise(Q, np.array([-3.0, 1.0]), 1e-6), [3.0, 0.0])
    Q[0, 1] = Q[1, 0] = np.nan
    np.testing.assert_allclose(minimise(Q, np.array([-3.0, 1.0]), 1e-6), [3.0, 0.0])
