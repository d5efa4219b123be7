"""The modules that take the places of ``cupy`` and ``cupyx``."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from cupy_double import linalg
from cupy_double.api import api, check_call, members, require
from cupy_double.array import call_ufunc, gemm, ndarray, strict, wrap
from cupy_double.counters import COUNTERS, DeviceSynchronized, allow_synchronize
from cupy_double.kernels import ElementwiseKernel

VIEWS = {
    "transpose",
    "reshape",
    "ravel",
    "diagonal",
    "broadcast_to",
    "expand_dims",
    "swapaxes",
    "moveaxis",
}
TYPES = ("float32", "float64", "int8", "int32", "int64", "bool_", "newaxis", "pi", "inf", "nan")


class Module(types.ModuleType):
    """A module with the names of the wheel's; a name that the double lacks raises an error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        require(self.__name__, name)
        raise AttributeError(
            f"{self.__name__}.{name} is in CuPy, but not in the double: add it to tests/cupy_double"
        )


def _ufunc(name: str) -> Callable[..., ndarray]:
    return lambda *args, **kwargs: call_ufunc(name, getattr(np, name), args, kwargs)


def _function(name: str) -> Callable[..., Any]:
    compute = gemm if name == "matmul" else getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        check_call("cupy", name, args, kwargs)
        COUNTERS.calls += name not in VIEWS
        out = kwargs.get("out")
        found = compute(*map(strict, args), **{k: strict(v) for k, v in kwargs.items()})
        # A view is a view in CuPy too, also out of einsum; everything else is C-ordered.
        shares = (
            isinstance(found, np.ndarray)
            and found.base is not None
            and found.size > 0
            and any(np.may_share_memory(found, a._host) for a in args if isinstance(a, ndarray))
        )
        return out if out is not None else wrap(found, view=name in VIEWS or shares)

    return call


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    """Host → device, through a pinned buffer and queued; a device array is passed through."""
    check_call("cupy", "asarray", (a, dtype, order), {"copy": copy, "blocking": blocking})
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else ndarray(a._host.astype(dtype))
    host = np.array(a, dtype=dtype, order="C")
    if host.dtype.kind not in "bif":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    COUNTERS.up(host.nbytes)
    return ndarray(host)


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    """Device → host; a host array is passed through."""
    return a.get(order=order, out=out) if isinstance(a, ndarray) else np.asarray(a)


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    """Within the device; a host array as the source is refused, a number is not."""
    if not isinstance(dst, ndarray):
        raise TypeError("dst must be cupy.ndarray")
    COUNTERS.calls += 1
    np.copyto(dst._host, strict(src), casting=casting)


class Generator:
    """CuPy's generator: fewer methods than NumPy's, and other numbers for the same seed."""

    def __init__(self, seed: Any) -> None:
        self._host = np.random.default_rng([int(seed or 0), 0xC0FFEE])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        require("cupy.random.Generator", name)

        def draw(*args: Any, **kwargs: Any) -> Any:
            check_call("cupy.random.Generator", name, (self, *args), kwargs)
            return wrap(getattr(self._host, name)(*map(strict, args), **kwargs))

        return draw


class Device:
    """A device with four gigabytes."""

    current = 0
    cusolver_handle = linalg.HANDLE

    def __init__(self, device: int | None = None) -> None:
        self.id = Device.current if device is None else device

    def use(self) -> None:
        Device.current = self.id

    def synchronize(self) -> None:
        COUNTERS.wait()

    @property
    def mem_info(self) -> tuple[int, int]:
        return 3 << 30, 4 << 30


class Event:
    """Something to wait for."""


class Stream:
    """A queue; on the host everything is done at once."""

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        self.waited: list[Event] = []

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *args: Any) -> None:
        return None

    def record(self, event: Event | None = None) -> Event:
        return event or Event()

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)
        self.waited.append(event)

    def synchronize(self) -> None:
        COUNTERS.wait()


class _Pool:
    """What the memory pool reports; a limit is recorded, but not enforced."""

    def free_bytes(self) -> int:
        return 0

    def used_bytes(self) -> int:
        return 0

    def get_limit(self) -> int:
        text = os.environ.get("CUPY_GPU_MEMORY_LIMIT", "0")
        return int(float(text[:-1]) / 100.0 * (4 << 30)) if text.endswith("%") else int(text)


def build(devices: int, driver: int, version: str | None) -> dict[str, types.ModuleType]:
    """Fresh modules for a machine with this many devices and this driver."""
    names = (
        "cupy",
        "cupy.linalg",
        "cupy.random",
        "cupy.cuda",
        "cupy.cuda.cusolver",
        "cupy.cuda.runtime",
        "cupyx",
        "cupyx.scipy",
        "cupyx.scipy.linalg",
        "cupyx.scipy.special",
    )
    made = {name: (types.ModuleType if name == "cupyx.scipy" else Module)(name) for name in names}
    for name, module in made.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(made[parent], own, module)
        module.__path__ = []  # type: ignore[attr-defined]
    _fill_cupy(made["cupy"])
    made["cupy"].__version__ = version or api()["version"]  # type: ignore[attr-defined]
    made["cupy"].is_available = lambda: devices > 0  # type: ignore[attr-defined]
    made["cupy.linalg"].__dict__.update(
        cholesky=linalg.cholesky, eigh=linalg.eigh, eigvalsh=linalg.eigvalsh, qr=linalg.qr
    )
    made["cupy.random"].__dict__.update(default_rng=Generator, Generator=Generator)
    null = Stream(null=True)
    made["cupy.cuda"].__dict__.update(
        Device=Device, Stream=Stream, Event=Event, get_current_stream=lambda: null
    )
    made["cupy.cuda.runtime"].__dict__.update(
        getDeviceCount=lambda: devices,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13020,
        getDeviceProperties=lambda device: {"name": b"double"},
    )
    made["cupy.cuda.cusolver"].__dict__.update(linalg.cusolver())
    made["cupyx"].__dict__.update(
        errstate=linalg.errstate,
        allow_synchronize=allow_synchronize,
        DeviceSynchronized=DeviceSynchronized,
    )
    made["cupyx.scipy.linalg"].__dict__.update(solve_triangular=linalg.solve_triangular)
    made["cupyx.scipy.special"].__dict__.update(erf=linalg.erf)
    for name, module in made.items():
        if name != "cupyx.scipy":
            for own in vars(module):
                if not own.startswith("__") and own not in ("scipy",):
                    require(name, own)  # nothing here that the wheel does not have
    return made


def _fill_cupy(module: types.ModuleType) -> None:
    for name, entry in members("cupy").items():
        if entry == "ufunc" and hasattr(np, name):
            setattr(module, name, _ufunc(name))
        elif entry.startswith("(") and hasattr(np, name):
            setattr(module, name, _function(name))
    for name in TYPES:
        require("cupy", name)
        setattr(module, name, getattr(np, name))
    module.__dict__.update(
        ndarray=ndarray,
        asarray=asarray,
        asnumpy=asnumpy,
        copyto=copyto,
        finfo=np.finfo,
        ElementwiseKernel=ElementwiseKernel,
        get_default_memory_pool=lambda: _Pool(),
    )
