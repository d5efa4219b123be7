"""The pair (A, G): moving averages, damping, inverses and solves against dense Kronecker products."""

import numpy as np
import pytest
from reference import OPS, close

from gnopt.curvature.kron import (
    apply_inverses,
    damped_inverse,
    dense,
    eigenbasis,
    join,
    left,
    mean_diagonal,
    mix,
    pi,
    pieces,
    right,
    rotate,
    second_moment,
    sketched_inverse,
    trace,
)
from gnopt.errors import Diverged


def pair(o=3, i=4, diagonal=False, seed=0):
    """G (o, o) or (o,), A (i, i) and a gradient (o, i)."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((o + 2, o)), rng.standard_normal((i + 2, i))
    G = X.T @ X / o
    return (np.diag(G).copy() if diagonal else G), Y.T @ Y / i, rng.standard_normal((o, i))


def vec(M):
    """Columns stacked."""
    return M.ravel(order="F")


@pytest.fixture(params=[False, True], ids=["full", "diagonal"])
def diagonal(request):
    return request.param


def test_convention():
    """(A ⊗ B) vec(V) = vec(B V Aᵀ)."""
    G, A, V = pair()
    close(np.kron(A, G) @ vec(V), vec(G @ V @ A.T), 1e-14)


@pytest.mark.parametrize("n", [1, 2, 5, 129])
def test_damped_inverse(n, diagonal):
    M, _, _ = pair(o=n, diagonal=diagonal)
    kept = M.copy()
    inverse = damped_inverse(OPS, M, 0.3, "M")
    close(dense(OPS, inverse), np.linalg.inv(dense(OPS, M) + 0.3 * np.eye(n)), 1e-11)
    np.testing.assert_array_equal(M, kept)
    np.testing.assert_array_equal(damped_inverse(OPS, M, 0.3, "M"), inverse)
    assert not np.shares_memory(inverse, M)


def test_factored_damping_solves_the_damped_system(diagonal):
    G, A, g = pair(diagonal=diagonal)
    a, b = 0.2, 0.7
    out, kept = np.empty_like(g), g.copy()
    inverses = damped_inverse(OPS, G, b, "G"), damped_inverse(OPS, A, a, "A")
    apply_inverses(OPS, inverses[0], g, inverses[1], out, np.empty)
    system = np.kron(A + a * np.eye(4), dense(OPS, G) + b * np.eye(3))
    close(vec(out), np.linalg.solve(system, vec(g)), 1e-12)
    np.testing.assert_array_equal(g, kept)
    again = np.empty_like(g)
    apply_inverses(OPS, inverses[0], g, inverses[1], again, np.empty)
    np.testing.assert_array_equal(again, out)


def test_exact_damping_solves_the_undivided_system(diagonal):
    G, A, g = pair(diagonal=diagonal)
    (values_G, Q_G), (values_A, Q_A) = eigenbasis(OPS, G, "G"), eigenbasis(OPS, A, "A")
    inner = rotate(OPS, Q_G, g, Q_A) / (values_G[:, None] * values_A[None, :] + 0.4)
    out = rotate(OPS, Q_G, inner, Q_A, back=True)
    system = np.kron(A, dense(OPS, G)) + 0.4 * np.eye(12)
    close(vec(out), np.linalg.solve(system, vec(g)), 1e-12)
    close(rotate(OPS, Q_G, rotate(OPS, Q_G, g, Q_A), Q_A, back=True), g, 1e-14)


def test_the_two_ways_of_damping_differ_but_agree_as_damping_vanishes():
    G, A, g = pair()
    system = np.kron(A, G)
    for damping, alike in ((1.0, False), (1e-9, True)):
        out = np.empty_like(g)
        root = damping**0.5
        inverses = damped_inverse(OPS, G, root, "G"), damped_inverse(OPS, A, root, "A")
        apply_inverses(OPS, inverses[0], g, inverses[1], out, np.empty)
        exact = np.linalg.solve(system + damping * np.eye(12), vec(g))
        assert (np.linalg.norm(vec(out) - exact) < 1e-2 * np.linalg.norm(exact)) == alike


def test_eigenvalues_below_zero_are_floored(diagonal):
    M = np.array([-1e-9, 1.0]) if diagonal else np.diag([-1e-9, 1.0])
    values, vectors = eigenbasis(OPS, M, "M")
    np.testing.assert_array_equal(np.sort(values), [0.0, 1.0])
    assert (vectors is None) == diagonal


def test_factors_beyond_repair_are_named():
    for entry, words in ((np.nan, "not finite"), (-5.0, "not positive definite")):
        with pytest.raises(Diverged, match=f"factor A of layer 3.*{words}"):
            damped_inverse(OPS, np.diag([1.0, entry]), 0.1, "factor A of layer 3")


def test_balance_of_the_two_factors(diagonal):
    G, A, _ = pair(diagonal=diagonal)
    full = dense(OPS, G)
    expected = np.sqrt((np.trace(A) / 4) / (np.trace(full) / 3))
    assert pi(OPS, A, G) == pytest.approx(expected, rel=1e-14)
    assert pi(OPS, 9.0 * A, G) == pytest.approx(3.0 * expected)
    assert float(trace(OPS, G)) == pytest.approx(np.trace(full))
    assert mean_diagonal(OPS, G) == pytest.approx(np.trace(full) / 3)


def test_dead_layer_keeps_finite_damping(diagonal, dtype_name):
    dead = np.zeros(3 if diagonal else (3, 3), dtype=dtype_name)
    _, A, _ = pair()
    ratio = pi(OPS, A.astype(dtype_name), dead)
    assert np.isfinite(ratio)
    assert ratio > 0.0
    assert mean_diagonal(OPS, dead) > 0.0
    inverse = damped_inverse(OPS, dead, 0.5, "G")
    np.testing.assert_allclose(dense(OPS, inverse), 2.0 * np.eye(3))


def test_mixing_leaves_the_old_average_alone(dtype_name):
    first = mix(OPS, None, np.full((2, 2), 4.0, dtype=dtype_name), 0.0, 1.0)
    np.testing.assert_array_equal(first, 4.0)
    second = mix(OPS, first, np.full((2, 2), 2.0, dtype=dtype_name), 0.5, 0.5)
    np.testing.assert_array_equal(first, 4.0)
    np.testing.assert_array_equal(second, 3.0)
    turned = mix(OPS, first, np.arange(4.0).astype(dtype_name).reshape(2, 2).T, 0.5, 1.0)  # not contiguous
    np.testing.assert_array_equal(turned, [[2.0, 4.0], [3.0, 5.0]])
    assert second.dtype == dtype_name
    constant, average = np.diag([1.0, 2.0]), None
    for k in range(1, 8):  # the moving average of a constant is the constant
        beta = min(1.0 - 1.0 / k, 0.7)
        average = mix(OPS, average, constant.copy(), beta, 1.0 - beta)
        close(average, constant, 1e-15)


def test_left_product_with_a_full_or_diagonal_factor(diagonal):
    G, _, g = pair(diagonal=diagonal)
    out = np.empty_like(g)
    left(OPS, G, g, out)
    close(out, dense(OPS, G) @ g, 1e-14)


# ---- forms for wide layers ----------------------------------------------------------------------------------------

FORMS = {"full": {}, "blocks": {"factor_width": 3}, "even blocks": {"factor_width": 4}, "one wide": {"factor_width": 1},
         "low rank": {"curvature_decay": 0.0}}


def moment(form, d=8, n=3, seed=0):
    """A factor in a form, and the full matrix it stands for."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    full = X.T @ X / n
    if form not in ("full", "low rank"):
        label = np.zeros(d)
        for i, r in enumerate(pieces(d, FORMS[form]["factor_width"])):
            label[r] = i
        full = full * (label[:, None] == label[None, :])
    return second_moment(OPS, X, 1.0 / n, FORMS[form]), full


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 8, 100])
def test_pieces_cover_a_range_nearly_equally(d, width):
    found = pieces(d, width)
    np.testing.assert_array_equal(np.concatenate([np.arange(d)[r] for r in found]), np.arange(d))
    sizes = [r.stop - r.start for r in found]
    assert max(sizes) <= (width or d)
    assert sizes[:-1] == [sizes[0]] * (len(sizes) - 1)
    assert len(found) == (1 if width == 0 else -(-d // width)) or sizes[0] * (len(found) + 1) >= d


@pytest.mark.parametrize("d", [7, 8, 11])
def test_forms_are_what_they_stand_for(form, d):
    M, full = moment(form, d)
    close(dense(OPS, M, d), full, 1e-14)
    assert float(trace(OPS, M)) == pytest.approx(np.trace(full), rel=1e-13)
    B = np.random.default_rng(1).standard_normal((5, d))
    if not isinstance(M, dict):  # a low-rank form is only ever multiplied by its inverse
        close(right(OPS, B, M, np.empty((5, d))), B @ full, 1e-13)
        close(left(OPS, M, B.T.copy(), np.empty((d, 5))), full @ B.T, 1e-13)


@pytest.mark.parametrize("d", [7, 8, 11])
def test_damped_inverses_of_every_form(form, d):
    M, full = moment(form, d)
    G, A = damped_inverse(OPS, M, 0.3, "M"), damped_inverse(OPS, M, 0.3, "M")
    inverse, B = np.linalg.inv(full + 0.3 * np.eye(d)), np.random.default_rng(1).standard_normal((d, d))
    out = np.empty_like(B)
    apply_inverses(OPS, G, B, A, out, np.empty)
    close(out, inverse @ B @ inverse, 1e-11)
    close(dense(OPS, M, d), full, 1e-14)


@pytest.mark.parametrize("d", [7, 8, 11])
def test_eigenbases_of_every_form(form, d):
    M, full = moment(form, d)
    values, Q = eigenbasis(OPS, M, "M")
    B = np.random.default_rng(1).standard_normal((d, d))
    inner = rotate(OPS, Q, B, Q) / (values[:, None] * values[None, :] + 0.4)
    out = rotate(OPS, Q, inner, Q, back=True)[:d, :d]
    close(out, np.linalg.solve(np.kron(full, full) + 0.4 * np.eye(d * d), vec(B)).reshape(d, d, order="F"), 1e-11)


def test_joining_every_form_is_the_weighted_sum(form):
    first, full_1 = moment(form, seed=0)
    second, full_2 = moment(form, seed=1)
    total = join(OPS, None, first, 0.0, 0.25)
    total = join(OPS, total, second, 1.0, 0.75)
    close(dense(OPS, total, 8), 0.25 * full_1 + 0.75 * full_2, 1e-14)
    replaced = join(OPS, total, moment(form, seed=2)[0], 0.0, 1.0)
    close(dense(OPS, replaced, 8), moment(form, seed=2)[1], 1e-14)


# ---- the sketched inverse ----------------------------------------------------------------------------

def spectrum(values, seed=0):
    """A symmetric matrix with these eigenvalues, its eigenvectors, and a random start for a sketch."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return (Q * values) @ Q.T, Q, lambda r: OPS.orthonormal(rng.standard_normal((len(values), r)))


def inverse_of(prepared, d):
    out = np.empty((d, d))
    return left(OPS, prepared, np.eye(d), out)


def test_a_sketch_of_full_rank_is_exact():
    values = np.concatenate([[9.0, 4.0, 1.0, 0.5], np.zeros(8)])
    M, _, start = spectrum(values)
    prepared, _ = sketched_inverse(OPS, M, start(4), 0.3, "G")
    close(inverse_of(prepared, 12), np.linalg.inv(M + 0.3 * np.eye(12)), 1e-9)


def test_sketches_follow_the_largest_eigenvalues():
    values = np.concatenate([[30.0, 20.0, 10.0], np.linspace(1.0, 0.1, 17)])
    M, Q, start = spectrum(values)
    basis, damping = start(3), 1.5 * values.mean()
    for _ in range(20):
        prepared, basis = sketched_inverse(OPS, M, basis, damping, "G")
    rest = values[3:].sum() / 20
    shrunk = np.where(np.arange(20) < 3, values, 0.0) + rest  # the trace is that of M
    close(inverse_of(prepared, 20), (Q / (shrunk + damping)) @ Q.T, 1e-9)
    error = np.linalg.norm(inverse_of(prepared, 20) @ (M + damping * np.eye(20)) - np.eye(20), 2)
    assert error < 0.2  # the eigenvalues left out lie within `damping` of their mean


def test_a_sketch_never_exceeds_the_matrix(dtype_name):
    """M − F Fᵀ is positive semidefinite for any basis, also the first, random one."""
    values = np.geomspace(10.0, 1e-3, 40)
    M, _, start = spectrum(values)
    prepared, basis = sketched_inverse(OPS, M.astype(dtype_name), start(10).astype(dtype_name), 2.0, "G")
    F = prepared["rows"].T.astype(float)
    assert np.linalg.eigvalsh(M - F @ F.T)[0] > -1e-4
    assert prepared["rows"].dtype == basis.dtype == dtype_name
    np.testing.assert_allclose(basis.T @ basis, np.eye(10), atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_sketch_wider_than_the_rank_of_the_matrix(rank, dtype_name):
    values = np.where(np.arange(16) < rank, 5.0, 0.0)
    M, _, start = spectrum(values)
    basis = start(6).astype(dtype_name)
    for _ in range(3):
        prepared, basis = sketched_inverse(OPS, M.astype(dtype_name), basis, 0.5, "G")
    found = inverse_of(prepared, 16)
    tolerance = 2e-3 if dtype_name == "float32" else 1e-9
    np.testing.assert_allclose(found, np.linalg.inv(M + 0.5 * np.eye(16)), atol=tolerance)
    np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-4)
