"""Kernels compute what NumPy computes."""

import re

import numpy as np
import pytest
from gpu_case import traced

from gnopt.engine.arrays.kernels import GATHERED, KERNELS
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import get_loss

VALUES = np.array([-200.0, -90.0, -20.0, -3.0, -0.5, 0.0, 1e-3, 0.7, 4.0, 30.0, 100.0, 250.0])


def close(cuda, found, expected, dtype_name):
    tolerance = 3e-7 if dtype_name == "float32" else 1e-15
    host = cuda.to_host(found)
    assert host.dtype == np.dtype(dtype_name)
    assert np.isfinite(host).all()
    np.testing.assert_allclose(host, expected, rtol=50 * tolerance, atol=tolerance)


def test_element_wise_functions(cuda, dtype_name):
    cpu = NumpyBackend()
    h = np.tile(VALUES, (3, 1)).astype(dtype_name)
    y = np.linspace(0.0, 1.0, h.size).reshape(h.shape).astype(dtype_name)
    H, Y = cuda.asarray(h), cuda.asarray(y)
    close(cuda, cuda.sigmoid(H), cpu.sigmoid(h), dtype_name)
    close(cuda, cuda.softplus(H), cpu.softplus(h), dtype_name)
    loss = get_loss("binary_cross_entropy")
    close(cuda, loss.gn_diagonal(cuda, H, Y), loss.gn_diagonal(cpu, h, y), dtype_name)
    for found, expected in zip(
        loss.value_and_gradient(cuda, H, Y), loss.value_and_gradient(cpu, h, y), strict=True
    ):
        close(cuda, found, expected, dtype_name)
    a = np.tanh(h / 10)
    A = cuda.asarray(a)
    close(cuda, cuda.erf(A), cpu.erf(a), dtype_name)


def test_in_place_and_in_views(cuda, dtype_name):
    h = np.tile(VALUES, (3, 1)).astype(dtype_name)
    whole = cuda.asarray(np.c_[h, np.ones(3)].astype(dtype_name))
    view = whole[:, :-1]
    assert cuda.sigmoid(view, out=view) is view
    close(cuda, whole[:, :-1], NumpyBackend().sigmoid(h), dtype_name)
    close(cuda, whole[:, -1], np.ones(3), dtype_name)


def test_axpy_takes_numbers_and_device_scalars(cuda, dtype_name):
    x, y = (np.random.default_rng(k).standard_normal(9).astype(dtype_name) for k in (0, 1))
    X, Y = cuda.asarray(x), cuda.asarray(y)
    cuda.axpy(0.5, X, Y)
    cuda.axpy(np.float64(-2.0), X, Y)
    cuda.axpy((X * X).sum(), X, Y)
    close(cuda, Y, y + (0.5 - 2.0 + (x * x).sum()) * x, dtype_name)


def test_scalars_come_in_one_copy(cuda, counters):
    a = cuda.asarray(np.arange(2 * GATHERED + 5, dtype=np.float32))
    b = cuda.asarray(np.array([0.1, 0.2]))
    counters.reset()
    values = cuda.scalars(b.sum(), *a, 7.0, np.float32(2.0))
    assert values == [pytest.approx(0.3, abs=1e-16), *range(2 * GATHERED + 5), 7.0, 2.0]
    assert (counters.d2h, counters.syncs, counters.h2d) == (1, 1, 0)
    assert cuda.scalars() == []
    assert cuda.scalars(1.5) == [1.5]
    assert counters.d2h == 1


def test_every_kernel_is_used(cuda):
    import inspect

    import gnopt.engine.arrays.cupy

    text = inspect.getsource(gnopt.engine.arrays.cupy)
    for name in KERNELS:
        assert f'"{name}"' in text, name


def test_literals_are_typed(dtype_name):
    for name, kernel in {**KERNELS, **traced(dtype_name)}.items():
        rest = re.sub(r"\bT\(-?\d[\d.]*(e[+-]\d+)?\)|[a-z]\w*", "", kernel.body)
        assert not re.search(r"\d", rest), f"{name}: {rest} would make float32 arithmetic double"
