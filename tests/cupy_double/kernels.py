"""``ElementwiseKernel`` on the host: its C++ body compiled by g++."""

from __future__ import annotations

import ctypes
import hashlib
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cupy_double.api import check_call
from cupy_double.array import NUMBERS, ndarray
from cupy_double.counters import COUNTERS

COMPILER = shutil.which("g++")
CTYPES = {
    "float32": "float",
    "float64": "double",
    "int8": "signed char",
    "int32": "int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "bool": "bool",
}
HEADER = """#include <cmath>
#include <algorithm>
using namespace std;
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
"""


@dataclass(frozen=True)
class Parameter:
    """``[raw] type name``; a type of one letter is a place-holder."""

    raw: bool
    kind: str
    name: str

    @property
    def open(self) -> bool:
        """Whether the arguments decide the type."""
        return len(self.kind) == 1


def _parameters(text: str) -> list[Parameter]:
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        *raw, kind, name = part.split()
        found.append(Parameter(raw == ["raw"], kind, name))
    return found


class ElementwiseKernel:
    """One pass over broadcast arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_call("cupy.ElementwiseKernel", "__init__", args, kwargs)
        in_params, out_params, self.operation, *name = args
        self.name = name[0] if name else "kernel"
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise ValueError(f"Invalid kernel name: {self.name}")
        self.inputs, self.outputs = _parameters(in_params), _parameters(out_params)
        self.runs: dict[tuple[np.dtype, ...], Run] = {}  # by the parameters' types

    def __call__(self, *args: Any, size: int | None = None) -> Any:
        if len(args) not in (len(self.inputs), len(self.inputs) + len(self.outputs)):
            raise TypeError(f"Wrong number of arguments for {self.name}")
        for a in args:
            if not isinstance(a, (ndarray, *NUMBERS)):
                raise TypeError(f"Unsupported type {type(a)}")
        given = list(args[len(self.inputs) :])
        if not all(isinstance(a, ndarray) for a in given):
            raise TypeError("Output arguments type must be cupy.ndarray")
        types = self._types([*args[: len(self.inputs)], *given])
        shape = np.broadcast_shapes(
            *(
                a.shape
                for p, a in zip(self.inputs, args, strict=False)
                if isinstance(a, ndarray) and not p.raw
            ),
            *(a.shape for a in given),
        )
        if any(a.shape != shape for a in given):
            raise ValueError("Out shape is mismatched")
        inputs = [self._input(p, a, types, shape) for p, a in zip(self.inputs, args, strict=False)]
        # What the kernel writes may also be read by it, and may overlap its inputs element by
        # element.
        outputs = [np.array(a._host, order="C") for a in given] or [
            np.empty(shape, types[p.name]) for p in self.outputs
        ]
        COUNTERS.kernels += 1
        COUNTERS.calls += 1
        self._run(types)([*inputs, *outputs], math.prod(shape))
        if given:
            for a, found in zip(given, outputs, strict=True):
                a._host[...] = found
            found = given
        else:
            found = [ndarray(a) for a in outputs]
        return found[0] if len(found) == 1 else tuple(found)

    def _run(self, types: dict[str, np.dtype]) -> Run:
        key = tuple(types.values())
        if key not in self.runs:
            self.runs[key] = _compiled(
                self.operation,
                tuple((p.name, types[p.name].name, p.raw) for p in (*self.inputs, *self.outputs)),
                len(self.inputs),
                self._placeholder(types),
            )
        return self.runs[key]

    def _types(self, args: list[Any]) -> dict[str, np.dtype]:
        """Return the type of each parameter; TypeError where two arrays of one place-holder differ.

        Numbers do not decide a type.
        """
        bound: dict[str, np.dtype] = {}
        for p, a in zip((*self.inputs, *self.outputs), args, strict=False):
            if not isinstance(a, ndarray):
                continue
            if p.open and bound.setdefault(p.kind, a.dtype) != a.dtype:
                raise TypeError(f"Type is mismatched. {p.name} {a.dtype} {bound[p.kind]}")
            if not p.open and np.dtype(p.kind) != a.dtype:
                raise TypeError(f"Type is mismatched. {p.name} {a.dtype} {p.kind}")
        return {
            p.name: bound[p.kind] if p.open else np.dtype(p.kind)
            for p in (*self.inputs, *self.outputs)
        }

    def _placeholder(self, types: dict[str, np.dtype]) -> tuple[tuple[str, str], ...]:
        return tuple(
            sorted({(p.kind, types[p.name].name) for p in (*self.inputs, *self.outputs) if p.open})
        )

    @staticmethod
    def _input(
        p: Parameter, a: Any, types: dict[str, np.dtype], shape: tuple[int, ...]
    ) -> np.ndarray:
        host = a._host if isinstance(a, ndarray) else np.asarray(a, types[p.name])
        return np.ascontiguousarray(host if p.raw else np.broadcast_to(host, shape))


Run = Callable[[list[np.ndarray], int], None]


@cache
def _compiled(
    body: str,
    parameters: tuple[tuple[str, str, bool], ...],
    inputs: int,
    places: tuple[tuple[str, str], ...],
) -> Run:
    names = [name for name, _, _ in parameters]
    pointers = ", ".join(f"{CTYPES[kind]}* _p{i}" for i, (_, kind, _) in enumerate(parameters))
    lines = [f"typedef {CTYPES[kind]} {place};" for place, kind in places]
    lines += [
        f'extern "C" void run({pointers}, long long n) {{',
        "for (long long i = 0; i < n; ++i) {",
    ]
    for j, (name, kind, raw) in enumerate(parameters):
        const = "const " if j < inputs else ""
        lines.append(
            f"{const}{CTYPES[kind]}* {name} = _p{j};"
            if raw
            else f"{const}{CTYPES[kind]}& {name} = _p{j}[i];"
        )
    text = HEADER + "\n".join([*lines, body + ";", "}}"])
    library = _build(text)

    def run(arrays: list[np.ndarray], count: int) -> None:
        assert len(arrays) == len(names)
        assert all(a.flags.c_contiguous for a in arrays)
        library.run(*(ctypes.c_void_p(a.ctypes.data) for a in arrays), ctypes.c_longlong(count))

    return run


def _build(text: str) -> ctypes.CDLL:
    folder = Path(tempfile.gettempdir()) / "gnopt-kernels"
    folder.mkdir(exist_ok=True)
    stem = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
    library = stem.with_suffix(".so")
    if not library.exists():
        source = Path(f"{stem}.cpp")
        source.write_text(text)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as file:
            unfinished = file.name
        # Arithmetic as on the device: no contraction into fused operations that would hide a
        # difference.
        subprocess.run(
            [
                COMPILER or "g++",
                "-O1",
                "-shared",
                "-fPIC",
                "-ffp-contract=off",
                "-Wdouble-promotion",
                "-Werror",
                str(source),
                "-o",
                unfinished,
            ],
            check=True,
        )
        Path(unfinished).replace(library)
    return ctypes.CDLL(str(library))
