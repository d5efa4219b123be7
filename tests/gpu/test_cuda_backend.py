"""The CuPy backend on the double: devices that cannot be had, transfers, factorisations and their
failures.
"""

import subprocess
import sys

import numpy as np
import pytest
from cupy_double import installed

from gnopt.engine.arrays import get_backend
from gnopt.engine.arrays.cupy import CudaBackend
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.errors import ConfigError, Diverged, GnoptError

# ---- devices -------------------------------------------------------------------------------------


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what an import of a missing module ends in
    with pytest.raises(
        ConfigError, match=r"CuPy is not installed .*gnopt\[cuda13\].*gnopt\[cuda12\]"
    ) as caught:
        get_backend("cuda:1")
    assert caught.value.exit_code == 2
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"devices": 0, "driver": 0}, r"no NVIDIA driver.*gnopt\[cuda13\] or gnopt\[cuda12\]"),
        (
            {"devices": 0, "driver": 12040},
            r"supports CUDA 12\.4, this CuPy needs 13\.2; install gnopt\[cuda12\]",
        ),
        ({"devices": 0, "driver": 13020}, "finds no GPU"),
        ({"version": "13.6.0"}, r"found CuPy 13\.6\.0, expected 14"),
    ],
)
def test_devices_that_cannot_be_had(machine, words):
    with installed(**machine), pytest.raises(ConfigError, match=words) as caught:
        get_backend("cuda")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cudaErrorDevicesUnavailable: the device is busy\nmore\nlines"),
        MemoryError("Out of memory allocating 512 bytes"),
        MemoryError(),
    ],
)
def test_a_device_that_another_process_holds_is_one_sentence(monkeypatch, error):
    """CuPy's errors of the runtime and of its memory are of these kinds."""

    def busy(*shape, **more):
        raise error

    with installed():
        monkeypatch.setattr(sys.modules["cupy"], "zeros", busy)
        with pytest.raises(GnoptError, match="device 'cuda:0' cannot be used: ") as caught:
            CudaBackend(0)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_the_index_of_a_device():
    with installed(devices=2):
        assert get_backend("cuda:1").device == "cuda:1"
        with pytest.raises(
            ConfigError, match="cuda:2': this machine has 2 CUDA devices, numbered from 0"
        ):
            get_backend("cuda:2")


def test_cuda_libraries_that_are_missing(counters, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupyx.scipy.linalg", None)
    with pytest.raises(ConfigError, match=r"libraries are missing.*cupy-cuda13x\[ctk\]"):
        CudaBackend(0)


def test_cupy_is_not_imported_before_it_is_asked_for():
    code = (
        "import sys, gnopt.engine.arrays.cupy, gnopt.training.start, gnopt.optimizers, gnopt.cli; "
        "assert not {'cupy', 'cupyx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- transfers -----------------------------------------------------------------------------------


def test_arrays_there_and_back(cuda, counters, dtype_name):
    host = np.arange(6, dtype=dtype_name).reshape(2, 3)
    there = cuda.asarray(host)
    assert cuda.asarray(there) is there
    assert counters.h2d == 1
    np.testing.assert_array_equal(cuda.to_host(there.T), host.T)
    host[:] = 0
    assert cuda.to_host(there).any()
    assert cuda.asarray(host, dtype="float32").dtype == np.float32
    assert cuda.free_memory() == 3 << 30
    assert cuda.versions() == {"cupy": "14.2.0", "gpu": "double"}


def test_random_numbers_are_those_of_the_host(cuda, dtype_name):
    cpu = NumpyBackend()
    for name in ("uniform", "normal", "rademacher"):
        found, expected = (
            getattr(ops, name)(np.random.default_rng(5), (4, 3), dtype_name) for ops in (cuda, cpu)
        )
        np.testing.assert_array_equal(cuda.to_host(found), expected)
        assert found.dtype == np.dtype(dtype_name)
    rate = np.array([0.1, 3.0, 1e20], dtype=dtype_name)
    found, expected = (
        cuda.poisson(np.random.default_rng(5), cuda.asarray(rate)),
        cpu.poisson(np.random.default_rng(5), rate),
    )
    np.testing.assert_array_equal(cuda.to_host(found), expected)


# ---- factorisations ------------------------------------------------------------------------------


def matrix(dtype, n=12):
    X = np.random.default_rng(1).standard_normal((3 * n, n))
    return (X.T @ X / n + np.eye(n)).astype(dtype)


def test_factorisations_agree_with_numpy(cuda, dtype_name):
    cpu, M, B = (
        NumpyBackend(),
        matrix(dtype_name),
        np.random.default_rng(2).standard_normal((12, 5)).astype(dtype_name),
    )
    tolerance = {"rtol": 0, "atol": 3e-6 if dtype_name == "float32" else 1e-13}
    device = cuda.asarray(M)
    L = cuda.cholesky(device, "M")
    np.testing.assert_allclose(cuda.to_host(L), cpu.cholesky(M, "M"), **tolerance)
    np.testing.assert_allclose(
        cuda.to_host(cuda.spd_inverse(device, "M")), cpu.spd_inverse(M.copy(), "M"), **tolerance
    )
    values, vectors = cuda.eigh(device, "M")
    np.testing.assert_allclose(
        cuda.to_host((vectors * values) @ vectors.T), M, rtol=0, atol=20 * tolerance["atol"]
    )
    for transpose in (False, True):
        np.testing.assert_allclose(
            cuda.to_host(cuda.solve_triangular(L, cuda.asarray(B), transpose)),
            cpu.solve_triangular(cpu.cholesky(M, "M"), B, transpose),
            **tolerance,
        )
    for right in (False, True):
        b = B.T.copy() if right else B.copy()
        there = cuda.asarray(b)
        cuda.cholesky_solve(L, there, right)
        cpu.cholesky_solve(cpu.cholesky(M, "M"), b, right)
        np.testing.assert_allclose(cuda.to_host(there), b, **tolerance)
    stack = np.stack([M, 2 * M])
    values, vectors = cuda.eigh_stack(cuda.asarray(stack))
    np.testing.assert_allclose(cuda.to_host(values), np.linalg.eigvalsh(stack), rtol=1e-4)
    np.testing.assert_allclose(
        cuda.to_host(cuda.gram(cuda.asarray(B), 0.5)), 0.5 * B.T @ B, **tolerance
    )


@pytest.mark.parametrize("name", ["cholesky", "spd_inverse", "eigh"])
def test_failures_name_the_factor(cuda, name, dtype_name):
    M = matrix(dtype_name)
    M[3, 3] = np.nan
    with pytest.raises(
        Diverged, match=r"factor A of layer 2 \(12 x 12\) holds numbers that are not finite"
    ):
        getattr(cuda, name)(cuda.asarray(M), "factor A of layer 2")
    if name != "eigh":
        with pytest.raises(
            Diverged, match=r"factor G of layer 1 \(12 x 12\) is not positive definite, also in"
        ):
            getattr(cuda, name)(cuda.asarray(-matrix(dtype_name)), "factor G of layer 1")


def test_float64_where_float32_fails(cuda):
    d = np.logspace(0, -7.2, 12)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    M = (Q * d) @ Q.T
    M = (0.5 * (M + M.T)).astype(np.float32)
    shift = np.float32(-np.linalg.eigvalsh(M.astype(np.float64))[0] + 1e-9)
    M[np.diag_indices(12)] += shift
    precise = np.linalg.eigvalsh(M.astype(np.float64))[0]
    if precise <= 0:
        pytest.skip("rounding took the margin away")
    L = cuda.to_host(cuda.cholesky(cuda.asarray(M), "M"))
    assert L.dtype == np.float32
    assert np.isfinite(L).all()


def test_checks_are_counted(cuda, counters):
    M = cuda.asarray(matrix("float32"))
    counters.reset()
    before = cuda.checks
    cuda.spd_inverse(M, "M")
    assert cuda.checks - before == counters.flags == 2
    assert counters.d2h == 0
