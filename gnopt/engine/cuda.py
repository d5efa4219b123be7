"""The CuPy backend: what differs from NumPy on a GPU. The only file that imports CuPy, and only when it is asked for.

Work is queued and runs behind the host's back; the host waits where it reads something: at ``scalars`` and
``to_host``, and once or twice in a checked factorisation (a flag of a few bytes, counted in ``checks``). Uploads go
through CuPy's pinned staging buffers and are queued like kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from gnopt.engine.backend import Array, Backend
from gnopt.engine.kernels import GATHERED, KERNELS, gather
from gnopt.errors import ConfigError, Diverged

LEAST_CUPY = 14  # before it float32 arrays and Python scalars mixed by other rules
_LIMIT = "CUPY_GPU_MEMORY_LIMIT"  # read by CuPy: what a process's memory pool may take
_SHARED = 90  # percent of a device's memory that processes on it divide; each one's context takes of the rest


class CudaBackend(Backend):
    """CuPy on one device, in the arrays' own precision: CuPy's linear algebra computes float32 in float32."""

    name = "cupy"
    tape_bytes = 1 << 30  # fewer and larger launches; memory.training still bounds it
    overlaps = True

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.xp, self._cupyx, self._triangular, self._erf = find(index)
        self.device = f"cuda:{index}"
        self.checks = 0  # times the host has waited for a flag of a factorisation
        self._device = self.xp.cuda.Device(index)
        self._device.use()
        self._uploads: Any = None  # stream of uploads beside the work
        self._gathers: dict[tuple[str, ...], Any] = {}
        self._kernels = {name: self.xp.ElementwiseKernel(k.inputs, k.outputs, k.body, f"gnopt_{name}")
                         for name, k in KERNELS.items()}

    # ---- transfers -------------------------------------------------------------------------------------

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        return self.xp.asarray(values, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        return self.xp.asnumpy(array)

    def scalars(self, *values: Any) -> list[float]:
        there = [v for v in values if isinstance(v, self.xp.ndarray)]
        fetched = iter(self._fetch(there))
        return [next(fetched) if isinstance(v, self.xp.ndarray) else float(v) for v in values]

    def _fetch(self, values: list[Array]) -> list[float]:
        """Gather 0-d arrays on the device, then copy once: that copy is the wait."""
        if not values:
            return []
        gathered = self.xp.empty(len(values), dtype=np.float64)
        for start in range(0, len(values), GATHERED):
            part = values[start : start + GATHERED]
            self._gather(tuple(v.dtype.name for v in part))(*part, gathered[start : start + len(part)])
        return self.to_host(gathered).tolist()

    def _gather(self, dtypes: tuple[str, ...]) -> Any:
        if dtypes not in self._gathers:
            k = gather(dtypes)
            self._gathers[dtypes] = self.xp.ElementwiseKernel(k.inputs, k.outputs, k.body, "gnopt_gather")
        return self._gathers[dtypes]

    def upload_beside(self, load: Callable[[], Any]) -> tuple[Any, Any]:
        # A stream of its own; buffers come back to it only after the loop has synchronised the device.
        self._device.use()  # the current device is a thread's own
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

    # ---- products --------------------------------------------------------------------------------------

    def axpy(self, a: Any, x: Array, y: Array) -> None:
        self._kernels["axpy"](a if isinstance(a, self.xp.ndarray) else float(a), x, y)

    # ---- factorisations --------------------------------------------------------------------------------

    def cholesky(self, M: Array, what: str) -> Array:
        return self._checked(self.xp.linalg.cholesky, M, what, "is not positive definite")

    def spd_inverse(self, M: Array, what: str) -> Array:
        return self._checked(self._inverse, M, what, "is not positive definite")

    def _inverse(self, M: Array) -> Array:
        # CuPy has no potri. L⁻¹ by one triangular solve, then a product, at which a GPU is fastest: 10/3 n³ flops.
        L = self.xp.linalg.cholesky(M)
        root = self._lower(L, self.xp.eye(len(M), dtype=M.dtype), transpose=False)
        return self.xp.matmul(root.T, root)

    def eigh(self, M: Array, what: str) -> tuple[Array, Array]:
        return self._checked(self.xp.linalg.eigh, M, what, "has no eigendecomposition")

    def eigh_stack(self, M: Array) -> tuple[Array, Array]:
        self.checks += 1
        with self._cupyx.errstate(linalg="raise"):
            return self.xp.linalg.eigh(M)

    def orthonormal(self, Y: Array) -> Array:
        return self.xp.linalg.qr(Y)[0]

    def solve_triangular(self, L: Array, B: Array, transpose: bool = False) -> Array:
        return self._lower(L, B, transpose)

    def cholesky_solve(self, L: Array, B: Array, right: bool) -> None:
        half = self._lower(L, B.T if right else B, transpose=False)
        full = self._lower(L, half, transpose=True)
        B[...] = full.T if right else full

    def _lower(self, L: Array, B: Array, transpose: bool) -> Array:
        """L⁻¹ B or L⁻ᵀ B; Lᵀ is Fortran-ordered as cuBLAS wants it, so that L is not copied."""
        return self._triangular(L.T, B, trans=0 if transpose else 1, lower=False)

    def _checked(self, routine: Callable[[Array], Any], M: Array, what: str, problem: str) -> Any:
        """``routine`` with its error flag read, in float64 where float32 fails; Diverged names ``what``."""
        size = f"{what} ({M.shape[0]} x {M.shape[0]})"
        self.checks += 1
        if not bool(self.xp.isfinite(M.diagonal()).all()):  # a Gram matrix shows it on its diagonal
            raise Diverged(f"{size} holds numbers that are not finite")
        for dtype in (M.dtype, np.dtype(np.float64)):
            self.checks += 1
            try:
                with self._cupyx.errstate(linalg="raise"):  # without it a failure passes silently
                    found = routine(M.astype(dtype, copy=False))
            except np.linalg.LinAlgError:
                continue
            if isinstance(found, tuple):
                return tuple(part.astype(M.dtype, copy=False) for part in found)
            return found.astype(M.dtype, copy=False)
        raise Diverged(f"{size} {problem}, also in float64")

    # ---- fused element-wise functions ------------------------------------------------------------------

    def _run(self, name: str, *inputs: Array, out: Array | None = None) -> Any:
        return self._kernels[name](*inputs) if out is None else self._kernels[name](*inputs, out)

    def sigmoid(self, h: Array, out: Array | None = None) -> Array:
        return self._run("sigmoid", h, out=out)

    def softplus(self, h: Array) -> Array:
        return self._run("softplus", h)

    def bernoulli(self, h: Array, y: Array) -> tuple[Array, Array]:
        value, gradient = self._run("bernoulli", h, y)
        return value.sum(axis=1), gradient

    def bernoulli_variance(self, h: Array) -> Array:
        return self._run("bernoulli_variance", h)

    def tanh_slope(self, a: Array, out: Array) -> Array:
        return self._run("tanh_slope", a, out=out)

    def sigmoid_slope(self, a: Array, out: Array) -> Array:
        return self._run("sigmoid_slope", a, out=out)

    def adam(self, g: Array, m: Array, v: Array, beta1: float, beta2: float, shift: float, rate: float,
             scratch: Array) -> None:
        self._kernels["adam"](beta1, beta2, shift, rate, g, m, v)

    def erf(self, h: Array) -> Array:
        return self._erf(h)

    # ---- random numbers --------------------------------------------------------------------------------

    def rademacher(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
        # The host's draws, uploaded as bytes: a quarter of the traffic of float32.
        bits = self.asarray(rng.integers(0, 2, size=shape, dtype=np.int8))
        return (2 * bits - 1).astype(dtype)


def shared_by(processes: int) -> dict[str, str]:
    """Environment of each of some processes on one device: an equal share of its memory, unless a limit is set."""
    if processes < 2 or _LIMIT in os.environ:
        return {}
    return {_LIMIT: f"{max(1, _SHARED // processes)}%"}


def find(index: int) -> tuple[Any, Any, Any, Any]:
    """CuPy, cupyx, its triangular solve and erf, with the device there; else a ConfigError that says what to do."""
    device = f"device 'cuda:{index}'"
    try:
        import cupy
        import cupyx
    except ImportError as error:
        raise ConfigError(f"{device}: CuPy is not installed ({error}); install gnopt[cuda13], or gnopt[cuda12] for a "
                          "driver older than CUDA 13, or choose --device cpu") from error
    if int(cupy.__version__.partition(".")[0]) < LEAST_CUPY:
        raise ConfigError(f"{device}: found CuPy {cupy.__version__}, expected {LEAST_CUPY} or later; install "
                          "gnopt[cuda13] or gnopt[cuda12]")
    if not cupy.is_available():
        raise ConfigError(f"{device}: {_driver(cupy.cuda.runtime)}; --device cpu does without")
    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise ConfigError(f"{device}: this machine has {count} CUDA device{'s' if count > 1 else ''}, numbered from 0")
    try:
        from cupyx.scipy.linalg import solve_triangular
        from cupyx.scipy.special import erf
    except ImportError as error:
        extra = f"cuda{cupy.cuda.runtime.runtimeGetVersion() // 1000}"
        raise ConfigError(f"{device}: CUDA's libraries are missing ({error}); install a CUDA toolkit, or "
                          f"cupy-{extra}x[ctk] beside gnopt[{extra}]") from error
    return cupy, cupyx, solve_triangular, erf


def _driver(runtime: Any) -> str:
    """Why no device is available, in a sentence."""
    built = runtime.runtimeGetVersion()
    driver = runtime.driverGetVersion()
    if driver == 0:
        return ("CuPy finds no NVIDIA driver; a GPU with its driver is needed, and gnopt[cuda13] or gnopt[cuda12] to "
                "match it")
    if driver // 1000 < built // 1000:
        return (f"the driver supports CUDA {_version(driver)}, this CuPy needs {_version(built)}; install "
                f"gnopt[cuda{driver // 1000}] in place of gnopt[cuda{built // 1000}]")
    return "CuPy is installed (gnopt[cuda12] or gnopt[cuda13]), but finds no GPU that it can use"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
