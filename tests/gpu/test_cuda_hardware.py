"""Tests for real hardware: they run where CuPy finds a GPU. ``test_cuda_check.py`` runs them on the
double.
"""

from __future__ import annotations

import importlib.util
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from gpu_case import make_case

from gnopt import rng
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays import Unchecked, get_backend
from gnopt.engine.arrays.numpy import NumpyBackend
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


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not available(), reason="no GPU that CuPy can use"),
]
LOSSES = (
    "squared_error",
    "binary_cross_entropy",
    "softmax_cross_entropy",
    "poisson",
    "binary_mixture",
)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", methods())
def test_the_numbers_of_the_cpu(method, loss):
    case, gpu = make_case(loss), get_backend("cuda")
    ours, theta, _ = case.run(NumpyBackend(), method, 4, iterations=5)
    theirs, there, _ = case.run(gpu, method, 4, iterations=5)
    np.testing.assert_allclose(there, theta, rtol=1e-6, atol=1e-7)
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factorisations(dtype):
    gpu, cpu = get_backend("cuda"), NumpyBackend()
    X = np.random.default_rng(0).standard_normal((600, 200))
    M = (X.T @ X / 200 + np.eye(200)).astype(dtype)
    there = gpu.asarray(M)
    tolerance = {"rtol": 0, "atol": 1e-4 if dtype == "float32" else 1e-11}
    np.testing.assert_allclose(
        gpu.to_host(gpu.cholesky(there, "M")), cpu.cholesky(M, "M"), **tolerance
    )
    np.testing.assert_allclose(
        gpu.to_host(gpu.spd_inverse(there, "M")), cpu.spd_inverse(M.copy(), "M"), **tolerance
    )
    values, vectors = gpu.eigh(there, "M")
    np.testing.assert_allclose(
        gpu.to_host((vectors * values) @ vectors.T), M, rtol=0, atol=50 * tolerance["atol"]
    )
    for bad, words in ((-M, "not positive definite"), (M * np.nan, "not finite")):
        with pytest.raises(Diverged, match=words):
            gpu.cholesky(gpu.asarray(bad), "M")


@pytest.fixture
def waits(monkeypatch):
    """Count a backend's fetches; any other wait for the device raises an error meanwhile."""
    import cupyx

    @contextmanager
    def watched(gpu):
        fetches, to_host = [], gpu.to_host

        def fetch(array):
            fetches.append(array.size)
            with cupyx.allow_synchronize(True):
                return to_host(array)

        monkeypatch.setattr(gpu, "to_host", fetch)
        with warnings.catch_warnings(), cupyx.allow_synchronize(False):
            warnings.simplefilter("ignore")
            yield fetches
        monkeypatch.undo()

    return watched


@pytest.mark.parametrize("method", methods())
def test_one_fetch_an_update(method, waits):
    gpu, case = get_backend("cuda"), make_case("binary_cross_entropy", dtype="float32", rows=64)
    optimizer = case.optimizer(gpu, method, iterations=5)
    theta, x, y = gpu.asarray(case.theta), gpu.asarray(case.x), gpu.asarray(case.y)
    state = optimizer.init(theta)
    for k in range(1, 13):
        with waits(gpu) as fetches:
            stats = optimizer.update(theta, state, x, y, k)
        # A line search halves the step of conjugate gradients.
        halvings = -np.log2(stats["alpha"]) if "iterations" in stats else 0
        if "tries" in stats:  # with one damping after the other, each of them a fetch
            assert len(fetches) == stats["tries"]
            continue
        assert len(fetches) == 1 + halvings + 2 * stats.get("rejected", 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factorisations_whose_checks_are_put_off(dtype):
    gpu, cpu = get_backend("cuda"), NumpyBackend()
    X = np.random.default_rng(0).standard_normal((600, 200))
    M = (X.T @ X / 200 + np.eye(200)).astype(dtype)
    tolerance = {"rtol": 0, "atol": 1e-4 if dtype == "float32" else 1e-11}
    with gpu.deferred_checks(True):
        there = gpu.asarray(M)
        L, inverse, (values, vectors) = (
            gpu.cholesky(there, "M"),
            gpu.spd_inverse(there, "M"),
            gpu.eigh(there, "M"),
        )
        gpu.scalars(L[0, 0])
    assert gpu.checks == 0
    np.testing.assert_allclose(gpu.to_host(L), cpu.cholesky(M, "M"), **tolerance)
    np.testing.assert_allclose(gpu.to_host(inverse), cpu.spd_inverse(M.copy(), "M"), **tolerance)
    np.testing.assert_allclose(
        gpu.to_host((vectors * values) @ vectors.T), M, rtol=0, atol=50 * tolerance["atol"]
    )
    bad = M.copy()
    bad[150, 150] = -1.0
    for routine in (gpu.cholesky, gpu.spd_inverse):
        with gpu.deferred_checks(True), pytest.raises(Unchecked):
            routine(there, "M")
            routine(gpu.asarray(bad), "M")
            routine(there, "M")
            gpu.scalars(there[0, 0])
    with gpu.deferred_checks(True), pytest.raises(Unchecked):
        gpu.eigh(gpu.asarray(M * np.nan), "M")
        gpu.scalars(there[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers(dtype):
    gpu, cpu = get_backend("cuda"), NumpyBackend()
    here, there = rng.generator(3, "random"), rng.generator(3, "random")
    for name in ("uniform", "rademacher", "uniform", "normal"):
        for shape in ((1000, 784), (8,)):
            found = gpu.to_host(getattr(gpu, name)(there, shape, dtype))
            expected = getattr(cpu, name)(here, shape, dtype)
            if name == "normal":
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(all_activations()))
def test_activations(name, dtype):
    gpu, cpu, f = get_backend("cuda"), NumpyBackend(), get_activation(name)
    h = np.random.default_rng(0).standard_normal((100, 33)).astype(dtype) * 3
    a = f.f(cpu, h, np.empty_like(h))
    H, A = gpu.asarray(h), gpu.asarray(a)
    kept, there = (None, None) if f.from_output else (h, H)
    tolerance = (
        {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-13, "atol": 1e-14}
    )
    for found, expected in (
        (gpu.elementwise(f.f, H, out=gpu.xp.empty_like(H)), a),
        (
            gpu.elementwise(f.df, there, A, out=gpu.xp.empty_like(A)),
            f.df(cpu, kept, a, np.empty_like(a)),
        ),
        (gpu.elementwise(f.d2f, there, A), f.d2f(cpu, kept, a)),
    ):
        np.testing.assert_allclose(gpu.to_host(found), expected, **tolerance)
