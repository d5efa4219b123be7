"""The device array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupy_double.api import check_call, members, require
from cupy_double.counters import COUNTERS

NUMBERS = (bool, int, float, complex, np.generic)
PLAIN = (
    slice,
    int,
    float,
    str,
    type(None),
    type(...),
)  # most of what is passed, and nothing to look into
CLASS = "cupy.ndarray"
VIEWS = {
    "reshape",
    "transpose",
    "diagonal",
    "swapaxes",
    "squeeze",
    "view",
    "ravel",
    "astype",
}  # keep their order


@dataclass(frozen=True)
class Pointer:
    """cupy.cuda.MemoryPointer: the address of an array's first element."""

    ptr: int


class ndarray:
    """An array in device memory; ``_host`` holds its numbers, which the package must not see."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    # ---- what does not leave the device ----------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self._host.strides

    @property
    def dtype(self) -> np.dtype:
        return self._host.dtype

    @property
    def ndim(self) -> int:
        return self._host.ndim

    @property
    def size(self) -> int:
        return self._host.size

    @property
    def nbytes(self) -> int:
        return self._host.nbytes

    @property
    def itemsize(self) -> int:
        return self._host.itemsize

    @property
    def flags(self) -> Any:
        return self._host.flags

    @property
    def data(self) -> Pointer:
        return Pointer(self._host.ctypes.data)

    @property
    def T(self) -> ndarray:
        return ndarray(self._host.T)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<device array {self.shape} {self.dtype}>"

    # ---- what does -------------------------------------------------------------------------------

    def get(
        self,
        stream: Any = None,
        order: str = "C",
        out: np.ndarray | None = None,
        blocking: bool = True,
    ) -> np.ndarray:
        COUNTERS.down(self.nbytes)
        if out is not None:
            np.copyto(out, self._host)
            return out
        return np.array(self._host, order=order)

    def item(self) -> Any:
        COUNTERS.down(self.nbytes)
        return self._host.item()

    def tolist(self) -> Any:
        COUNTERS.down(self.nbytes)
        return self._host.tolist()

    def __bool__(self) -> bool:
        COUNTERS.flag()
        return bool(self._host)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    # ---- what is refused -------------------------------------------------------------------------

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a "
            "NumPy array explicitly."
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(
            f"numpy.{function.__name__} on a device array: CuPy may dispatch it, the engine "
            "must not ask"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} on a device array")
        return call_ufunc(ufunc.__name__, ufunc, inputs, kwargs)

    # ---- indexing --------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> ndarray:
        return ndarray(np.asarray(self._host[self._index(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if not isinstance(value, (ndarray, np.ndarray, *NUMBERS)):
            raise TypeError(f"cannot assign {type(value)} to a device array")
        COUNTERS.calls += 1
        self._host[self._index(index)] = value._host if isinstance(value, ndarray) else value

    def _index(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        return tuple(self._index_part(p, axis) for axis, p in enumerate(parts))

    def _index_part(self, part: Any, axis: int) -> Any:
        if type(part) in PLAIN:
            return part
        if isinstance(part, ndarray):
            if part.dtype.kind == "b":
                COUNTERS.flag()  # the number of true entries makes the shape
                return part._host
            extent = self.shape[axis] if axis < self.ndim else 1
            return part._host % extent  # integers out of range wrap, without an error
        if isinstance(part, (np.ndarray, list)):
            host = np.asarray(part)
            COUNTERS.up(host.nbytes)  # allowed by CuPy, and a hidden copy
            return host
        return part

    # ---- methods ---------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        require(CLASS, name)
        return lambda *args, **kwargs: self._method(name, args, kwargs)

    def _method(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        check_call(CLASS, name, (self, *args), kwargs)
        COUNTERS.calls += name not in VIEWS
        for key in ("casting", "subok"):
            if key in kwargs and kwargs[key] is None:
                del kwargs[key]
        found = getattr(self._host, name)(
            *map(strict, args), **{k: strict(v) for k, v in kwargs.items()}
        )
        return wrap(found, view=name in VIEWS)


def strict(value: Any) -> Any:
    """The memory behind an argument; TypeError for host arrays."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(strict(v) for v in value)
    return value


def wrap(found: Any, view: bool = False) -> Any:
    """Results as device arrays: scalars become 0-d, arithmetic comes out in C order."""
    if isinstance(found, tuple):
        return tuple(wrap(part, view) for part in found)
    if isinstance(found, np.ndarray):
        return ndarray(found if view else np.ascontiguousarray(found) if found.ndim else found)
    if isinstance(found, (np.generic, bool, int, float)):
        return ndarray(np.asarray(found))
    return found


def call_ufunc(
    name: str, ufunc: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ndarray:
    """Apply a ufunc by CuPy's rules."""
    check_call("cupy", name, args, kwargs)
    COUNTERS.calls += 1
    out = kwargs.pop("out", None)
    out = out[0] if isinstance(out, tuple) else out
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"Unsupported type {type(out)}")
    for a in args:
        if not isinstance(a, (ndarray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(a)}")
    if kwargs.get("dtype", 0) is None:
        del kwargs["dtype"]
    inputs = [strict(a) for a in args]
    with np.errstate(all="ignore"):  # no warnings on a device
        if out is None:
            return wrap(ufunc(*inputs, **kwargs))
        ufunc(*inputs, out=out._host, **kwargs)
    return out


BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
COMPARE = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}


def _binary(name: str, reflected: bool = False, in_place: bool = False) -> Callable[..., Any]:
    ufunc = getattr(np, name)

    def operation(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(other)}")
        pair = (other, self) if reflected else (self, other)
        return call_ufunc(name, ufunc, pair, {"out": self} if in_place else {})

    return operation


def _matmul(self: ndarray, other: Any) -> Any:
    if not isinstance(other, ndarray):
        raise TypeError(f"Unsupported type {type(other)}")
    COUNTERS.calls += 1
    return wrap(gemm(self._host, other._host))


def gemm(a: np.ndarray, b: np.ndarray, **kwargs: Any) -> np.ndarray:
    """A product as cuBLAS forms it: Xᵀ X is symmetric but for rounding, where NumPy mirrors a
    triangle (syrk).
    """
    return np.matmul(a, b.copy(order="K") if np.may_share_memory(a, b) else b, **kwargs)


def _define() -> None:
    for symbol, name in BINARY.items():
        setattr(ndarray, f"__{symbol}__", _binary(name))
        setattr(ndarray, f"__r{symbol}__", _binary(name, reflected=True))
        setattr(ndarray, f"__i{symbol}__", _binary(name, in_place=True))
    for symbol, name in COMPARE.items():
        setattr(ndarray, f"__{symbol}__", _binary(name))
    ndarray.__neg__ = lambda self: call_ufunc("negative", np.negative, (self,), {})  # type: ignore[attr-defined]
    ndarray.__invert__ = lambda self: call_ufunc("invert", np.invert, (self,), {})  # type: ignore[attr-defined]
    ndarray.__abs__ = lambda self: call_ufunc("absolute", np.absolute, (self,), {})  # type: ignore[attr-defined]
    ndarray.__matmul__ = _matmul  # type: ignore[attr-defined]
    for name in ("__index__", "__contains__", "__imatmul__"):  # not in CuPy, and so not here
        assert name not in members(CLASS), name
        assert not hasattr(ndarray, name), name


_define()
