"""Trace an element-wise function into statements of another language.

The function is called once, with symbols in place of arrays and of numbers. A symbol stands for one
element; every operation on symbols appends one statement that computes one value, and returns a new
symbol. An operation in place binds the symbol to the new value.

Shapes, reductions, random numbers and branches on values make a function untraceable. A branch on
the type of an array can be traced, because the statements are made for one type.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gnopt.engine.arrays.functions import Elementwise, Functions

# NumPy's names of what can be traced.
UNARY = (
    *("absolute", "abs", "fabs", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "sinh"),
    *("cosh", "tanh", "arctan", "arcsinh", "erf", "negative", "square", "reciprocal", "sign"),
)
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
LOGIC = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert")  # of comparisons
ARGUMENTS = {
    **dict.fromkeys((*UNARY, "invert"), 1),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "true_divide", "power"), 2),
    **dict.fromkeys((*COMPARISONS, "bitwise_and", "bitwise_or", "bitwise_xor"), 2),
    **dict.fromkeys(("maximum", "minimum"), 2),
    "where": 3,
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
    """The function does what cannot be told of one element, or what this module does not know."""


@dataclass(frozen=True)
class Dialect:
    """How a language writes operations and numbers.

    ``templates`` has an expression for every name of ``ARGUMENTS``, with {0}, {1} and {2} for the
    operands. The results of comparisons and of their logic are numbers, 0 or 1. ``maximum`` and
    ``minimum`` hand on NaN from their first operand, as in NumPy, so that divergence shows.
    """

    templates: Mapping[str, str]
    number: Callable[[float], str]


class Body(ABC):
    """What a function of arrays of one type does, operation by operation; values have names."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    @abstractmethod
    def apply(self, operation: str, values: Sequence[str]) -> str:
        """Append an operation of ``ARGUMENTS`` on values; return the name of its result."""

    @abstractmethod
    def number(self, value: float) -> str:
        """Return the value that is this number."""

    def text(self, value: Any) -> str:
        """Return the value of a symbol or of a number.

        A NumPy scalar is refused: on real arrays it would turn float32 into float64.
        """
        if isinstance(value, Symbol) and value.body is self and value.text is not None:
            return value.text
        if type(value) in (bool, int, float) and math.isfinite(value):
            return self.number(float(value))
        raise Untraceable(f"{value!r} is no number and no array of this function")


class Statements(Body):
    """Statements of a language: names of values and their expressions."""

    def __init__(self, dtype: np.dtype, dialect: Dialect) -> None:
        super().__init__(dtype)
        self.dialect = dialect
        self.statements: list[tuple[str, str]] = []

    def apply(self, operation: str, values: Sequence[str]) -> str:
        return self.add(self.dialect.templates[operation].format(*values))

    def number(self, value: float) -> str:
        return self.dialect.number(value)

    def add(self, expression: str) -> str:
        """Append a statement that computes ``expression``; return the name of its value."""
        name = f"v{len(self.statements)}"
        self.statements.append((name, expression))
        return name


class Symbol:
    """One element of an array, or a number that is a parameter of the kernel.

    ``text`` is its value in the language, the name of a statement's result or a literal; None
    before anything was written to it.
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
    symbols = [a for a in arguments if isinstance(a, Symbol)]
    if not symbols or len(arguments) != ARGUMENTS[name]:
        raise Untraceable(f"{name} of {len(arguments)} arguments")
    # NumPy computes with comparisons alone in another type than the arrays', except for logic.
    only_masks = all(isinstance(a, Symbol) and a.mask for a in arguments)
    if name not in COMPARISONS and only_masks != (name in LOGIC):
        raise Untraceable(f"{name} of comparisons")
    body = symbols[0].body
    value = body.apply(name, [body.text(a) for a in arguments])
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
        if name not in ARGUMENTS or name == "erf":  # erf is asked of ``ops``
            raise AttributeError(name)
        return partial(_apply, name)

    def zeros_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, a.body.text(0.0))

    def ones_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, a.body.text(1.0))

    def empty_like(self, a: Symbol) -> Symbol:
        return Symbol(a.body, None)

    def clip(self, a: Any, low: Any, high: Any, out: Symbol | None = None) -> Symbol:
        return _apply("minimum", _apply("maximum", a, low), high, out=out)


class SymbolicFunctions(Functions):
    """What a traced function is given as ``ops``."""

    xp = _Arrays()

    def erf(self, h: Symbol) -> Symbol:
        return _apply("erf", h)

    def axpy(self, a: Any, x: Symbol, y: Symbol) -> None:
        y += a * x


@dataclass(frozen=True)
class Traced:
    """What a function computes: its statements, and its result as an expression."""

    statements: Sequence[tuple[str, str]]
    value: str


def trace(
    function: Elementwise,
    dialect: Dialect,
    dtype: np.dtype,
    names: Sequence[str | None],
    out: bool = False,
) -> Traced:
    """Return what ``function(ops, *inputs[, out])`` computes of inputs called ``names``; None
    stands for an input that is not there.

    With ``out`` the function takes an array to write to. Raises Untraceable.
    """
    body = Statements(dtype, dialect)
    value = trace_into(body, function, names, out)
    return Traced(*_shortened(body.statements, value))


def trace_into(
    body: Body, function: Elementwise, names: Sequence[str | None], out: bool = False
) -> str:
    """Append to ``body`` what a function does, and return the name of its result.

    The arguments are those of `trace`. Raises Untraceable.
    """
    inputs = [None if name is None else Symbol(body, name, writable=False) for name in names]
    target = [Symbol(body, None)] if out else []
    try:
        return body.text(function(SymbolicFunctions(), *inputs, *target))
    except Exception as error:  # a plug-in may do anything to a symbol
        raise Untraceable(str(error)) from error


def _shortened(
    statements: Sequence[tuple[str, str]], value: str
) -> tuple[list[tuple[str, str]], str]:
    """Return those of ``statements`` that ``value`` needs, and the last one in its place."""
    needed = {value}
    kept: list[tuple[str, str]] = []
    for name, expression in reversed(statements):
        if name in needed:
            needed.update(re.findall(r"\w+", expression))
            kept.insert(0, (name, expression))
    if kept and kept[-1][0] == value:
        value = kept.pop()[1]
    return kept, value
