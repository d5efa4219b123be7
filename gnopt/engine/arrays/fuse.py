"""Trace an element-wise function into one CUDA kernel.

The function is called once, with symbols in place of arrays and of numbers. A symbol stands for one
element; every operation on symbols appends one C++ statement, ``T v3 = v1 * v2``, and returns a new
symbol. An operation in place binds the symbol to the new value. The kernel stores its results last,
so that ``out`` may share the memory of an input.

Shapes, reductions, random numbers and branches on values make a function untraceable: ``fuse``
returns None, and the function runs as it is, one kernel for each operation. A branch on the type
of an array can be traced, because a kernel is made for one type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gnopt.engine.arrays.functions import Elementwise, Functions
from gnopt.engine.arrays.kernels import Kernel

# NumPy's names and those of C++, which overloads them for float and double.
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
# Logic of comparisons, whose results are held as numbers, 0 or 1.
LOGIC = {
    "bitwise_and": "{0} * {1}",
    "bitwise_or": "T({0} + {1} > T(0))",
    "bitwise_xor": "T({0} != {1})",
    "invert": "T(1) - {0}",
}
TEMPLATES = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "true_divide": "{0} / {1}",
    "power": "pow({0}, {1})",
    "negative": "-{0}",
    "square": "{0} * {0}",
    "reciprocal": "T(1) / {0}",
    # NaN passes through, as in NumPy: it shows divergence. C++ would make max(NaN, 0) zero.
    "maximum": "({0} != {0}) | ({0} > {1}) ? {0} : {1}",
    "minimum": "({0} != {0}) | ({0} < {1}) ? {0} : {1}",
    "sign": "{0} != {0} ? {0} : T({0} > T(0)) - T({0} < T(0))",
    "where": "{0} != T(0) ? {1} : {2}",
    **{name: f"{function}({{0}})" for name, function in FUNCTIONS.items()},
    **{name: f"T({{0}} {sign} {{1}})" for name, sign in COMPARISONS.items()},
    **LOGIC,
}
OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
RELATIONS = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}


class Untraceable(Exception):
    """The function does what a kernel of one element cannot do, or what this module does not
    know.
    """


class Body:
    """The statements of a kernel for arrays of one type."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.statements: list[str] = []

    def add(self, expression: str) -> str:
        """Append a statement that computes ``expression``; return the name of its value."""
        name = f"v{len(self.statements)}"
        self.statements.append(f"T {name} = {expression}")
        return name

    def text(self, value: Any) -> str:
        """Return a symbol or a number in C++.

        A NumPy scalar is refused: on real arrays it would turn float32 into float64.
        """
        if isinstance(value, Symbol) and value.body is self and value.text is not None:
            return value.text
        if type(value) in (bool, int, float) and math.isfinite(value):
            return f"T({float(value)!r})"
        raise Untraceable(f"{value!r} is no number and no array of this function")


class Symbol:
    """One element of an array, or a number that is a parameter of the kernel.

    ``text`` is its value in C++, the name of a statement's result or a literal; None before
    anything was written to it.
    """

    __array_ufunc__ = None  # makes NumPy's own functions refuse it

    def __init__(
        self, body: Body, text: str | None, writable: bool = True, mask: bool = False
    ) -> None:
        self.body, self.text, self.writable, self.mask = body, text, writable, mask

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that this stands for."""
        return np.dtype(bool) if self.mask else self.body.dtype

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis and index != slice(None):
            raise Untraceable("a part of an array is written")
        self.fill(value)

    def fill(self, value: Any) -> None:
        """Take the value of a number or of another symbol."""
        if not self.writable:
            raise Untraceable("an input or a comparison is written to")
        self.text = self.body.text(value)

    def __bool__(self) -> bool:
        raise Untraceable("a branch on a value")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable("a copy to the host")


def _apply(name: str, *arguments: Any, out: Symbol | None = None) -> Symbol:
    """Apply a ufunc to symbols and numbers; return a new symbol, or ``out`` with the new value."""
    if name == "power" and type(arguments[1]) in (int, float) and arguments[1] == 2:
        return _apply("square", arguments[0], out=out)
    template, symbols = TEMPLATES[name], [a for a in arguments if isinstance(a, Symbol)]
    if not symbols or len(arguments) != sum(f"{{{i}}}" in template for i in range(3)):
        raise Untraceable(f"{name} of {len(arguments)} arguments")
    # NumPy computes with comparisons alone in another type than the arrays', except for logic.
    only_masks = all(isinstance(a, Symbol) and a.mask for a in arguments)
    if name not in COMPARISONS and only_masks != (name in LOGIC):
        raise Untraceable(f"{name} of comparisons")
    body = symbols[0].body
    value = body.add(template.format(*(body.text(a) for a in arguments)))
    is_mask = name in COMPARISONS or name in LOGIC
    result = Symbol(body, value, writable=not is_mask, mask=is_mask)
    if out is None:
        return result
    out.fill(result)
    return out


def _operator(name: str, reflected: bool = False, in_place: bool = False) -> Callable[..., Symbol]:
    def operation(self: Symbol, other: Any) -> Symbol:
        pair = (other, self) if reflected else (self, other)
        return _apply(name, *pair, out=self if in_place else None)

    return operation


def _function(name: str) -> Callable[[Symbol], Symbol]:
    return lambda self: _apply(name, self)


for _symbol, _name in OPERATORS.items():
    setattr(Symbol, f"__{_symbol}__", _operator(_name))
    setattr(Symbol, f"__r{_symbol}__", _operator(_name, reflected=True))
    setattr(Symbol, f"__i{_symbol}__", _operator(_name, in_place=True))
for _symbol, _name in RELATIONS.items():
    setattr(Symbol, f"__{_symbol}__", _operator(_name))
for _symbol, _name in {"neg": "negative", "abs": "absolute", "invert": "invert"}.items():
    setattr(Symbol, f"__{_symbol}__", _function(_name))


class _Arrays:
    """The array module of symbols."""

    pi = math.pi
    float32, float64 = np.float32, np.float64

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        if name not in TEMPLATES or name == "erf":  # erf is asked of ``ops``
            raise AttributeError(name)
        return partial(_apply, name)

    def zeros_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, "T(0)")

    def ones_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, "T(1)")

    def empty_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, None)

    def clip(self, a: Any, low: Any, high: Any, out: Symbol | None = None) -> Symbol:
        return _apply("minimum", _apply("maximum", a, low), high, out=out)


class _Ops(Functions):
    """What a traced function is given as ``ops``."""

    xp = _Arrays()

    def erf(self, h: Symbol) -> Symbol:
        return _apply("erf", h)

    def axpy(self, a: Any, x: Symbol, y: Symbol) -> None:
        y += a * x


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
    body = Body(dtype)
    inputs = _inputs(body, given)
    target = [Symbol(body, None)] if out else []
    try:
        result = function(_Ops(), *inputs, *target)
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
    body = Body(dtype)
    inputs = _inputs(body, given)
    names = [f"y{i}" for i in range(len(written))]
    # Values are read before anything is stored, so that one array may take another's old value.
    arrays = [
        Symbol(body, body.add(y)) if there else None
        for y, there in zip(names, written, strict=True)
    ]
    before = [None if a is None else a.text for a in arrays]
    try:
        function(_Ops(), *arrays, *inputs, *([Symbol(body, None)] if scratch else []))
    except Exception:  # as above
        return None
    stores = [
        f"{y} = {a.text}"
        for y, a, old in zip(names, arrays, before, strict=True)
        if a is not None and a.text != old
    ]
    outputs = [y for y, there in zip(names, written, strict=True) if there]
    return _kernel(body, inputs, outputs, stores)


def _inputs(body: Body, given: Sequence[bool]) -> list[Symbol | None]:
    return [
        Symbol(body, f"x{i}", writable=False) if there else None for i, there in enumerate(given)
    ]


def _kernel(
    body: Body, inputs: Sequence[Symbol | None], outputs: Sequence[str], stores: Sequence[str]
) -> Kernel:
    return Kernel(
        ", ".join(f"T {x.text}" for x in inputs if x is not None),
        ", ".join(f"T {y}" for y in outputs),
        "; ".join([*body.statements, *stores]),
    )
