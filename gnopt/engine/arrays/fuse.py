"""Trace an element-wise function into one CUDA kernel.

Every operation becomes one C++ statement, ``T v3 = v1 * v2``. The kernel stores its results last,
so that ``out`` may share the memory of an input. Where `trace` cannot trace a function, ``fuse``
returns None, and the function runs as it is, one kernel for each operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays.functions import Elementwise
from gnopt.engine.arrays.kernels import Kernel
from gnopt.engine.arrays.trace import Dialect, Statements, Symbol, SymbolicFunctions

# NumPy's names and those of C and C++, which overloads them for float and double.
FUNCTIONS = {
    "absolute": "fabs",
    "abs": "fabs",
    "fabs": "fabs",
    "exp": "exp",
    "expm1": "expm1",
    "log": "log",
    "log1p": "log1p",
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "arctan": "atan",
    "arcsinh": "asinh",
    "erf": "erf",
}
COMPARISONS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}


def c_family(cast: str, zero: str, one: str) -> dict[str, str]:
    """Return the templates of a language with C's operators; ``cast(...)`` makes a number of the
    arrays' type from a comparison, and ``zero`` and ``one`` are numbers of this type.
    """
    return {
        "add": "{0} + {1}",
        "subtract": "{0} - {1}",
        "multiply": "{0} * {1}",
        "divide": "{0} / {1}",
        "true_divide": "{0} / {1}",
        "power": "pow({0}, {1})",
        "negative": "-{0}",
        "square": "{0} * {0}",
        "reciprocal": f"{one} / {{0}}",
        # C's fmax would make max(NaN, 0) zero.
        "maximum": "({0} != {0}) | ({0} > {1}) ? {0} : {1}",
        "minimum": "({0} != {0}) | ({0} < {1}) ? {0} : {1}",
        "sign": f"{{0}} != {{0}} ? {{0}} : {cast}({{0}} > {zero}) - {cast}({{0}} < {zero})",
        "where": f"{{0}} != {zero} ? {{1}} : {{2}}",
        "bitwise_and": "{0} * {1}",
        "bitwise_or": f"{cast}({{0}} + {{1}} > {zero})",
        "bitwise_xor": f"{cast}({{0}} != {{1}})",
        "invert": f"{one} - {{0}}",
        **{name: f"{function}({{0}})" for name, function in FUNCTIONS.items()},
        **{name: f"{cast}({{0}} {sign} {{1}})" for name, sign in COMPARISONS.items()},
    }


CUDA = Dialect(c_family("T", "T(0)", "T(1)"), "T({!r})".format)


def fuse(
    function: Elementwise,
    dtype: np.dtype,
    given: Sequence[bool],
    out: bool = False,
    product: bool = False,
) -> Kernel | None:
    """Return the kernel y ← ``function(ops, *inputs[, out])``, or y ← y ⊙ it with ``product``; None
    where the function cannot be traced.

    ``given`` tells which inputs are arrays or numbers; the others are None. With ``out`` the
    function takes an array to write to, and must return that array. Without it the function may
    return several arrays: the kernel has as many outputs.
    """
    body = Statements(dtype, CUDA)
    inputs = _inputs(body, given)
    target = [Symbol(body, None)] if out else []
    try:
        result = function(SymbolicFunctions(), *inputs, *target)
        results = result if isinstance(result, tuple) else (result,)
        if any(r.mask for r in results) or (out and result is not target[0]):
            return None
        values = [body.text(r) for r in results]
    except Exception:  # a plug-in may do anything to a symbol; on arrays it works, or says why not
        return None
    names = ["y"] if len(values) == 1 else [f"y{i}" for i in range(len(values))]
    stores = [
        f"{y} = {y} * {value}" if product else f"{y} = {value}"
        for y, value in zip(names, values, strict=True)
    ]
    return _kernel(body, inputs, names, stores)


def fuse_in_place(
    function: Elementwise,
    dtype: np.dtype,
    written: Sequence[bool],
    given: Sequence[bool],
    scratch: bool,
) -> Kernel | None:
    """Return the kernel of ``function(ops, *written, *inputs[, scratch])``, which changes the
    arrays ``written``; None where the function cannot be traced.

    ``written`` and ``given`` tell which of the arrays and inputs are there; the others are None.
    """
    body = Statements(dtype, CUDA)
    inputs = _inputs(body, given)
    names = [f"y{i}" for i in range(len(written))]
    # Values are read before anything is stored, so that one array may take another's old value.
    arrays = [
        Symbol(body, body.add(y)) if there else None
        for y, there in zip(names, written, strict=True)
    ]
    before = [None if a is None else a.text for a in arrays]
    try:
        function(SymbolicFunctions(), *arrays, *inputs, *([Symbol(body, None)] if scratch else []))
    except Exception:  # as above
        return None
    stores = [
        f"{y} = {a.text}"
        for y, a, old in zip(names, arrays, before, strict=True)
        if a is not None and a.text != old
    ]
    outputs = [y for y, there in zip(names, written, strict=True) if there]
    return _kernel(body, inputs, outputs, stores)


def _inputs(body: Statements, given: Sequence[bool]) -> list[Symbol | None]:
    return [
        Symbol(body, f"x{i}", writable=False) if there else None for i, there in enumerate(given)
    ]


def _kernel(
    body: Statements, inputs: Sequence[Symbol | None], outputs: Sequence[str], stores: Sequence[str]
) -> Kernel:
    return Kernel(
        ", ".join(f"T {x.text}" for x in inputs if x is not None),
        ", ".join(f"T {y}" for y in outputs),
        "; ".join([*(f"T {name} = {value}" for name, value in body.statements), *stores]),
    )
