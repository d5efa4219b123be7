"""The double refuses what CuPy refuses. The rules come from experiments with the real wheel."""

import sys

import numpy as np
import pytest
from cupy_double import installed
from cupy_double.api import api, members

CASES = {
    "implicit conversion": (lambda cp, d, h: np.asarray(d), TypeError, "Implicit conversion"),
    "device and host": (lambda cp, d, h: d + h, TypeError, "Unsupported type"),
    "host and device": (lambda cp, d, h: h + d, TypeError, "Unsupported type"),
    "a host array of no axes": (lambda cp, d, h: d * np.array(2.0), TypeError, "Unsupported type"),
    "product with the host": (lambda cp, d, h: d.T @ h, TypeError, "Unsupported type"),
    "assignment from the host": (lambda cp, d, h: d.__setitem__(0, h[0]), ValueError, "non-scalar"),
    "copyto from the host": (lambda cp, d, h: cp.copyto(d, h), TypeError, "Unsupported type"),
    "out= on the host": (lambda cp, d, h: cp.exp(d, out=h), TypeError, "Unsupported type"),
    "a missing name": (lambda cp, d, h: cp.block([d, d]), AttributeError, "not in CuPy"),
    "a missing errstate": (
        lambda cp, d, h: cp.errstate(all="ignore"),
        AttributeError,
        "not in CuPy",
    ),
    "a missing method": (lambda cp, d, h: d.setflags(write=False), AttributeError, "not in CuPy"),
    "where= of a ufunc": (lambda cp, d, h: cp.add(d, d, where=d > 0), TypeError, "where"),
    "where= of a reduction": (lambda cp, d, h: cp.mean(d, where=d > 0), TypeError, "where"),
    "initial= of a method": (lambda cp, d, h: d.max(initial=0.0), TypeError, "initial"),
    "out= of einsum": (lambda cp, d, h: cp.einsum("ij->i", d, out=d), TypeError, "out"),
    "Generator.permutation": (
        lambda cp, d, h: cp.random.default_rng(0).permutation(4),
        AttributeError,
        "not in CuPy",
    ),
    "Generator.normal": (
        lambda cp, d, h: cp.random.default_rng(0).normal(),
        AttributeError,
        "not in CuPy",
    ),
    "an index": (lambda cp, d, h: [1, 2][cp.asarray(1)], TypeError, "integers"),
    "linear algebra of the host": (
        lambda cp, d, h: cp.linalg.cholesky(h),
        TypeError,
        "Unsupported type",
    ),
    "an object array": (lambda cp, d, h: cp.asarray(["a"]), ValueError, "Unsupported dtype"),
    "NumPy's functions": (lambda cp, d, h: np.mean(d), TypeError, "numpy.mean"),
    "float16 factors": (
        lambda cp, d, h: cp.linalg.cholesky(d.astype("float16")),
        TypeError,
        "float16",
    ),
    "mixed types in a kernel": (
        lambda cp, d, h: cp.ElementwiseKernel("T x, T y", "T z", "z = x + y", "k")(
            d, d.astype("float64")
        ),
        TypeError,
        "mismatched",
    ),
    "a name that C++ cannot have": (
        lambda cp, d, h: cp.ElementwiseKernel("T x", "T z", "z = x", "<lambda>"),
        ValueError,
        "Invalid",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refusals(counters, name):
    import cupy

    act, error, words = CASES[name]
    host = np.ones((3, 3), dtype=np.float32)
    with pytest.raises(error, match=words):
        act(cupy, cupy.asarray(host), host)


def test_what_is_allowed_and_counted(counters):
    import cupy

    a = cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert (counters.h2d, counters.h2d_bytes, counters.syncs) == (1, 24, 0)
    total = a.sum()
    assert total.shape == ()
    assert total.dtype == np.float32
    assert counters.syncs == 0
    assert float(total) == 15.0
    assert bool(total > 3.0)
    assert (counters.d2h, counters.flags, counters.syncs) == (1, 1, 2)
    assert (np.float32(2) * a).dtype == np.float32
    assert (a * 2.0).dtype == np.float32
    assert (a * np.float64(2)).dtype == np.float64  # a NumPy scalar has a say in the type
    assert a[np.array([1])].shape == (1, 3)
    assert counters.h2d == 2
    wrapped = a[cupy.asarray(np.array([3, -3]))]  # out of range: wraps, without an error
    np.testing.assert_array_equal(cupy.asnumpy(wrapped), [[3, 4, 5], [3, 4, 5]])


def test_a_failed_factorisation_is_silent_unless_asked(counters):
    import cupy
    import cupyx

    bad = cupy.asarray(np.diag(np.array([1.0, -1.0, 2.0], dtype=np.float32)))
    before = counters.syncs
    assert cupy.linalg.cholesky(bad).shape == (3, 3)
    assert counters.syncs == before
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError):
        cupy.linalg.cholesky(bad)
    assert counters.syncs == before + 1


def test_linear_algebra_keeps_the_precision(counters):
    import cupy

    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 20)) * np.logspace(0, -2, 20)
    M = cupy.asarray((X.T @ X / 40 + 1e-5 * np.eye(20)).astype(np.float32))
    L = cupy.asnumpy(cupy.linalg.cholesky(M))
    precise = np.linalg.cholesky(cupy.asnumpy(M))  # computes in float64 and rounds
    assert L.dtype == np.float32
    assert np.abs(L - precise).max() > 0.0


def test_everything_it_acts_out_is_in_the_wheel(counters):
    for name in ("cupy", "cupyx", "cupy.linalg", "cupy.cuda", "cupyx.scipy.linalg"):
        acted = {n for n in vars(sys.modules[name]) if not n.startswith("__")} - {"scipy"}
        assert acted
        assert acted <= set(members(name))


def test_nothing_is_left_behind():
    before = sys.modules.get("cupy")
    with installed():
        assert sys.modules["cupy"] is not before
    assert sys.modules.get("cupy") is before
    assert len(api()["modules"]) == 10
