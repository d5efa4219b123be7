"""Every method on the double: numbers equal the CPU's, counts of copies and waits, runs that change
devices.
"""

from math import log2

import numpy as np
import pytest
from gpu_case import make_case

from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.errors import Diverged
from gnopt.optimizers import options_of
from gnopt.optimizers.solver import BETWEEN_LOOKS
from gnopt.training.tree import read_tree, write_tree

CPU = NumpyBackend()
SMALL = {"iterations": 5}
VARIANTS = {
    "exact split": {"damping_split": "exact"},
    "Levenberg-Marquardt": {"damping_rule": "lm", "damping_period": 1},
    "fixed damping": {"damping_rule": "fixed"},
    "blocks": {"factor_width": 3},
    "low rank": {"curvature_decay": 0.0},
    "sketch": {"columns": 1},
    "Cholesky solves": {"inverse_period": 1},
    "averaging": {"averaging": 0.9},
    "sketched G": {"sketch_g": 0.3},
    "no preconditioner": {"preconditioner": "none"},
    "sampled preconditioner": {"preconditioner": "kfac"},
}


def agree(case, cuda, method, updates, rtol, **values):
    ours, theta, _ = case.run(CPU, method, updates, **values)
    theirs, there, _ = case.run(cuda, method, updates, **values)
    np.testing.assert_allclose(there, theta, rtol=rtol, atol=rtol)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=10 * rtol, abs=10 * rtol, nan_ok=True), (
                name
            )


def test_the_numbers_of_the_cpu(cuda, method_name, loss_name):
    agree(make_case(loss_name), cuda, method_name, 4, 1e-7, **SMALL)


def test_float32(cuda, method_name):
    agree(make_case("binary_cross_entropy", dtype="float32"), cuda, method_name, 3, 5e-3, **SMALL)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(cuda, variant, method_name, monkeypatch):
    monkeypatch.setattr("gnopt.curvature.blocks.SKETCH_WIDTH", 5)
    values = VARIANTS[variant]
    if not set(values) & {option.name for option in options_of(method_name)}:
        pytest.skip("not an option of this method")
    rows = 5 if variant == "low rank" else 24
    agree(
        make_case("binary_cross_entropy", rows=rows, widths=(20, 6, 4, 3)),
        cuda,
        method_name,
        4,
        1e-6,
        **SMALL,
        **values,
    )


# ---- what crosses the bus ------------------------------------------------------------------------


def traffic(cuda, counters, method, loss="binary_cross_entropy", **values):
    """Return the counters of each of twelve updates, and the factorisations checked in each."""
    case = make_case(loss)
    optimizer = case.optimizer(cuda, method, **{**SMALL, **values})
    theta, x, y = cuda.asarray(case.theta), cuda.asarray(case.x), cuda.asarray(case.y)
    state = optimizer.init(theta)
    seen = []
    for k in range(1, 13):
        counters.reset()
        before = cuda.checks
        stats = optimizer.update(theta, state, x, y, k)
        seen.append(
            (
                counters.d2h,
                counters.h2d,
                counters.flags,
                cuda.checks - before,
                counters.syncs,
                stats,
            )
        )
    return seen


def test_transfers_of_an_update(cuda, counters, method_name):
    """An update fetches scalars once, uploads nothing, and waits for no flag of a
    factorisation.
    """
    for d2h, h2d, flags, checks, syncs, stats in traffic(cuda, counters, method_name):
        assert (flags, checks, h2d) == (0, 0, 0)
        assert syncs == d2h
        if "iterations" in stats:  # of conjugate gradients
            # A line search that has to shorten the step asks for the loss each time.
            assert d2h == 1 or stats["alpha"] < 1.0
        elif "tries" in stats:  # of steps on the same rows
            assert d2h == stats["tries"]
        else:
            # A jump is looked into, and its update made again.
            assert d2h == 1 + 2 * stats.get("rejected", 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_transfers_of_variants(cuda, counters, method_name, variant):
    values = VARIANTS[variant]
    if not set(values) & {option.name for option in options_of(method_name)}:
        pytest.skip("not an option of this method")
    for d2h, h2d, flags, _, _, stats in traffic(cuda, counters, method_name, **values):
        more = 1 if values.get("damping_rule") == "lm" else 0  # the same batch once again
        assert (flags, h2d) == (0, 0)
        assert d2h <= stats.get("tries", 1 + more + 2 * stats.get("rejected", 0)) or (
            "iterations" in stats and stats["alpha"] < 1.0
        )


def test_solver_goes_on_where_it_was_stopped_too_early(cuda, counters):
    """As many iterations are queued as the last update took, 10 at first; where they are too few,
    there are more fetches.
    """
    updates = traffic(
        cuda,
        counters,
        "gauss_newton",
        iterations=250,
        tolerance=1e-10,
        damping=1e-4,
        preconditioner="none",
    )
    queued, more = BETWEEN_LOOKS, []
    for d2h, *_, stats in updates:
        queued, fetches = queued + queued // 8 + 2, 1
        while queued <= stats["iterations"]:
            queued, fetches = 2 * queued, fetches + 1
        assert d2h == fetches - log2(stats["alpha"])  # halvings of the step
        queued = stats["iterations"]
        more.append(fetches)
    assert more[0] > 2
    assert 1 in more[1:]


def test_sampled_counts_are_drawn_on_the_host(cuda, counters):
    first = traffic(cuda, counters, "kfac", "poisson")[0]
    assert first[:2] == (2, 1)  # the rates come to the host, the counts go back


# ---- factorisations that fail unseen -------------------------------------------------------------


def spoil(monkeypatch, cuda, times):
    """Make the first Cholesky factorisations report failure in their error flags.

    As with a matrix that is not positive definite, they leave the numbers that were there before.
    """
    routine, left = cuda._potrf, [times]

    def potrf(M):
        if left[0] > 0:
            left[0] -= 1
            return routine(-M)
        return routine(M)

    monkeypatch.setattr(cuda, "_potrf", potrf)


@pytest.mark.parametrize("method", ["kfra", "kfac", "gauss_newton", "hessian_free"])
def test_a_failed_factorisation_shows_at_the_fetch_and_is_made_anew(
    cuda, counters, monkeypatch, method
):
    case = make_case("binary_cross_entropy")
    expected, theta, _ = case.run(CPU, method, 3, **SMALL)
    spoil(monkeypatch, cuda, 1)
    before = cuda.checks
    found, there, _ = case.run(cuda, method, 3, **SMALL)
    assert cuda.checks > before  # the update was made again, with checks at once
    np.testing.assert_allclose(there, theta, rtol=1e-7, atol=1e-7)
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-9)


@pytest.mark.parametrize("method", ["kfra", "ekfac", "gauss_newton"])
def test_factors_that_are_not_finite_leave_the_gradient(cuda, counters, monkeypatch, method):
    """Each layer then takes a step along its gradient."""
    case = make_case("binary_cross_entropy")
    optimizer = case.optimizer(cuda, method, **SMALL)
    theta, x, y = cuda.asarray(case.theta), cuda.asarray(case.x), cuda.asarray(case.y)
    gram = cuda.gram
    monkeypatch.setattr(cuda, "gram", lambda X, scale, out=None: gram(X, scale, out) * float("nan"))
    stats = optimizer.update(theta, optimizer.init(theta), x, y, 1)
    assert np.isfinite(stats["step_norm"])
    assert np.isfinite(cuda.to_host(theta)).all()


@pytest.mark.parametrize("method", ["kfra", "ekfac", "gauss_newton", "hessian_free"])
def test_weights_that_are_not_finite_say_the_same_on_both(cuda, counters, method):
    case = make_case("binary_cross_entropy")
    said = []
    for ops in (CPU, cuda):
        optimizer = case.optimizer(ops, method, **SMALL)
        theta = ops.asarray(case.theta * float("nan"))
        with pytest.raises(Diverged) as caught, np.errstate(all="ignore"):
            optimizer.update(
                theta, optimizer.init(theta), ops.asarray(case.x), ops.asarray(case.y), 1
            )
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "loss" in said[0]


# ---- runs that change devices --------------------------------------------------------------------


def test_cpu_to_gpu_to_cpu(cuda, method_name, tmp_path):
    import h5py

    case = make_case("binary_cross_entropy")
    values = {**SMALL, "averaging": 0.5}
    _, whole, _ = case.run(CPU, method_name, 9, **values)
    start = None
    for ops, done in ((CPU, 0), (cuda, 3), (CPU, 6)):
        _, theta, state = case.run(ops, method_name, 3, start, **values)
        path = tmp_path / f"{done}.h5"
        with h5py.File(path, "w") as file:
            write_tree(file, "state", state)
        with h5py.File(
            path
        ) as file:  # as a checkpoint holds it: arrays of the host and plain values
            start = theta, read_tree(file, "state", path.stat().st_size), done + 3
    np.testing.assert_allclose(start[0], whole, rtol=1e-6, atol=1e-7)
