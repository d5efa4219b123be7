"""Every method on the double: the numbers of the CPU, what crosses the bus, and runs that change devices."""

import numpy as np
import pytest
from gpu_case import make_case

from gnopt.engine.backend import Backend
from gnopt.optimizers import get_method, options_of
from gnopt.training.tree import read_tree, write_tree

CPU = Backend()
CG = ("gauss_newton", "hessian_free")
DRAWS = {"kfac": 1, "ekfac": 2, "diagonal_gn": 1}  # uploads of random numbers in an update that takes statistics
SMALL = {"iterations": 5}
VARIANTS = {
    "exact split": {"damping_split": "exact"}, "Levenberg-Marquardt": {"damping_rule": "lm", "damping_period": 1},
    "fixed damping": {"damping_rule": "fixed"}, "blocks": {"factor_width": 3}, "low rank": {"curvature_decay": 0.0},
    "sketch": {"columns": 1}, "Cholesky solves": {"inverse_period": 1}, "averaging": {"averaging": 0.9},
    "sketched G": {"sketch_g": 0.3}, "no preconditioner": {"preconditioner": "none"},
    "sampled preconditioner": {"preconditioner": "kfac"},
}


def agree(case, cuda, method, updates, rtol, **values):
    ours, theta, _ = case.run(CPU, method, updates, **values)
    theirs, there, _ = case.run(cuda, method, updates, **values)
    np.testing.assert_allclose(there, theta, rtol=rtol, atol=rtol)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=10 * rtol, abs=10 * rtol, nan_ok=True), name


def test_the_numbers_of_the_cpu(cuda, method_name, loss_name):
    agree(make_case(loss_name), cuda, method_name, 4, 1e-7, **SMALL)


def test_float32(cuda, method_name):
    agree(make_case("binary_cross_entropy", dtype="float32"), cuda, method_name, 3, 5e-3, **SMALL)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(cuda, variant, method_name, monkeypatch):
    monkeypatch.setattr("gnopt.optimizers.preconditioner.SKETCH_WIDTH", 5)
    values = VARIANTS[variant]
    if not set(values) & {option.name for option in options_of(method_name)}:
        pytest.skip("not an option of this method")
    rows = 5 if variant == "low rank" else 24
    agree(make_case("binary_cross_entropy", rows=rows, widths=(20, 6, 4, 3)), cuda, method_name, 4, 1e-6,
          **SMALL, **values)


# ---- what crosses the bus ----------------------------------------------------------------------------

def traffic(cuda, counters, method, loss="binary_cross_entropy", **values):
    """Counters of each of twelve updates, with the checks of factorisations beside them."""
    case = make_case(loss)
    optimizer = case.optimizer(cuda, method, **{**SMALL, **values})
    theta, x, y = cuda.asarray(case.theta), cuda.asarray(case.x), cuda.asarray(case.y)
    state = optimizer.init(theta)
    seen = []
    for k in range(1, 13):
        counters.reset()
        before = cuda.checks
        stats = optimizer.update(theta, state, x, y, k)
        seen.append((counters.d2h, counters.h2d, counters.flags, cuda.checks - before, counters.syncs, stats))
    return seen


def test_transfers_of_an_update(cuda, counters, method_name):
    for d2h, h2d, flags, checks, syncs, stats in traffic(cuda, counters, method_name):
        assert flags == checks and syncs == d2h + flags  # no wait but for scalars and error flags
        if get_method(method_name).order == 1:
            assert (d2h, h2d, flags) == (1, 0, 0)
        elif method_name in CG:
            # The loss; the start and each iteration of the solver; each trial of the line search; the step.
            assert 1 + 1 + stats["iterations"] + 1 + 1 <= d2h <= 1 + 1 + (stats["iterations"] + 1) + 12 + 1
            assert h2d == 0
        else:
            # One fetch, of the loss with the model's scalars. A jump is looked into, and its update made again.
            assert d2h == 1 + 2 * stats["rejected"]
            assert h2d <= DRAWS.get(method_name, 0) * (1 + stats["rejected"])


def test_sampled_counts_are_drawn_on_the_host(cuda, counters):
    first = traffic(cuda, counters, "kfac", "poisson")[0]
    assert first[:2] == (2, 1)  # the rates come to the host, the counts go back


# ---- runs that change devices ------------------------------------------------------------------------

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
        with h5py.File(path) as file:  # as a checkpoint holds it: arrays of the host and plain values
            start = theta, read_tree(file, "state", path.stat().st_size), done + 3
    np.testing.assert_allclose(start[0], whole, rtol=1e-6, atol=1e-7)
