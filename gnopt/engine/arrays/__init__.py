"""The one seam between NumPy and CuPy: every array function the engine uses is ``ops.xp.<name>`` or
a method here.

Rules that keep one text valid on both devices: scalars are Python floats (never ``np.float64``,
which would promote float32 arrays), ufuncs take ``out=`` but no ``where=``, no boolean masks in the
update, random numbers are those of host generators, and scalars are fetched together by
:meth:`Backend.scalars`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from math import pi, prod
from typing import Any

import numpy as np

from gnopt.data.options import free_memory
from gnopt.errors import ConfigError, Diverged

Array = Any  # numpy.ndarray or cupy.ndarray
Elementwise = Callable[
    ..., Array
]  # function(ops, *arrays[, out]): each element of its result from those in its place


class Unchecked(Exception):
    """A factorisation whose check was put off has failed: the work is to be done again, with checks
    at once.
    """


class Backend:
    """NumPy with LAPACK in the array's own precision (``np.linalg`` would compute float32 in
    float64).
    """

    name = "numpy"
    device = "cpu"
    tape_bytes = (
        24 << 20
    )  # a block of data points whose tape is about this large keeps BLAS busy and memory low
    queued = (
        False  # work runs behind the host's back, so that reading a number waits for what is queued
    )

    def __init__(self) -> None:
        self.xp: Any = np

    # ---- transfers -------------------------------------------------------------------------------

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return ``values`` as an array on this device (no copy where it already is one)."""
        return np.asarray(values, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """Return a host array."""
        return np.asarray(array)

    def scalars(self, *values: Any) -> list[float]:
        """Fetch several 0-d results at once; on a GPU this is the one synchronisation of an
        update.
        """
        return [float(v) for v in values]

    def upload_beside(self, load: Callable[[], Any]) -> tuple[Any, Any]:
        """What ``load`` returns and an event to ``wait_for``, with uploads that go on beside queued
        work.
        """
        return load(), None

    def wait_for(self, event: Any) -> None:
        """Let the work that is queued from now on wait for an upload."""

    def synchronize(self) -> None:
        """Wait until queued work is done."""

    def free_memory(self) -> int:
        """Bytes that can still be allocated on this device."""
        return free_memory()

    def versions(self) -> dict[str, str]:
        """What run.json says of this device beside the versions of NumPy and SciPy."""
        return {}

    # ---- products --------------------------------------------------------------------------------

    def gram(self, X: Array, scale: float, out: Array | None = None) -> Array:
        """Return ``scale · Xᵀ X`` for X (N, d): N d² flops by syrk, half of a general product.

        NumPy calls syrk where both factors are the same buffer and mirrors the result.
        """
        result = np.matmul(X.T, X, out=out)
        result *= scale
        return result

    def axpy(self, a: Any, x: Array, y: Array) -> None:
        """y ← y + a x for contiguous vectors, without a temporary; ``a`` is a number or 0-d on the
        device.
        """
        from scipy.linalg.blas import get_blas_funcs

        get_blas_funcs("axpy", (x, y))(x, y, a=a)

    def ratio(self, where: Any, a: Any, b: Any) -> Any:
        """a / b of 0-d numbers where ``where`` (0-d) holds, else 0."""
        return a / b if where else 0.0

    # ---- factorisations (symmetric positive definite input; checked) -----------------------------

    def deferred_checks(self, on: bool) -> AbstractContextManager[None]:
        """Where checking waits for the device, let failures show at the next ``scalars`` or
        ``confirm``: Unchecked.

        Where it does not, as here, factorisations are checked at once.
        """
        return nullcontext()

    def confirm(self, numbers: Iterable[float]) -> None:
        """Unchecked where checks are deferred and not all of these numbers, made of factorisations,
        are finite.
        """

    def cholesky(self, M: Array, what: str) -> Array:
        """Return lower L with L Lᵀ = M; retries in float64, then raises Diverged naming
        ``what``.
        """
        return self._factorise(M, what, _potrf)

    def spd_inverse(self, M: Array, what: str) -> Array:
        """Return M⁻¹ of a symmetric positive definite M in n³ flops (potrf + potri); M may be
        overwritten.
        """
        return self._factorise(M, what, _potri)

    def eigh(self, M: Array, what: str) -> tuple[Array, Array]:
        """Return eigenvalues (ascending) and eigenvectors (columns) of a symmetric M, about 9 n³
        flops.
        """
        from scipy.linalg import eigh

        _refuse_non_finite(self, M, what)
        try:
            return eigh(M, driver="evd", check_finite=False)
        except np.linalg.LinAlgError:
            values, vectors = eigh(M.astype(np.float64), driver="evr", check_finite=False)
            return values.astype(M.dtype), vectors.astype(M.dtype)

    def eigh_stack(self, M: Array) -> tuple[Array, Array]:
        """Eigenvalues (N, n) and eigenvectors (N, n, n) of many small symmetric matrices."""
        return self.xp.linalg.eigh(M)

    def orthonormal(self, Y: Array) -> Array:
        """Return orthonormal columns that span those of Y (n, r), r < n, of whatever rank: 4 n r²
        flops.
        """
        from scipy.linalg import qr

        return qr(Y, mode="economic", check_finite=False)[0]

    def solve_triangular(self, L: Array, B: Array, transpose: bool = False) -> Array:
        """Return L⁻¹ B, or L⁻ᵀ B, for lower triangular L (n, n)."""
        from scipy.linalg import solve_triangular

        return solve_triangular(L, B, lower=True, trans=int(transpose), check_finite=False)

    def cholesky_solve(self, L: Array, B: Array, right: bool) -> None:
        """B ← (L Lᵀ)⁻¹ B, or B (L Lᵀ)⁻¹ with ``right``, in place for a C-contiguous B (o, i): 2 o i
        n flops by trsm.
        """
        from scipy.linalg.blas import get_blas_funcs

        (trsm,) = get_blas_funcs(("trsm",), (L, B))
        # Read in Fortran's order B is Bᵀ and L is the upper U with M = Uᵀ U: what is left becomes
        # right.
        for transpose in (1, 0) if right else (0, 1):
            trsm(1.0, L.T, B.T, side=0 if right else 1, lower=0, trans_a=transpose, overwrite_b=1)

    def _factorise(self, M: Array, what: str, routine: Any) -> Array:
        _refuse_non_finite(self, M, what)
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

    # ---- element-wise functions: given, and those that array modules lack ------------------------

    def elementwise(
        self, function: Elementwise, *inputs: Array | None, out: Array | None = None
    ) -> Array:
        """Return ``function(ops, *inputs[, out])``, which writes to an ``out``; on a GPU one kernel
        where it can be.
        """
        return function(self, *inputs) if out is None else function(self, *inputs, out)

    def times_slope(
        self, x: Array, df: Elementwise, h: Array | None, a: Array, workspace: Workspace
    ) -> None:
        """x ← x ⊙ df(ops, h, a, out) for an x of a's shape or with more axes in front; ``out`` is
        of the workspace.
        """
        x *= df(self, h, a, workspace.take("slope", a.shape))

    def sigmoid(self, h: Array, out: Array | None = None) -> Array:
        """Return 1 / (1 + exp(−h)), finite for every finite h (exp is kept below overflow by a
        floor).
        """
        xp = self.xp
        out = xp.maximum(h, -80.0, out=out)
        xp.negative(out, out=out)
        xp.exp(out, out=out)
        out += 1.0
        return xp.reciprocal(out, out=out)

    def softplus(self, h: Array) -> Array:
        """Return log(1 + exp(h)) = max(h, 0) + log(1 + exp(−|h|)), safe for large |h|."""
        xp = self.xp
        e = xp.abs(h)
        xp.negative(e, out=e)
        xp.exp(e, out=e)
        # log1p is an order of magnitude slower than log; float32 loses nothing that its sums could
        # show.
        e = xp.log1p(e, out=e) if e.dtype == xp.float64 else xp.log(e + 1.0, out=e)
        e += xp.maximum(h, 0.0)
        return e

    def bernoulli(self, h: Array, y: Array) -> tuple[Array, Array]:
        """Return Σ_k softplus(h) − y h, (N,), and σ(h) − y, (N, K), sharing one exponential e =
        exp(−|h|).
        """
        xp = self.xp
        e = xp.abs(h)
        xp.negative(e, out=e)
        xp.exp(e, out=e)
        p = e + 1.0
        value = xp.log1p(e) if e.dtype == xp.float64 else xp.log(p)
        xp.reciprocal(p, out=p)  # σ(|h|); for h < 0, σ(h) = e σ(|h|)
        negative = h < 0.0
        e -= 1.0
        e *= negative
        e += 1.0
        p *= e
        xp.maximum(h, 0.0, out=e)
        value += e
        xp.multiply(y, h, out=e)
        value -= e
        p -= y
        return value.sum(axis=1), p

    def bernoulli_variance(self, h: Array) -> Array:
        """Return σ(h)(1 − σ(h))."""
        p = self.sigmoid(h)
        p -= p * p
        return p

    def adam(
        self,
        g: Array,
        m: Array,
        v: Array,
        beta1: float,
        beta2: float,
        shift: float,
        rate: float,
        scratch: Array,
    ) -> None:
        """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², g ← rate · m / (√v + shift)."""
        xp = self.xp
        m *= beta1
        m += xp.multiply(g, 1.0 - beta1, out=scratch)
        v *= beta2
        xp.multiply(g, g, out=scratch)
        scratch *= 1.0 - beta2
        v += scratch
        xp.sqrt(v, out=scratch)
        scratch += shift
        xp.divide(m, scratch, out=g)
        g *= rate

    def advance(
        self,
        theta: Array,
        anchor: Array,
        delta: Array,
        total: Array | None,
        D: Array,
        alpha: float,
        mu: float,
        nu: float,
        decay: float,
    ) -> None:
        """δ ← α D + μ δ + ν s, s ← decay · s + D, anchor ← θ, θ ← θ + δ; without s (``total``) if
        it is None.
        """
        delta *= mu
        self.axpy(alpha, D, delta)
        if total is not None:
            self.axpy(nu, total, delta)
            total *= decay
            total += D
        self.xp.copyto(anchor, theta)
        theta += delta

    def erf(self, h: Array) -> Array:
        """Return the error function."""
        from scipy.special import erf

        return erf(h)

    # ---- random numbers: a host generator says which, so that a seed means the same everywhere ---

    def uniform(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uniform numbers in [0, 1)."""
        return self.asarray(rng.random(shape, dtype=dtype))

    def normal(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Standard normal numbers, √(−2 log(1 − u)) (cos 2πv, sin 2πv) of uniform pairs (Box &
        Muller 1958).

        NumPy's own take an unknown number of uniform ones each, which a device could not follow.
        """
        xp, count = self.xp, prod(shape)
        u = self.uniform(rng, (2, -(-count // 2)), dtype)
        radius = xp.sqrt(-2.0 * xp.log(1.0 - u[0]))
        angle = (2.0 * pi) * u[1]
        return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)])[:count].reshape(
            shape
        )

    def rademacher(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Independent signs, +1 or −1 with probability one half."""
        signs = rng.integers(0, 2, size=shape, dtype=np.int8)
        return self.asarray((2 * signs - 1).astype(dtype))

    def poisson(self, rng: np.random.Generator, rate: Array) -> Array:
        """Poisson counts for each rate (drawn on the host)."""
        host = np.minimum(self.to_host(rate).astype(np.float64), 1e15)
        return self.asarray(rng.poisson(host).astype(rate.dtype))


def _refuse_non_finite(ops: Backend, M: Array, what: str) -> None:
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
    lower = inverse.T  # C-ordered again, lower triangle valid
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


def get_backend(device: str) -> Backend:
    """Return the backend for ``cpu``, ``cuda`` or ``cuda:N``; ConfigError where it cannot be
    had.
    """
    if device == "cpu":
        return Backend()
    from gnopt.engine.arrays.cupy import CudaBackend

    return CudaBackend(_index(device))


def check_device(device: str) -> None:
    """ConfigError where `get_backend` would raise one; nothing is allocated on the device, not even
    a context.
    """
    if device != "cpu":
        from gnopt.engine.arrays.cupy import find

        find(_index(device))


def _index(device: str) -> int:
    if device != "cuda" and not device.startswith("cuda:"):
        raise ConfigError(f"unknown device '{device}': expected cpu, cuda or cuda:N")
    index = device.partition(":")[2] or "0"
    if not index.isdigit():
        raise ConfigError(f"device '{device}': expected cpu, cuda or cuda:N with a whole number N")
    return int(index)


class Workspace:
    """Named buffers that are allocated once and handed out again: page faults cost as much as the
    arithmetic.
    """

    def __init__(self, ops: Backend, dtype: Any) -> None:
        self.ops, self.dtype = ops, dtype
        self._buffers: dict[Any, Array] = {}

    def take(
        self, key: Any, shape: tuple[int, ...], prepare: Callable[[Array], None] | None = None
    ) -> Array:
        """Return an array of ``shape`` with undefined contents; valid until ``key`` is taken again.

        ``prepare`` is given the flat memory once, when it is new.
        """
        size = 1
        for extent in shape:
            size *= extent
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            self._buffers[key] = buffer = self.ops.xp.empty(size, dtype=self.dtype)
            if prepare is not None:
                prepare(buffer)
        return buffer[:size].reshape(shape)
