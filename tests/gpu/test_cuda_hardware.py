"""On a machine with a GPU that CuPy can use these run by themselves: the same bodies as on the double."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from gpu_case import make_case

from gnopt.engine.backend import Backend, get_backend
from gnopt.errors import ConfigError, Diverged
from gnopt.optimizers import methods


def available() -> bool:
    """Whether CuPy is installed and finds a GPU."""
    if not importlib.util.find_spec("cupy"):
        return False
    try:
        get_backend("cuda")
    except ConfigError:
        return False
    return True


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not available(), reason="no GPU that CuPy can use")]
LOSSES = ("squared_error", "binary_cross_entropy", "softmax_cross_entropy", "poisson", "binary_mixture")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", methods())
def test_the_numbers_of_the_cpu(method, loss):
    case, gpu = make_case(loss), get_backend("cuda")
    ours, theta, _ = case.run(Backend(), method, 4, iterations=5)
    theirs, there, _ = case.run(gpu, method, 4, iterations=5)
    np.testing.assert_allclose(there, theta, rtol=1e-6, atol=1e-7)
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factorisations(dtype):
    gpu, cpu = get_backend("cuda"), Backend()
    X = np.random.default_rng(0).standard_normal((600, 200))
    M = (X.T @ X / 200 + np.eye(200)).astype(dtype)
    there = gpu.asarray(M)
    tolerance = {"rtol": 0, "atol": 1e-4 if dtype == "float32" else 1e-11}
    np.testing.assert_allclose(gpu.to_host(gpu.cholesky(there, "M")), cpu.cholesky(M, "M"), **tolerance)
    np.testing.assert_allclose(gpu.to_host(gpu.spd_inverse(there, "M")), cpu.spd_inverse(M.copy(), "M"), **tolerance)
    values, vectors = gpu.eigh(there, "M")
    np.testing.assert_allclose(gpu.to_host((vectors * values) @ vectors.T), M, rtol=0, atol=50 * tolerance["atol"])
    for bad, words in ((-M, "not positive definite"), (M * np.nan, "not finite")):
        with pytest.raises(Diverged, match=words):
            gpu.cholesky(gpu.asarray(bad), "M")


def test_no_wait_between_scalars():
    import cupyx

    gpu = get_backend("cuda")
    case = make_case("binary_cross_entropy", dtype="float32", rows=64)
    net = case.network(gpu)
    theta, x, y = gpu.asarray(case.theta), gpu.asarray(case.x), gpu.asarray(case.y)

    from gnopt.engine.backend import Workspace
    from gnopt.optimizers.base import Problem, loss_and_gradient

    problem, out = Problem(net, case.loss, 0, 64), gpu.xp.empty_like(theta)
    with cupyx.allow_synchronize(False):
        loss, _, _ = loss_and_gradient(problem, net.views(theta), x, y, out, Workspace(gpu, net.dtype))
    assert np.isfinite(gpu.scalars(loss)[0])
