"""Lanczos, densities, ranks and the theorem, against dense matrices."""

import numpy as np
import pytest
from inspection_tools import look_at
from reference import OPS, close, make_case, standard

from gnopt.curvature.exact import full_gauss_newton, pre_activation_matrices
from gnopt.engine.activations import all_activations
from gnopt.engine.losses import all_losses
from gnopt.errors import GnoptError
from gnopt.inspection import density as density_module
from gnopt.inspection import rank
from gnopt.inspection.definite import affordable_rows, signs
from gnopt.inspection.density import product_with, whole_density
from gnopt.inspection.lanczos import lanczos, lanczos_density

PIECEWISE = [name for name, f in all_activations().items() if f.piecewise_linear]
CONVEX = [name for name, loss in all_losses().items() if loss.convex]


def tridiagonal(diagonal, off):
    return np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)


def symmetric(values, seed=0):
    """A matrix with these eigenvalues."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (Q * values) @ Q.T


# ---- Lanczos -------------------------------------------------------------------------------------


def test_all_steps_give_all_eigenvalues():
    values = np.concatenate([np.geomspace(1e-6, 1e3, 30), -np.geomspace(1e-3, 10.0, 10)])
    M = symmetric(values)
    T = tridiagonal(
        *lanczos(lambda v: M @ v, np.random.default_rng(1).standard_normal(40), 40, OPS)
    )
    close(np.linalg.eigvalsh(T), np.sort(values), 1e-10)


def test_few_steps_give_the_extremes_once():
    """Without reorthogonalisation the large eigenvalues would come up again and again."""
    values = np.concatenate([[-3.0, 50.0, 100.0], np.linspace(0.0, 1.0, 197)])
    M = symmetric(values)
    found = np.linalg.eigvalsh(tridiagonal(*lanczos(lambda v: M @ v, np.ones(200), 60, OPS)))
    close(found[[0, -2, -1]], [-3.0, 50.0, 100.0], 1e-10)
    assert (found > 2.0).sum() == 2
    assert (found < -0.1).sum() == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_ends_with_the_krylov_space(dtype):
    M = symmetric([5.0, 2.0, 2.0, *[0.0] * 17]).astype(dtype)
    diagonal, off = lanczos(lambda v: M @ v, np.ones(20, dtype=dtype), 20, OPS)
    assert len(diagonal) == len(off) + 1 <= 4
    close(np.linalg.eigvalsh(tridiagonal(diagonal, off))[-2:], [2.0, 5.0], 1e-5)
    assert len(lanczos(lambda v: 0.0 * v, np.ones(20, dtype=dtype), 20, OPS)[0]) == 1


def test_density_has_the_moments_of_the_spectrum():
    values = np.concatenate([np.linspace(-1.0, 0.0, 50), np.linspace(0.0, 4.0, 250)])
    M = symmetric(values)
    found = lanczos_density(
        lambda v: M @ v, 300, np.dtype(float), 40, 30, np.random.default_rng(0), OPS
    )
    assert abs(found.weights.sum() - 1.0) < 1e-12
    assert (np.diff(found.nodes) >= 0).all()
    assert abs(found.trace / values.sum() - 1.0) < 0.05
    assert abs(found.weights @ found.nodes**2 / (values**2).mean() - 1.0) < 0.05
    close([found.low, found.high], [-1.0, 4.0], 1e-2)
    assert abs(found.negative - 1 / 6) < 0.05


def test_vectors_that_cannot_fit_are_refused(monkeypatch):
    monkeypatch.setattr(type(OPS), "free_memory", lambda self: 1000)
    with pytest.raises(GnoptError, match="--lanczos-steps"):
        lanczos_density(lambda v: v, 10_000, np.dtype(float), 40, 1, np.random.default_rng(0), OPS)


@pytest.mark.parametrize("loss_name", ["squared_error", "binary_mixture"])
def test_densities_of_the_whole_matrices_agree_with_dense_ones(loss_name, monkeypatch):
    case, truth = standard("tanh", loss_name)
    at = look_at(case)
    for kind, matrix in (("gauss_newton", truth.gauss_newton()), ("hessian", truth.hessian())):
        values = np.linalg.eigvalsh(matrix)
        v = np.random.default_rng(0).standard_normal(case.net.size)
        case.check(product_with(at, kind)(v), matrix @ v)
        found = whole_density(at, kind, 10, 1)
        assert found.exact
        assert found.size == case.net.size
        case.check(found.nodes, values)
        with monkeypatch.context() as patch:
            patch.setattr(density_module, "SMALL", 0)
            found = whole_density(at, kind, case.net.size, 3)
        assert not found.exact
        close([found.low, found.high], values[[0, -1]], 1e-6)


@pytest.mark.parametrize("memory", [1, 64 << 20])
def test_the_full_gauss_newton_matrix_with_its_off_diagonal_blocks(loss_name, memory):
    case, truth = standard("tanh", loss_name)
    order = np.concatenate(
        [
            start + np.arange(o * i).reshape(o, i).ravel(order="F")
            for start, (o, i) in zip(case.net.offsets, case.net.shapes, strict=False)
        ]
    )
    case.check(
        full_gauss_newton(look_at(case, memory=memory).sample()),
        truth.gauss_newton()[np.ix_(order, order)],
    )


def test_the_full_matrix_is_refused_where_it_cannot_fit(monkeypatch):
    at = look_at(standard("tanh", "squared_error")[0])
    monkeypatch.setattr(type(OPS), "free_memory", lambda self: 1000)
    with pytest.raises(GnoptError, match="53 parameters takes 22,472 bytes"):
        full_gauss_newton(at.sample())


def test_products_do_not_depend_on_the_blocks_of_rows():
    case = make_case((4, 5, 3), ("tanh",), "squared_error", rows=200)
    v = np.random.default_rng(0).standard_normal(case.net.size)
    for kind in ("gauss_newton", "hessian"):
        close(
            product_with(look_at(case, memory=1), kind)(v),
            product_with(look_at(case), kind)(v),
            1e-12,
        )


# ---- rank ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_name", ["squared_error", "softmax_cross_entropy", "binary_mixture"])
def test_rank_of_the_exact_matrix_against_its_bound(loss_name):
    case, truth = standard("tanh", loss_name, rows=3)
    GN, found = truth.gauss_newton(), rank.ranks(look_at(case))
    per_point = {"squared_error": 3, "softmax_cross_entropy": 2, "binary_mixture": 1}[loss_name]
    assert found.rows == 3
    assert found.bound == 3 * per_point
    assert found.whole == np.linalg.matrix_rank(GN, hermitian=True) <= found.bound
    assert found.layers == [
        np.linalg.matrix_rank(truth.block(GN, l), hermitian=True) for l in (1, 2, 3)
    ]


def test_rank_uses_as_many_points_as_are_cheap(monkeypatch):
    monkeypatch.setattr(rank, "LIMIT", 7)
    assert rank.ranks(look_at(standard("tanh", "squared_error")[0])).rows == 2
    monkeypatch.setattr(rank, "LIMIT", 1)
    assert rank.ranks(look_at(standard("tanh", "squared_error")[0])).rows == 1


# ---- the theorem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_name", CONVEX)
@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_linear_nets_have_definite_block_hessians(name, loss_name):
    case, truth = standard(name, loss_name, rows=12)
    found = signs(look_at(case))
    assert found.premise
    assert found.definite
    assert found.trace_definite
    assert found.rows == 12
    H = truth.hessian()
    for l in (1, 2, 3):
        assert np.linalg.eigvalsh(truth.block(H, l))[0] >= -1e-12 * np.trace(H)
    assert "positive semi-definite at all 12 data points" in found.text()


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
def test_curved_nets_have_indefinite_block_hessians(name):
    case, _ = standard(name, "squared_error", rows=12)
    found = signs(look_at(case))
    assert not found.premise
    assert not found.definite
    assert min(layer.lowest for layer in found.layers) < -1e-3
    assert "indefinite" in found.text()
    assert found.layers[-1].negative_points == 0  # the output layer has the loss's own Hessian


def test_a_loss_that_is_not_convex_has_indefinite_block_hessians():
    found = signs(look_at(standard("relu", "binary_mixture", rows=12)[0]))
    assert found.piecewise_linear
    assert not found.output_definite
    assert not found.premise
    assert not found.definite


def test_eigenvalues_are_those_of_the_blocks():
    case, _ = standard("tanh", "softmax_cross_entropy", rows=4)
    at = look_at(case)
    found = signs(at)
    for l, M in pre_activation_matrices(at.sample(), hessian=True):
        blocks = [np.kron(np.outer(a, a), m) for a, m in zip(at.tape.abar[l - 1], M, strict=True)]
        values = np.array([np.linalg.eigvalsh(block) for block in blocks])
        close(min(found.layers[l - 1].lowest, 0.0), values.min(), 1e-9)
        close(found.layers[l - 1].highest, values.max(), 1e-9)
        close(found.layers[l - 1].lowest_trace, min(np.trace(block) for block in blocks), 1e-9)


def test_the_theorem_uses_as_many_rows_as_are_cheap():
    wide = look_at(make_case((3, 200, 100, 3), ("relu", "relu"), "squared_error", rows=2000))
    assert 1 < affordable_rows(wide) < 2000
    assert signs(wide, rows=2).rows == 2
    assert signs(look_at(standard("tanh", "squared_error")[0], memory=1)).rows == 6


def test_single_precision_has_its_own_tolerance():
    case = make_case(
        (6, 30, 20, 5), ("relu", "relu"), "softmax_cross_entropy", rows=50, dtype="float32"
    )
    found = signs(look_at(case))
    assert found.definite
    assert found.trace_definite
