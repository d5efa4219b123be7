"""Linear algebra in the arrays' own precision, silent about failures unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import get_lapack_funcs

from cupy_double.api import check_call
from cupy_double.array import ndarray, strict
from cupy_double.counters import COUNTERS

_STATE = {"linalg": "ignore"}
HANDLE = 77  # of cuSOLVER


@contextmanager
def errstate(
    *,
    divide: Any = None,
    over: Any = None,
    under: Any = None,
    invalid: Any = None,
    linalg: str | None = None,
) -> Iterator[None]:
    """cupyx.errstate: only ``linalg`` is implemented, as in CuPy."""
    if not (divide is over is under is invalid is None) or linalg not in (None, "ignore", "raise"):
        raise NotImplementedError
    before = _STATE["linalg"]
    _STATE["linalg"] = linalg or before
    try:
        yield
    finally:
        _STATE["linalg"] = before


def _report(failed: bool, routine: str) -> None:
    """Read the error flag, as CuPy does, where the state says so."""
    if _STATE["linalg"] == "raise":
        COUNTERS.flag()
        if failed:
            raise np.linalg.LinAlgError(f"Error reported by {routine} in cuSOLVER.")


def _floating(*arrays: np.ndarray) -> None:
    COUNTERS.calls += 3  # copy, factorise or solve, clean up
    for a in arrays:
        if a.dtype not in (np.float32, np.float64):
            raise TypeError(f"{a.dtype} is not what the engine factorises")


def cholesky(a: ndarray) -> ndarray:
    """Return the lower triangle; a failure leaves the rest unfinished, and no one is told."""
    check_call("cupy.linalg", "cholesky", (a,), {})
    host = strict(a)
    _floating(host)
    (potrf,) = get_lapack_funcs(("potrf",), (host,))
    lower, info = potrf(np.array(host, order="F"), lower=True, clean=False)
    _report(info != 0, "potrf")
    return ndarray(np.ascontiguousarray(np.tril(lower)))


def cusolver() -> dict[str, Callable[..., Any]]:
    """Return cuSOLVER's raw Cholesky routines: they take addresses and leave an error flag in
    memory.
    """
    return {
        f"{kind}potrf{part}": partial(routine, f"{kind}potrf{part}", dtype)
        for kind, dtype in (("s", np.float32), ("d", np.float64))
        for part, routine in (("", _potrf), ("_bufferSize", _buffer_size))
    }


def _potrf(name: str, dtype: type, *args: int) -> None:
    check_call("cupy.cuda.cusolver", name, args, {})
    COUNTERS.calls += 1
    handle, uplo, n, address, lda, work, lwork, info = args
    assert handle == HANDLE
    assert uplo in (0, 1)
    assert lda == n
    assert work
    assert lwork == n
    M = _memory(address, n * n, dtype).reshape(n, n).T  # the caller's memory in Fortran's order
    (routine,) = get_lapack_funcs(("potrf",), (M,))
    factor, found = routine(M, lower=uplo == 0, clean=False, overwrite_a=True)
    assert np.may_share_memory(factor, M)
    _memory(info, 1, np.int32)[0] = found


def _buffer_size(name: str, dtype: type, *args: int) -> int:
    check_call("cupy.cuda.cusolver", name, args, {})
    return args[2]


def _memory(address: int, count: int, dtype: type) -> np.ndarray:
    kind = np.ctypeslib.as_ctypes_type(np.dtype(dtype))
    return np.ctypeslib.as_array((kind * count).from_address(address))


def eigh(a: ndarray, UPLO: str = "L") -> tuple[ndarray, ndarray]:
    """Ascending eigenvalues; eigenvectors Fortran-ordered for a single matrix."""
    check_call("cupy.linalg", "eigh", (a, UPLO), {})
    host = strict(a)
    _floating(host)
    if host.ndim == 2:
        failed, values, vectors = _eigh(host)
        _report(failed, "xsyevd")
        return ndarray(values), ndarray(np.asfortranarray(vectors))
    parts = [_eigh(m) for m in host.reshape(-1, *host.shape[-2:])]
    _report(any(failed for failed, _, _ in parts), "syevj")
    values = np.stack([values for _, values, _ in parts]).reshape(host.shape[:-1])
    return ndarray(values), ndarray(
        np.stack([vectors for _, _, vectors in parts]).reshape(host.shape)
    )


def eigvalsh(a: ndarray, UPLO: str = "L") -> ndarray:
    """Ascending eigenvalues of one matrix."""
    check_call("cupy.linalg", "eigvalsh", (a, UPLO), {})
    host = strict(a)
    _floating(host)
    failed, values, _ = _eigh(host)
    _report(failed, "xsyevd")
    return ndarray(values)


def qr(a: ndarray, mode: str = "reduced") -> tuple[ndarray, ndarray]:
    """Reduced factors, Q Fortran-ordered; two error flags (geqrf, orgqr) where they are read."""
    check_call("cupy.linalg", "qr", (a, mode), {})
    host = strict(a)
    _floating(host)
    if mode != "reduced" or host.ndim != 2:
        raise TypeError("the double factorises one matrix, in reduced mode")
    Q, R = scipy.linalg.qr(host, mode="economic", check_finite=False)
    _report(False, "geqrf")
    _report(False, "orgqr")
    return ndarray(np.asfortranarray(Q)), ndarray(np.ascontiguousarray(R))


def _eigh(host: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
    try:
        values, vectors = scipy.linalg.eigh(host, driver="evd", check_finite=False)
    except np.linalg.LinAlgError:
        return True, np.full(len(host), 0.0, host.dtype), np.array(host)
    return False, values, vectors


def solve_triangular(*args: Any, **kwargs: Any) -> ndarray:
    """cupyx.scipy.linalg.solve_triangular: no check of the diagonal, a Fortran-ordered result."""
    check_call("cupyx.scipy.linalg", "solve_triangular", args, kwargs)
    a, b, *rest = args
    if rest:
        raise TypeError("the double takes the options by keyword")
    _floating(strict(a), strict(b))
    host = strict(a)
    (trtrs,) = get_lapack_funcs(("trtrs",), (host,))
    found, _ = trtrs(
        np.asfortranarray(host),
        np.array(strict(b), order="F"),
        lower=int(kwargs.get("lower", False)),
        trans=int(kwargs.get("trans", 0)),
    )
    return ndarray(np.asfortranarray(found))


def erf(*args: Any, **kwargs: Any) -> ndarray:
    """cupyx.scipy.special.erf."""
    from scipy import special

    from cupy_double.array import call_ufunc

    check_call("cupyx.scipy.special", "erf", args, kwargs)
    return call_ufunc("exp", special.erf, args, kwargs)  # the rules of any ufunc
