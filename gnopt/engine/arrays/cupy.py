"""The CuPy backend. The only file that imports CuPy, and only when a CUDA device is asked for.

Work is queued and runs behind the host's back. The host waits where it reads something: in
``scalars`` and ``to_host``, and once or twice in a factorisation that is checked at once (a flag of
a few bytes, counted in ``checks``). Uploads go through CuPy's pinned staging buffers and are queued
like kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np

from gnopt.engine.arrays.base import Backend, Unchecked, Workspace
from gnopt.engine.arrays.functions import Array, Elementwise, Functions
from gnopt.engine.arrays.fuse import fuse, fuse_in_place
from gnopt.engine.arrays.kernels import GATHERED, KERNELS, RANDOM, Kernel, gather
from gnopt.errors import ConfigError, Diverged, GnoptError

LEAST_CUPY = 14  # before it float32 arrays and Python scalars mixed by other rules
_FUSED_TYPES = np.dtype(np.float32), np.dtype(np.float64)  # of all arrays that a kernel takes
_LIMIT = "CUPY_GPU_MEMORY_LIMIT"  # CuPy reads it: the most that a process's memory pool may take
_FLAGS = 1024  # most checks that are postponed until the next fetch
_UPPER = 1  # CUBLAS_FILL_MODE_UPPER: in Fortran's order, where C's order has the lower triangle
# Percent of a device's memory that processes on it divide; their contexts need the rest.
_SHARED = 90


@dataclass(frozen=True)
class Libraries:
    """CuPy, and the parts of it that need CUDA's own libraries."""

    cupy: Any
    cupyx: Any
    solve_triangular: Any
    erf: Any
    cusolver: Any


class CudaBackend(Backend):
    """CuPy on one device, in the arrays' own precision: CuPy's linear algebra computes float32 in
    float32.
    """

    name = "cuda"
    numbered = True
    on_host = False
    queued = True
    tape_bytes = 1 << 30  # fewer and larger launches; training.memory still bounds it

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self._libraries = load_libraries(index)
        self.xp = self._libraries.cupy
        self.checks = 0  # times the host has waited for a flag of a factorisation
        try:
            self._device = self.xp.cuda.Device(index)
            self._device.use()
            self._flags = self.xp.zeros(_FLAGS, dtype=np.int32)  # of postponed checks
        except (RuntimeError, MemoryError) as error:  # CuPy's errors are of these kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise GnoptError(
                f"device 'cuda:{index}' cannot be used: {reason}; another process may hold it in "
                "exclusive mode, or all of its memory"
            ) from error
        self._uploads: Any = None  # stream of uploads beside the work
        self._gathers: dict[tuple[str, ...], Any] = {}
        self._kernels_of: dict[Any, Any] = {}  # by function and types; None where it has none
        self._flagged = 0  # how many flags are in use
        self._deferring = False
        self._kernels = {
            name: self.xp.ElementwiseKernel(k.inputs, k.outputs, k.body, f"gnopt_{name}")
            for name, k in (KERNELS | RANDOM).items()
        }

    @classmethod
    def check(cls, index: int) -> None:
        load_libraries(index)

    @classmethod
    def shared_by(cls, processes: int) -> dict[str, str]:
        if processes < 2 or _LIMIT in os.environ:  # a limit that the user has set stands
            return {}
        return {_LIMIT: f"{max(1, _SHARED // processes)}%"}

    # ---- transfers -------------------------------------------------------------------------------

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = self.xp.asnumpy(array)
        return host

    def scalars(self, *values: Any) -> list[float]:
        on_device = [v for v in values if isinstance(v, self.xp.ndarray)]
        if self._flagged:
            on_device.append(self._flags[: self._flagged].any())
            *fetched, failed = self._fetch(on_device)
            self._flagged = 0
            if failed:
                raise Unchecked
        else:
            fetched = self._fetch(on_device)
        rest = iter(fetched)
        return [next(rest) if isinstance(v, self.xp.ndarray) else float(v) for v in values]

    def _fetch(self, values: list[Array]) -> list[float]:
        """Gather 0-d arrays on the device, then copy once: the host waits for that copy."""
        if not values:
            return []
        gathered = self.xp.empty(len(values), dtype=np.float64)
        for start in range(0, len(values), GATHERED):
            part = values[start : start + GATHERED]
            self._gather(tuple(v.dtype.name for v in part))(
                *part, gathered[start : start + len(part)]
            )
        numbers: list[float] = self.to_host(gathered).tolist()
        return numbers

    def _gather(self, dtypes: tuple[str, ...]) -> Any:
        if dtypes not in self._gathers:
            k = gather(dtypes)
            self._gathers[dtypes] = self.xp.ElementwiseKernel(
                k.inputs, k.outputs, k.body, "gnopt_gather"
            )
        return self._gathers[dtypes]

    def upload_beside(self, load: Callable[[], Any]) -> tuple[Any, Any]:
        # Uploads have a stream of their own. It may use a buffer again only after the loop has
        # synchronised the device.
        self._device.use()  # each thread has its own current device
        if self._uploads is None:
            self._uploads = self.xp.cuda.Stream(non_blocking=True)
        with self._uploads:
            loaded = load()
        return loaded, self._uploads.record()

    def wait_for(self, event: Any) -> None:
        self.xp.cuda.get_current_stream().wait_event(event)

    def synchronize(self) -> None:
        self._device.synchronize()

    def free_memory(self) -> int:
        pool = self.xp.get_default_memory_pool()
        free = int(self._device.mem_info[0]) + int(pool.free_bytes())
        limit = int(pool.get_limit())  # 0: none
        return max(0, min(free, limit - int(pool.used_bytes()))) if limit else free

    def versions(self) -> dict[str, str]:
        properties = self.xp.cuda.runtime.getDeviceProperties(self._device.id)
        return {"cupy": self.xp.__version__, "gpu": properties["name"].decode()}

    # ---- products --------------------------------------------------------------------------------

    def axpy(self, a: Any, x: Array, y: Array) -> None:
        self._kernels["axpy"](a if isinstance(a, self.xp.ndarray) else float(a), x, y)

    def ratio(self, where: Any, a: Any, b: Any) -> Any:
        return self._kernels["ratio"](where, a, b)

    # ---- factorisations --------------------------------------------------------------------------

    @contextmanager
    def deferred_checks(self, on: bool) -> Iterator[None]:
        self._deferring, self._flagged = on, 0
        try:
            yield
        finally:
            self._deferring, self._flagged = False, 0

    def confirm(self, numbers: Iterable[float]) -> None:
        if self._deferring and not all(map(isfinite, numbers)):
            raise Unchecked

    def cholesky(self, M: Array, what: str) -> Array:
        if self._flag() is None:
            return self._checked(self.xp.linalg.cholesky, M, what, "is not positive definite")
        return self._potrf(M)

    def spd_inverse(self, M: Array, what: str) -> Array:
        if self._flag() is None:
            return self._checked(
                lambda m: self._inverse(self.xp.linalg.cholesky(m)),
                M,
                what,
                "is not positive definite",
            )
        return self._inverse(self._potrf(M))

    def _inverse(self, L: Array) -> Array:
        # CuPy has no potri: L⁻¹ by one triangular solve, then L⁻ᵀ L⁻¹ by a product, which a GPU
        # does fastest. 10/3 n³ flops.
        identity = self.xp.eye(len(L), dtype=L.dtype, order="F")
        root = self._lower(L, identity, transpose=False, overwrite=True)
        return self.xp.matmul(root.T, root)

    def _potrf(self, M: Array) -> Array:
        """Return lower L with L Lᵀ = M and leave the error flag on the device.

        CuPy's own routine waits for the flag, or drops it.
        """
        suffix = "s" if M.dtype == np.float32 else "d"
        cusolver = self._libraries.cusolver
        potrf, size = (getattr(cusolver, f"{suffix}potrf{part}") for part in ("", "_bufferSize"))
        handle, n = self._device.cusolver_handle, len(M)
        L = self.xp.tril(M)
        work = self.xp.empty(size(handle, _UPPER, n, L.data.ptr, n), dtype=M.dtype)
        potrf(handle, _UPPER, n, L.data.ptr, n, work.data.ptr, len(work), self._flag().data.ptr)
        self._flagged += 1
        return L

    def _flag(self) -> Any:
        """Return the next free flag, (1,) int32; None where checks are made at once."""
        if not self._deferring or self._flagged == _FLAGS:
            return None
        return self._flags[self._flagged : self._flagged + 1]

    def eigh(self, M: Array, what: str) -> tuple[Array, Array]:
        if self._flag() is None:
            problem = "has no eigendecomposition"
            values, vectors = self._checked(self.xp.linalg.eigh, M, what, problem)
            return values, vectors
        return self._unwaited(M)

    def eigh_stack(self, M: Array) -> tuple[Array, Array]:
        if self._flag() is not None:
            return self._unwaited(M)
        self.checks += 1
        with self._libraries.cupyx.errstate(linalg="raise"):
            return super().eigh_stack(M)

    def _unwaited(self, M: Array) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors of one matrix or a stack, and set a flag on the
        device unless ‖M‖² = Σ λ².

        The two differ where the iteration has not converged or M holds numbers that are not finite.
        """
        values, vectors = self.xp.linalg.eigh(M)
        norm, total = self.xp.vdot(M, M), self.xp.vdot(values, values)
        self._flag()[...] = self.xp.logical_not(self.xp.absolute(norm - total) <= 1e-3 * norm)
        self._flagged += 1
        return values, vectors

    def orthonormal(self, Y: Array) -> Array:
        return self.xp.linalg.qr(Y)[0]

    def solve_triangular(self, L: Array, B: Array, transpose: bool = False) -> Array:
        return self._lower(L, B, transpose)

    def cholesky_solve(self, L: Array, B: Array, right: bool) -> None:
        half = self._lower(L, B.T if right else B, transpose=False)
        full = self._lower(L, half, transpose=True)
        B[...] = full.T if right else full

    def _lower(self, L: Array, B: Array, transpose: bool, overwrite: bool = False) -> Array:
        """Return L⁻¹ B or L⁻ᵀ B.

        cuBLAS is given Lᵀ, which is in Fortran's order, so that L is not copied.
        """
        return self._libraries.solve_triangular(
            L.T, B, trans=0 if transpose else 1, lower=False, overwrite_b=overwrite
        )

    def _checked(self, routine: Callable[[Array], Any], M: Array, what: str, problem: str) -> Any:
        """Run ``routine`` and read its error flag; where float32 fails, run it in float64.

        Raises Diverged, which names ``what``.
        """
        size = f"{what} ({M.shape[0]} x {M.shape[0]})"
        self.checks += 1
        # A non-finite entry of a Gram matrix always shows on its diagonal.
        if not bool(self.xp.isfinite(M.diagonal()).all()):
            raise Diverged(f"{size} holds numbers that are not finite")
        for dtype in (M.dtype, np.dtype(np.float64)):
            self.checks += 1
            try:
                # Without this context CuPy lets a failure pass silently.
                with self._libraries.cupyx.errstate(linalg="raise"):
                    result = routine(M.astype(dtype, copy=False))
            except np.linalg.LinAlgError:
                continue
            if isinstance(result, tuple):
                return tuple(part.astype(M.dtype, copy=False) for part in result)
            return result.astype(M.dtype, copy=False)
        raise Diverged(f"{size} {problem}, also in float64")

    # ---- element-wise functions ------------------------------------------------------------------

    def elementwise(
        self, function: Elementwise, *inputs: Array | float | None, out: Array | None = None
    ) -> Any:
        arrays = (*inputs, out)
        kernel = self._fused(
            (function, "elementwise"),
            arrays,
            lambda dtype, given: fuse(function, dtype, given[:-1], given[-1]),
        )
        if kernel is None:
            return super().elementwise(function, *inputs, out=out)
        return kernel(*(x for x in arrays if x is not None))

    def in_place(
        self,
        function: Elementwise,
        arrays: Sequence[Array | None],
        *inputs: Array | float | None,
        workspace: Workspace | None = None,
    ) -> None:
        count = len(arrays)
        kernel = self._fused(
            (function, "in place", count, workspace is None),
            (*arrays, *inputs),
            lambda dtype, given: fuse_in_place(
                function, dtype, given[:count], given[count:], workspace is not None
            ),
        )
        if kernel is None:
            super().in_place(function, arrays, *inputs, workspace=workspace)
        else:
            kernel(*(x for x in (*inputs, *arrays) if x is not None))

    def times_slope(
        self, x: Array, df: Elementwise, h: Array | None, a: Array, workspace: Workspace
    ) -> None:
        kernel = self._fused(
            (df, "times slope"),
            (h, a, x),
            lambda dtype, given: fuse(df, dtype, given[:-1], out=True, product=True),
        )
        if kernel is None:
            super().times_slope(x, df, h, a, workspace)
        else:
            kernel(*(v for v in (h, a, x) if v is not None))

    def _fused(
        self,
        key: tuple[Any, ...],
        arrays: Sequence[Array | float | None],
        trace: Callable[[np.dtype, list[bool]], Kernel | None],
    ) -> Any:
        """Return the kernel for a function and arrays of these types, made by ``trace`` on first
        use; None where the function must run as it is.
        """
        types = tuple(getattr(x, "dtype", type(x)) for x in arrays)
        try:
            return self._kernels_of[key, types]
        except KeyError:
            pass
        except TypeError:  # a function without a hash
            return None
        kernel = None
        dtypes = {t for t in types if isinstance(t, np.dtype)}
        if len(dtypes) == 1 and (dtype := dtypes.pop()) in _FUSED_TYPES:
            k = trace(dtype, [x is not None for x in arrays])
            kernel = k and self.xp.ElementwiseKernel(k.inputs, k.outputs, k.body, "gnopt_fused")
        self._kernels_of[key, types] = kernel
        return kernel

    def sigmoid(self, h: Array, out: Array | None = None) -> Array:
        return self.elementwise(Functions.sigmoid, h, out=out)

    def softplus(self, h: Array) -> Array:
        return self.elementwise(Functions.softplus, h)

    def erf(self, h: Array) -> Array:
        return self._libraries.erf(h)

    # ---- random numbers: NumPy's Philox, followed on the device ----------------------------------

    def uniform(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        kind = np.dtype(dtype)
        at = _position(rng)
        if at is None or (kind == np.float64 and at % 2):
            return super().uniform(rng, shape, dtype)
        return self._draw(f"uniform_{kind}", rng, at, shape, kind, kind.itemsize // 4)

    def rademacher(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        at = _position(rng)
        if at is None:
            return super().rademacher(rng, shape, dtype)
        return self._draw("signs", rng, at, shape, np.dtype(np.int8), 0.25).astype(dtype)

    def _draw(
        self,
        name: str,
        rng: np.random.Generator,
        at: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        words: float,
    ) -> Array:
        """Return numbers from position ``at`` of the stream, each made of ``words`` words of 32
        bits, and move the generator past them.
        """
        out = self.xp.empty(shape, dtype=dtype)
        key = rng.bit_generator.state["state"]["key"]
        if out.size:
            self._kernels[name](key[0], key[1], np.uint64(at), out)
        _move(rng, at + ceil(words * out.size))
        return out


def _position(rng: np.random.Generator) -> int | None:
    """Return how many words of 32 bits a Philox generator has gone past, counting the block of
    counter 0.

    None for other generators, and where the generator holds half of a 64-bit number that is not the
    last one of its stream.
    """
    state = rng.bit_generator.state
    if state["bit_generator"] != "Philox" or any(state["state"]["counter"][1:]):
        return None
    if (
        state["has_uint32"]
        and state["uinteger"] != int(state["buffer"][state["buffer_pos"] - 1]) >> 32
    ):
        return None
    number = 4 * int(state["state"]["counter"][0]) + int(state["buffer_pos"])
    return 2 * number - int(state["has_uint32"])


def _move(rng: np.random.Generator, position: int) -> None:
    """Put a Philox generator where it would stand after that many words of 32 bits."""
    bits = rng.bit_generator
    state = bits.state
    half = position % 2
    number = (position + half) // 2 - half  # the 64-bit number that is half read, or next
    state["state"]["counter"][0] = number // 4 - 1
    bits.state = {**state, "buffer_pos": 4, "has_uint32": 0}
    if number % 4:
        bits.random_raw(number % 4, output=False)
    if half:
        rng.random(dtype=np.float32)


BACKEND = CudaBackend


def load_libraries(index: int) -> Libraries:
    """Import CuPy and what it needs; ConfigError, which says what to do, where a library or the
    device is missing. Nothing is allocated on the device.
    """
    device = f"device 'cuda:{index}'"
    try:
        import cupy
        import cupyx
    except ImportError as error:
        raise ConfigError(
            f"{device}: CuPy is not installed ({error}); install gnopt[cuda13], or "
            "gnopt[cuda12] for a "
            "driver older than CUDA 13, or choose --device cpu"
        ) from error
    if int(cupy.__version__.partition(".")[0]) < LEAST_CUPY:
        raise ConfigError(
            f"{device}: found CuPy {cupy.__version__}, expected {LEAST_CUPY} or later; install "
            "gnopt[cuda13] or gnopt[cuda12]"
        )
    if not cupy.is_available():
        raise ConfigError(f"{device}: {_driver(cupy.cuda.runtime)}; --device cpu does without")
    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise ConfigError(
            f"{device}: this machine has {count} CUDA device{'s' if count > 1 else ''}, "
            "numbered from 0"
        )
    try:
        from cupy.cuda import cusolver
        from cupyx.scipy.linalg import solve_triangular
        from cupyx.scipy.special import erf
    except ImportError as error:
        extra = f"cuda{cupy.cuda.runtime.runtimeGetVersion() // 1000}"
        raise ConfigError(
            f"{device}: CUDA's libraries are missing ({str(error).splitlines()[0]}); install a "
            f"CUDA toolkit, or cupy-{extra}x[ctk] beside gnopt[{extra}]"
        ) from error
    return Libraries(cupy, cupyx, solve_triangular, erf, cusolver)


def _driver(runtime: Any) -> str:
    """Return in a sentence why no device is available."""
    built = runtime.runtimeGetVersion()
    driver = runtime.driverGetVersion()
    if driver == 0:
        return (
            "CuPy finds no NVIDIA driver; a GPU with its driver is needed, and gnopt[cuda13] "
            "or gnopt[cuda12] to "
            "match it"
        )
    if driver // 1000 < built // 1000:
        return (
            f"the driver supports CUDA {_version(driver)}, this CuPy needs {_version(built)}; "
            "install "
            f"gnopt[cuda{driver // 1000}] in place of gnopt[cuda{built // 1000}]"
        )
    return "CuPy is installed (gnopt[cuda12] or gnopt[cuda13]), but finds no GPU that it can use"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
