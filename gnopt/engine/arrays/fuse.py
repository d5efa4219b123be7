"""Element-wise functions as single kernels: a function is called once on symbols, and what it did
to them is the body.

A symbol stands for an element of an array. An operation on symbols adds a statement ``T v3 = v1 *
v2`` to the body; no value changes after that, and to write in place is to stand for another value.
The kernel writes its one output last, so that ``out`` may share the memory of an input. A function
that asks for more than is here (a shape, a sum, a branch on a value, a random number) fails while
it is traced, and is then left to run as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gnopt.engine.arrays.functions import Array, Elementwise, Functions
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
# Of comparisons, which are held as numbers, 0 or 1.
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
    # NaN goes through, as in NumPy: divergence is seen by it, and max(NaN, 0) of C++ is 0.
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
    """The function does what a kernel of one element cannot, or what is not known here."""


class Symbol:
    """What an array holds at one place: the name of a value or a literal; None where nothing was
    written yet.
    """

    __array_ufunc__ = None  # NumPy's own functions are not for it

    def __init__(
        self, body: list[str], text: str | None, writable: bool = True, mask: bool = False
    ) -> None:
        self.body, self.text, self.writable, self.mask = body, text, writable, mask

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis and index != slice(None):
            raise Untraceable("a part of an array is written")
        self.fill(value)

    def fill(self, value: Any) -> None:
        """Take a value: a number or that of another symbol."""
        if not self.writable:
            raise Untraceable("an input or a comparison is written to")
        self.text = _text(self.body, value)

    def __bool__(self) -> bool:
        raise Untraceable("a branch on a value")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable("a copy to the host")


def _text(body: list[str], value: Any) -> str:
    """A value in C++. A NumPy scalar is not taken for a number: it would make float32 arrays
    float64.
    """
    if isinstance(value, Symbol) and value.body is body and value.text is not None:
        return value.text
    if type(value) in (bool, int, float) and math.isfinite(value):
        return f"T({float(value)!r})"
    raise Untraceable(f"{value!r} is no number and no array of this function")


def _apply(name: str, *arguments: Any, out: Symbol | None = None) -> Symbol:
    """A ufunc of symbols and numbers: a new symbol, or ``out`` with another value."""
    if name == "power" and type(arguments[1]) in (int, float) and arguments[1] == 2:
        return _apply("square", arguments[0], out=out)
    template, symbols = TEMPLATES[name], [a for a in arguments if isinstance(a, Symbol)]
    if not symbols or len(arguments) != sum(f"{{{i}}}" in template for i in range(3)):
        raise Untraceable(f"{name} of {len(arguments)} arguments")
    # Of comparisons alone NumPy makes other types than the arrays', but for their logic.
    only_masks = all(isinstance(a, Symbol) and a.mask for a in arguments)
    if name not in COMPARISONS and only_masks != (name in LOGIC):
        raise Untraceable(f"{name} of comparisons")
    body = symbols[0].body
    expression = template.format(*(_text(body, a) for a in arguments))
    body.append(f"T v{len(body)} = {expression}")
    is_mask = name in COMPARISONS or name in LOGIC
    found = Symbol(body, body[-1].split()[1], writable=not is_mask, mask=is_mask)
    if out is None:
        return found
    out.fill(found)
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

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        if name not in TEMPLATES or name == "erf":  # which is the backend's
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


def softplus(ops: Any, h: Array) -> Array:
    """log(1 + exp(h)) as `Functions.softplus`, by log1p in either precision: a GPU has time for
    it.
    """
    xp = ops.xp
    return xp.maximum(h, 0.0) + xp.log1p(xp.exp(-xp.abs(h)))


class _Ops(Functions):
    """The array module of symbols and what functions ask of a backend beside it."""

    xp = _Arrays()

    def softplus(self, h: Symbol) -> Symbol:
        return softplus(self, h)

    def erf(self, h: Symbol) -> Symbol:
        return _apply("erf", h)

    def axpy(self, a: Any, x: Symbol, y: Symbol) -> None:
        y += a * x


def fuse(
    function: Elementwise, given: Sequence[bool], out: bool, product: bool = False
) -> Kernel | None:
    """The kernel y ← ``function(ops, *inputs[, out])``, or y ← y ⊙ it; None where it cannot be one.

    ``given`` says which inputs are arrays (the others are None), ``out`` whether the function takes
    an array to write to, which it must return then.
    """
    body: list[str] = []
    inputs = [
        Symbol(body, f"x{i}", writable=False) if there else None for i, there in enumerate(given)
    ]
    target = [Symbol(body, None)] if out else []
    try:
        found = function(_Ops(), *inputs, *target)
        if found.mask or (out and found is not target[0]):
            return None
        value = _text(body, found)
    except (
        Exception
    ):  # a plug-in may do anything to a symbol; on arrays it will do it right, or say what is wrong
        return None
    names = ", ".join(f"T {x.text}" for x in inputs if x is not None)
    return Kernel(
        names, "T y", "; ".join([*body, f"y = y * {value}" if product else f"y = {value}"])
    )
