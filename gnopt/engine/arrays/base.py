"""The contract of a backend, with the parts that every array module shares, and the workspace.

Rules that keep one text valid on both devices: scalars are Python floats (never ``np.float64``,
which would promote float32 arrays), ufuncs take ``out=`` but no ``where=``, no boolean masks in the
update, random numbers are those of host generators, and scalars are fetched together by
:meth:`Backend.scalars`.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import pi, prod
from typing import Any

import numpy as np

from gnopt.engine.arrays.functions import Array, Elementwise, Functions


class Unchecked(Exception):
    """A factorisation whose check was postponed has failed.

    The caller repeats the work with immediate checks, which name the matrix.
    """


class Backend(Functions):
    """All that the package asks of one device beside the array module ``xp``.

    Host memory is read and written at once. A backend that queues its work (``queued``) overrides
    the methods below that say what waits for what.
    """

    name: str  # of the device: "cpu", or "cuda" as in cuda:1
    numbered = False  # whether a machine may have several such devices
    on_host: bool  # whether arrays lie in the host's memory, beside the data
    queued = False  # work runs behind the host's back: reading a number waits for all queued work
    tape_bytes: int  # a block of data points has a tape about this large

    def __init__(self, index: int = 0) -> None:
        self.device = f"{self.name}:{index}" if self.numbered else self.name

    @classmethod
    def check(cls, index: int) -> None:
        """Raise ConfigError where this machine has no such device; allocate nothing on it."""

    @classmethod
    def shared_by(cls, processes: int) -> dict[str, str]:
        """Return environment variables that give each of several processes an equal part of a
        device's memory.
        """
        return {}

    # ---- transfers -------------------------------------------------------------------------------

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return ``values`` as an array on this device, without a copy where it already is one."""
        return self.xp.asarray(values, dtype=dtype)

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """Return the array's numbers as a NumPy array."""

    @abstractmethod
    def scalars(self, *values: Any) -> list[float]:
        """Fetch several 0-d results at once; on a GPU this is the one wait of an update.

        Raises Unchecked where a factorisation has failed whose check was postponed.
        """

    def upload_beside(self, load: Callable[[], Any]) -> tuple[Any, Any]:
        """Call ``load``, whose uploads then run beside queued work; return its result and an event
        for ``wait_for``.
        """
        return load(), None

    def wait_for(self, event: Any) -> None:
        """Make work that is queued from now on wait for an upload."""

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    @abstractmethod
    def free_memory(self) -> int:
        """Return the bytes that can still be allocated on this device."""

    def versions(self) -> dict[str, str]:
        """Return what run.json records about this device beside the versions of NumPy and SciPy."""
        return {}

    # ---- products --------------------------------------------------------------------------------

    def gram(self, X: Array, scale: float, out: Array | None = None) -> Array:
        """Return ``scale · Xᵀ X`` for X (N, d): N d² flops by syrk, half of a general product.

        NumPy calls syrk where both factors are the same buffer, and mirrors the result.
        """
        result = self.xp.matmul(X.T, X, out=out)
        if scale != 1.0:
            result *= scale
        return result

    def squared_norms(self, flat: Array, offsets: Sequence[int]) -> Array:
        """Return the squared norm of each piece ``offsets[i] .. offsets[i + 1]`` of a vector, on
        the device.
        """
        xp = self.xp
        parts = [flat[a:b] for a, b in itertools.pairwise(offsets)]
        return xp.stack([xp.asarray(xp.vdot(part, part)) for part in parts])

    @abstractmethod
    def ratio(self, where: Any, a: Any, b: Any) -> Any:
        """Return a / b of 0-d numbers where ``where`` (0-d) holds, else 0."""

    # ---- factorisations of symmetric matrices, positive definite but for eigh; all are checked ---

    def deferred_checks(self, on: bool) -> AbstractContextManager[None]:
        """Postpone the error checks of factorisations while the returned context is open.

        Reading an error flag stalls a GPU, so flags stay on the device until the next ``scalars``.
        If one is set, ``scalars`` raises Unchecked and the caller repeats the update with immediate
        checks. On the host a check is free, so this does nothing.
        """
        return nullcontext()

    def confirm(self, numbers: Iterable[float]) -> None:
        """Raise Unchecked if checks are postponed and a fetched number is not finite: bad input can
        pass a factorisation unnoticed.
        """

    @abstractmethod
    def cholesky(self, M: Array, what: str) -> Array:
        """Return lower L with L Lᵀ = M, n³/3 flops.

        Where M's own precision fails, float64 is tried; then Diverged names ``what``.
        """

    @abstractmethod
    def spd_inverse(self, M: Array, what: str) -> Array:
        """Return M⁻¹ in n³ flops (potrf + potri); M may be overwritten. Fails as ``cholesky``."""

    @abstractmethod
    def eigh(self, M: Array, what: str) -> tuple[Array, Array]:
        """Return eigenvalues (ascending) and eigenvectors (columns) of M, about 9 n³ flops."""

    def eigenvalues(self, M: Array) -> Array:
        """Return the eigenvalues of M in float64, floored at 0; NaN where M is not finite."""
        values = self.xp.linalg.eigvalsh(M.astype(np.float64))
        return self.xp.maximum(values, 0.0)

    def eigh_stack(self, M: Array) -> tuple[Array, Array]:
        """Return eigenvalues (N, n) and eigenvectors (N, n, n) of many small matrices (N, n, n)."""
        values, vectors = self.xp.linalg.eigh(M)
        return values, vectors

    @abstractmethod
    def orthonormal(self, Y: Array) -> Array:
        """Return orthonormal columns that span those of Y (n, r), r < n, whatever their rank: 4 n
        r² flops.
        """

    @abstractmethod
    def solve_triangular(self, L: Array, B: Array, transpose: bool = False) -> Array:
        """Return L⁻¹ B, or L⁻ᵀ B, for lower triangular L (n, n)."""

    @abstractmethod
    def cholesky_solve(self, L: Array, B: Array, right: bool) -> None:
        """B ← (L Lᵀ)⁻¹ B, or B (L Lᵀ)⁻¹ with ``right``, in place for a C-contiguous B (o, i): 2 o i
        n flops by trsm.
        """

    # ---- element-wise functions ------------------------------------------------------------------

    def elementwise(
        self, function: Elementwise, *inputs: Array | float | None, out: Array | None = None
    ) -> Any:
        """Return ``function(ops, *inputs[, out])``: an array, or several in a tuple.

        With ``out``, the function must write there and return it. On a GPU the function becomes one
        kernel where ``fuse`` can trace it.
        """
        return function(self, *inputs) if out is None else function(self, *inputs, out)

    def in_place(
        self,
        function: Elementwise,
        arrays: Sequence[Array | None],
        *inputs: Array | float | None,
        workspace: Workspace | None = None,
    ) -> None:
        """Call ``function(ops, *arrays, *inputs[, scratch])``, which changes ``arrays`` element by
        element; on a GPU one kernel, as ``elementwise``.

        A function that needs a temporary is given the workspace: ``scratch`` has the arrays' shape
        and undefined contents.
        """
        if workspace is None:
            function(self, *arrays, *inputs)
        else:
            shape = next(a.shape for a in arrays if a is not None)
            function(self, *arrays, *inputs, workspace.take("scratch", shape))

    def times_slope(
        self, x: Array, df: Elementwise, h: Array | None, a: Array, workspace: Workspace
    ) -> None:
        """x ← x ⊙ df(ops, h, a, out) for an x of a's shape, or with more axes in front.

        The workspace gives ``out``; the one kernel of a GPU needs none.
        """
        x *= df(self, h, a, workspace.take("slope", a.shape))

    # ---- random numbers: a host generator says which, so that a seed means the same everywhere ---

    def uniform(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return uniform numbers in [0, 1)."""
        return self.asarray(rng.random(shape, dtype=dtype))

    def normal(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return standard normal numbers, √(−2 log(1 − u)) (cos 2πv, sin 2πv) of pairs (u, v) of
        uniform numbers (Box & Muller 1958).

        NumPy's own method takes an unknown number of uniform ones for each, which a device could
        not follow.
        """
        xp, count = self.xp, prod(shape)
        u = self.uniform(rng, (2, -(-count // 2)), dtype)
        radius = xp.sqrt(-2.0 * xp.log(1.0 - u[0]))
        angle = (2.0 * pi) * u[1]
        return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)])[:count].reshape(
            shape
        )

    def rademacher(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return independent signs, +1 or −1 with probability one half."""
        signs = rng.integers(0, 2, size=shape, dtype=np.int8)
        return self.asarray((2 * signs - 1).astype(dtype))

    def poisson(self, rng: np.random.Generator, rate: Array) -> Array:
        """Return a Poisson count for each rate (drawn on the host)."""
        host = np.minimum(self.to_host(rate).astype(np.float64), 1e15)
        return self.asarray(rng.poisson(host).astype(rate.dtype))


class Workspace:
    """Named buffers, allocated once and handed out again: to touch new memory costs as much time as
    the arithmetic on it.
    """

    def __init__(self, ops: Backend, dtype: Any) -> None:
        self.ops, self.dtype = ops, dtype
        self._buffers: dict[Any, Array] = {}

    def take(
        self, key: Any, shape: tuple[int, ...], prepare: Callable[[Array], None] | None = None
    ) -> Array:
        """Return an array of ``shape`` with undefined contents; valid until ``key`` is taken again.

        ``prepare`` is called with the flat memory when it is new, and not again.
        """
        size = prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.size < size:
            self._buffers[key] = buffer = self.ops.xp.empty(size, dtype=self.dtype)
            if prepare is not None:
                prepare(buffer)
        return buffer[:size].reshape(shape)
