"""Conjugate gradients on dense systems, and the exact Gauss-Newton direction against a dense
solve.
"""

import itertools

import numpy as np
import pytest
from reference import Case, Truth, close, host, make_case, optimizer, same, settings

from gnopt.errors import Diverged
from gnopt.optimizers.solver import ConjugateGradients, conjugate_gradients

METHODS = ("gauss_newton", "hessian_free")
ETA = 0.02


def never(i, residual, models):
    return False


def to_tolerance(i, residual, models):
    return residual <= 1e-12


def system(ops, n=12, seed=0):
    X = np.random.default_rng(seed).standard_normal((n + 4, n))
    return (
        ops.asarray(X.T @ X / n + 0.05 * np.eye(n)),
        ops.asarray(np.random.default_rng(seed + 1).standard_normal(n)),
    )


@pytest.mark.parametrize("start", ["zero", "elsewhere"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_solves_a_dense_system(ops, start, preconditioned):
    B, b = system(ops)
    x0 = (
        ops.xp.zeros(12)
        if start == "zero"
        else ops.asarray(np.random.default_rng(5).standard_normal(12))
    )
    kept = x0.copy()
    inverse = ops.xp.diag(1.0 / B.diagonal()) if preconditioned else ops.xp.eye(12)
    found = conjugate_gradients(
        lambda v: B @ v, b, x0, lambda r: inverse @ r, ops, to_tolerance, 200
    )
    close(found.x, np.linalg.solve(host(B), host(b)), 1e-9)
    assert found.residual <= 1e-12
    assert found.iterations <= 20
    solver = ConjugateGradients(lambda v: B @ v, b, x0, lambda r: inverse @ r, ops, to_tolerance)
    solver.run(found.iterations)
    same(solver.x, found.x)
    assert float(solver.models[-1]) == pytest.approx(
        float(0.5 * found.x @ B @ found.x - b @ found.x), rel=1e-10
    )
    same(x0, kept)


def test_model_falls_with_every_iteration_and_iterates_are_kept_further_and_further_apart(ops):
    B, b = system(ops, 30)
    seen = []
    solver = ConjugateGradients(
        lambda v: B @ v,
        b,
        ops.xp.zeros(30),
        lambda r: r,
        ops,
        lambda i, residual, models: seen.append(models[-1]) or False,
        keep=1.3,
    )
    solver.run(25)
    path = [iterate.x for iterate in reversed(solver.earlier(solver.index))]
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
    values = [float(0.5 * x @ B @ x - b @ x) for x in path]
    assert values == sorted(values, reverse=True)
    assert 4 < len(path) < int(solver.count)
    assert len({id(x) for x in path}) == len(path)


def test_the_exact_inverse_as_preconditioner_takes_one_iteration(ops):
    B, b = system(ops)
    inverse = ops.asarray(np.linalg.inv(host(B)))
    found = conjugate_gradients(
        lambda v: B @ v, b, ops.xp.zeros(12), lambda r: inverse @ r, ops, to_tolerance, 50
    )
    assert found.iterations == 1
    close(found.x, np.linalg.solve(host(B), host(b)), 1e-12)


def test_stops_at_the_limit_and_at_once_where_nothing_is_to_do(ops):
    B, b = system(ops)
    assert (
        conjugate_gradients(
            lambda v: B @ v, b, ops.xp.zeros(12), lambda r: r, ops, never, 3
        ).iterations
        == 3
    )
    found = conjugate_gradients(
        lambda v: B @ v, 0.0 * b, ops.xp.zeros(12), lambda r: r, ops, never, 3
    )
    assert found.iterations == 0
    same(found.x, 0.0)


@pytest.mark.parametrize("preconditioner", ["none", "kfra", "kflr", "kfac"])
def test_gauss_newton_direction(ops, loss_name, preconditioner):
    """(GN + (λ + η) I) δ = −∇, with any preconditioner."""
    case = make_case((4, 3, 3), ("tanh",), loss_name, 10, soft=True, ops=ops)
    case.theta[...] *= 0.5
    values = settings(
        "gauss_newton",
        tolerance=1e-11,
        iterations=1000,
        preconditioner=preconditioner,
        damping=5.0,
        weight_decay=ETA,
    )
    method, theta = optimizer(case, "gauss_newton", values), case.theta.copy()
    state, truth = method.init(theta), Truth(case)
    stats = method.update(theta, state, case.x, case.y, 1)
    before, after = host(case.theta), host(theta)
    g = truth.gradient() + ETA * before
    B = truth.gauss_newton() + (5.0 + ETA) * np.eye(len(g))
    expected = -np.linalg.solve(B, g)
    assert stats["rejected"] == 0
    close(after - before, stats["alpha"] * expected, 1e-8)
    assert stats["alpha"] == 1.0
    assert stats["predicted"] == pytest.approx(0.5 * g @ expected, rel=1e-8)
    moved = Case(case.net, case.names, case.loss_name, theta, case.x, case.y)
    change = (
        Truth(moved).values.mean()
        - truth.values.mean()
        + 0.5 * ETA * (after @ after - before @ before)
    )
    assert stats["rho"] == pytest.approx(change / stats["predicted"], rel=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_products_in_blocks_are_those_of_the_whole_batch(ops, name):
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 150, soft=True, ops=ops)
    v = np.random.default_rng(0).standard_normal(case.net.size)
    products = []
    for memory in (1 << 30, 1):
        method = optimizer(case, name, settings(name), memory=memory)
        products.append(method.product(case.W, case.x, case.y, 0.7)(ops.asarray(v)))
    close(products[1], products[0], 1e-12)
    close(products[0], Truth(case).gauss_newton() @ v + 0.7 * v)


@pytest.mark.parametrize("name", METHODS)
def test_objective_never_rises_on_the_same_batch(ops, name, loss_name):
    case = make_case((4, 5, 3), ("tanh",), loss_name, 20, soft=True, ops=ops)
    method, theta = (
        optimizer(case, name, settings(name, damping=1e-3, weight_decay=0.0)),
        case.theta.copy(),
    )
    state = method.init(theta)
    losses = []
    for k in range(1, 12):
        before = theta.copy()
        stats = method.update(theta, state, case.x, case.y, k)
        losses.append(stats["loss"])
        if stats["rejected"]:
            same(theta, before)
            assert stats["step_norm"] == 0.0
    assert all(b <= a * (1.0 + 1e-12) for a, b in itertools.pairwise(losses))


@pytest.mark.parametrize("name", METHODS)
def test_rejected_step_leaves_the_weights_and_raises_damping(ops, name, monkeypatch):
    from gnopt.optimizers import conjugate_gradient

    case = make_case((4, 5, 3), ("tanh",), "squared_error", 20, ops=ops)
    method, theta = optimizer(case, name, settings(name)), case.theta.copy()
    state = method.init(theta)
    method.update(theta, state, case.x, case.y, 1)
    before = theta.copy()
    monkeypatch.setattr(conjugate_gradient, "mean_loss", lambda *arguments: ops.asarray(np.nan))
    lam = state.damping
    with pytest.raises(Diverged, match="in a row were rejected"):
        for k in range(2, 40):
            assert method.update(theta, state, case.x, case.y, k)["rejected"] == 1
            same(theta, before)
            assert state.damping > lam
            lam = state.damping
    assert 5 < k < 30
