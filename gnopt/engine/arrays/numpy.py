"""The NumPy backend: the host, with LAPACK and BLAS in the arrays' own precision.

``np.linalg`` would compute float32 in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gnopt.engine.arrays.base import Backend
from gnopt.engine.arrays.functions import Array
from gnopt.errors import Diverged
from gnopt.machine import free_memory

FEW_NUMBERS = 2000  # in a piece of a vector: a call takes longer than their arithmetic
Routine = Callable[[np.ndarray], np.ndarray | None]  # works in place; None where it fails


class NumpyBackend(Backend):
    """NumPy's arrays in the host's memory; every operation is done when its call returns."""

    name = "cpu"
    on_host = True
    tape_bytes = 24 << 20  # keeps BLAS busy and memory low
    xp = np

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self._axpy: dict[np.dtype, Any] = {}  # BLAS routines by type

    def to_host(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def scalars(self, *values: Any) -> list[float]:
        return [float(v) for v in values]

    def free_memory(self) -> int:
        return free_memory()

    # ---- products --------------------------------------------------------------------------------

    def axpy(self, a: Any, x: Array, y: Array) -> None:
        routine = self._axpy.get(y.dtype)
        if routine is None:  # SciPy is imported when it is first needed
            from scipy.linalg.blas import get_blas_funcs

            routine = self._axpy[y.dtype] = get_blas_funcs("axpy", (x, y))
        routine(x, y, a=a)

    def squared_norms(self, flat: Array, offsets: Sequence[int]) -> Array:
        if len(flat) > FEW_NUMBERS * len(offsets):
            return super().squared_norms(flat, offsets)
        return np.add.reduceat(flat * flat, offsets[:-1])

    def ratio(self, where: Any, a: Any, b: Any) -> Any:
        return a / b if where else 0.0

    # ---- factorisations --------------------------------------------------------------------------

    def cholesky(self, M: Array, what: str) -> Array:
        return self._factorise(M, what, _potrf)

    def spd_inverse(self, M: Array, what: str) -> Array:
        return self._factorise(M, what, _potri)

    def eigh(self, M: Array, what: str) -> tuple[Array, Array]:
        from scipy.linalg import eigh

        _refuse_non_finite(M, what)
        try:
            values, vectors = eigh(M, driver="evd", check_finite=False)
        except np.linalg.LinAlgError:
            values, vectors = eigh(M.astype(np.float64), driver="evr", check_finite=False)
            return values.astype(M.dtype), vectors.astype(M.dtype)
        return values, vectors

    def orthonormal(self, Y: Array) -> Array:
        from scipy.linalg import qr

        return qr(Y, mode="economic", check_finite=False)[0]

    def solve_triangular(self, L: Array, B: Array, transpose: bool = False) -> Array:
        from scipy.linalg import solve_triangular

        return solve_triangular(L, B, lower=True, trans=int(transpose), check_finite=False)

    def cholesky_solve(self, L: Array, B: Array, right: bool) -> None:
        from scipy.linalg.blas import get_blas_funcs

        (trsm,) = get_blas_funcs(("trsm",), (L, B))
        # Read in Fortran's order, B is Bᵀ and L is the upper U with M = Uᵀ U: left becomes right.
        for transpose in (1, 0) if right else (0, 1):
            trsm(1.0, L.T, B.T, side=0 if right else 1, lower=0, trans_a=transpose, overwrite_b=1)

    def _factorise(self, M: Array, what: str, routine: Routine) -> Array:
        _refuse_non_finite(M, what)
        # The routine works in place on a copy, so that the float64 retry starts from the same
        # matrix.
        result = routine(M.copy())
        if result is None:
            result = routine(M.astype(np.float64))
            if result is None:
                raise Diverged(
                    f"{what} ({M.shape[0]} x {M.shape[0]}) is not positive definite, also in "
                    "float64"
                )
        return result.astype(M.dtype, copy=False)

    # ---- element-wise functions ------------------------------------------------------------------

    def erf(self, h: Array) -> Array:
        from scipy.special import erf

        return erf(h)


BACKEND = NumpyBackend


def _refuse_non_finite(M: np.ndarray, what: str) -> None:
    # A non-finite entry of a Gram matrix always shows on its diagonal, so n numbers tell.
    if not np.isfinite(np.einsum("ii->i", M)).all():
        raise Diverged(f"{what} ({M.shape[0]} x {M.shape[0]}) holds numbers that are not finite")


def _potrf(M: np.ndarray) -> np.ndarray | None:
    from scipy.linalg.lapack import get_lapack_funcs

    (potrf,) = get_lapack_funcs(("potrf",), (M,))
    # A C-ordered symmetric matrix read through its transpose is Fortran-ordered: no copy is made.
    upper, info = potrf(M.T, lower=False, clean=True, overwrite_a=True)
    return upper.T if info == 0 else None


def _potri(M: np.ndarray) -> np.ndarray | None:
    from scipy.linalg.lapack import get_lapack_funcs

    potrf, potri = get_lapack_funcs(("potrf", "potri"), (M,))
    upper, info = potrf(M.T, lower=False, clean=False, overwrite_a=True)
    if info != 0:
        return None
    inverse, info = potri(upper, lower=False, overwrite_c=True)
    if info != 0:
        return None
    lower: np.ndarray = inverse.T  # C-ordered again, lower triangle valid
    mirror_lower(lower)
    return lower


def mirror_lower(M: np.ndarray, block: int = 128) -> None:
    """Copy the lower triangle onto the upper one, block by block so that both sides stay in
    cache.
    """
    n = M.shape[0]
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        diagonal = M[rows, rows]
        lower = np.tril(diagonal)
        M[rows, rows] = lower + np.tril(diagonal, -1).T
        for j in range(0, i, block):
            columns = slice(j, j + block)
            M[columns, rows] = M[rows, columns].T
