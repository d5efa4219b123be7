"""The procedure of one network in a source file, told once for all languages.

It adds the network's share of the prediction to y and, where that is wanted, its share of
J = ∂y/∂x to ``dydx``::

    a_0 = (x − mean) / std,   h_l = W_l a_{l-1} + b_l,   a_l = f_l(h_l),   p = prediction(h_L)

Slopes s_l = f_l'(h_l) are computed once; J is then made column by column (t_l = ∂h_l/∂x_j) or row
by row (v_l = ∂p_k/∂h_l).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from gnopt.engine.source_form import Coupled
from gnopt.export.source import ARRAYS, Scalar, Source, SourceColumns, SourceNetwork, used


class Writer(ABC):
    """Statements of one language, one line after the other.

    Indices are variables alone, so that it does not matter whether a language counts from 0.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        """Append a line at the present depth."""
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def indented(self, first: str, last: str) -> Iterator[None]:
        """Put what is appended inside between two lines, one level deeper."""
        self.line(first)
        self.depth += 1
        yield
        self.depth -= 1
        self.line(last)

    @abstractmethod
    def at(self, array: str, index: str = "i") -> str:
        """Return an element of a vector."""

    @abstractmethod
    def index(self, number: int) -> str:
        """Return the index of an element by its number, from 0."""

    @abstractmethod
    def choice(self, condition: str, one: str, other: str) -> str:
        """Return ``one`` where the condition holds, else ``other``."""

    @abstractmethod
    def of_weights(self, array: str, row: str, column: str, columns: int) -> str:
        """Return an element of the weights of a layer, which has so many columns."""

    @abstractmethod
    def of_jacobian(self, row: str, column: str, columns: int) -> str:
        """Return an element of ``dydx``, which has so many columns."""

    @abstractmethod
    def declare(self, array: str, width: int) -> None:
        """Declare a vector of local variables."""

    @abstractmethod
    def assign(self, target: str, expression: str) -> None:
        """Append an assignment."""

    @abstractmethod
    def call(self, procedure: str, *arguments: str | int) -> None:
        """Append a call of a procedure of this file."""

    @abstractmethod
    def value(self, function: str, *arguments: str) -> str:
        """Return the value of a function of this file."""

    @abstractmethod
    def own(self, name: str) -> str:
        """Return the full name of an array of this file."""

    @abstractmethod
    def loop(self, variable: str, count: int) -> AbstractContextManager[None]:
        """Repeat what is appended inside for every index of ``count``."""

    @abstractmethod
    def end_unless_wanted(self) -> None:
        """Leave the procedure if nobody wants ``dydx``."""

    def each(self, target: str, width: int, expression: str) -> None:
        """Assign ``expression`` to every element i of ``target``."""
        with self.loop("i", width):
            self.assign(self.at(target), expression)


class Procedure:
    """Appends the statements of one network to ``writer``."""

    def __init__(self, source: Source, network: SourceNetwork, writer: Writer) -> None:
        self.source, self.network, self.writer = source, network, writer
        self.sizes, self.last = network.sizes, len(network.weights)

    def write(self) -> None:
        """Append all of it."""
        self._forward()
        self.writer.end_unless_wanted()
        self._slopes()
        if self.source.by_columns:
            self._columns()
        else:
            self._rows()

    def _array(self, part: str) -> str:
        return self.writer.own(f"{self.network.name}_{part}")

    def _function(self, layer: int) -> Scalar | None:
        """Return the function of a layer, the prediction's after the last; None if there is nothing
        to compute, or outputs are coupled.
        """
        functions = [*self.network.functions, self.source.link]
        found = functions[layer - 1]
        return found if isinstance(found, Scalar) and not found.identity else None

    def _output(self, layer: int) -> str:
        """Return the vector that leaves a layer: a_l, or h_l where this is the same."""
        if layer == 0:
            return self._given if self.network.statistics is None else "a0"
        if layer == self.last:
            return (
                "p"
                if self._function(layer) or isinstance(self.source.link, Coupled)
                else f"h{layer}"
            )
        return f"a{layer}" if self._function(layer) else f"h{layer}"

    @property
    def _given(self) -> str:
        """The vector of the network's inputs before they are standardised."""
        return "x" if self.source.columns is None else "e"

    def _unscaled(self, derivative: str, index: str) -> str:
        """Return a derivative by a standardised input as one by the input."""
        if self.network.statistics is None:
            return derivative
        return f"{derivative} / {self.writer.at(self._array('std'), index)}"

    def _apply(self, kind: str, function: Scalar, layer: int) -> str:
        arguments = {"h": f"h{layer}", "a": self._output(layer)}
        names = function.arguments(kind)
        values = [self.writer.at(arguments[name]) for name in names]
        return self.writer.value(f"{kind}_{function.name}", *values)

    def _coupled(self, kind: str, body: str, **arrays: str) -> None:
        given: dict[str, str | int] = {
            "n": self.sizes[-1],
            "h": f"h{self.last}",
            "y": "p",
            **arrays,
        }
        self.writer.call(kind, *(given[name] for name in used(body, ARRAYS)))

    def _share(self, expression: str) -> str:
        share = self.source.share
        return expression if share == 1.0 else f"{self.source.number(share)} * {expression}"

    def _forward(self) -> None:
        w = self.writer
        if self.source.columns is not None:
            w.declare("e", self.sizes[0])
            w.call("encode", "x", "e")
        if self.network.statistics is not None:
            w.declare("a0", self.sizes[0])
            mean, std = w.at(self._array("mean")), w.at(self._array("std"))
            w.each("a0", self.sizes[0], f"({w.at(self._given)} - {mean}) / {std}")
        for layer in range(1, self.last + 1):
            width, function = self.sizes[layer], self._function(layer)
            w.declare(f"h{layer}", width)
            numbers = self._array(f"w{layer}"), self._array(f"b{layer}")
            w.call(
                "affine",
                width,
                self.sizes[layer - 1],
                *numbers,
                self._output(layer - 1),
                f"h{layer}",
            )
            if function is not None:
                w.declare(self._output(layer), width)
                w.each(self._output(layer), width, self._apply("f", function, layer))
        link = self.source.link
        if isinstance(link, Coupled):
            w.declare("p", self.source.outputs)
            self._coupled("predicted", link.value)
        y = w.at("y")
        w.each("y", self.source.outputs, f"{y} + {self._share(w.at(self._output(self.last)))}")

    def _slopes(self) -> None:
        if self.source.columns is not None:
            self.writer.declare("g", self.sizes[0])
            self.writer.call("encode_slopes", "x", "g")
        for layer in range(1, self.last + 1):
            function = self._function(layer)
            if function is not None:
                self.writer.declare(f"s{layer}", self.sizes[layer])
                slope = self._apply("df", function, layer)
                self.writer.each(f"s{layer}", self.sizes[layer], slope)

    def _times_slope(self, array: str, layer: int) -> None:
        if self._function(layer) is not None:
            w = self.writer
            w.each(array, self.sizes[layer], f"{w.at(array)} * {w.at(f's{layer}')}")

    def _add_to_jacobian(self, row: str, column: str, count: int, derivative: str) -> None:
        w = self.writer
        element = w.of_jacobian(row, column, self.source.inputs)
        with w.loop("i", count):
            w.assign(element, f"{element} + {self._share(derivative)}")

    def _columns(self) -> None:
        w, link = self.writer, self.source.link
        for layer in range(int(self.source.columns is None), self.last + 1):
            w.declare(f"t{layer}", self.sizes[layer])
        if isinstance(link, Coupled):
            w.declare("dp", self.source.outputs)
        with w.loop("j", self.source.inputs):
            if self.source.columns is None:
                weight = w.of_weights(self._array("w1"), "i", "j", self.sizes[0])
                w.each("t1", self.sizes[1], self._unscaled(weight, "j"))
            else:
                owned = f"{w.at(w.own('owner'))} == j"
                slope = w.choice(owned, w.at("g"), self.source.number(0.0))
                w.each("t0", self.sizes[0], self._unscaled(f"({slope})", "i"))
                w.call("linear", self.sizes[1], self.sizes[0], self._array("w1"), "t0", "t1")
            self._times_slope("t1", 1)
            for layer in range(2, self.last + 1):
                shape = self.sizes[layer], self.sizes[layer - 1]
                w.call("linear", *shape, self._array(f"w{layer}"), f"t{layer - 1}", f"t{layer}")
                self._times_slope(f"t{layer}", layer)
            result = f"t{self.last}"
            if isinstance(link, Coupled):
                result = "dp"
                self._coupled("push", link.push, dh=f"t{self.last}", dy="dp")
            self._add_to_jacobian("i", "j", self.source.outputs, w.at(result))

    def _rows(self) -> None:
        w, link = self.writer, self.source.link
        for layer in range(self.last + 1):
            w.declare(f"v{layer}", self.sizes[layer])
        unit = f"v{self.last}"
        if isinstance(link, Coupled):
            unit = "dp"
            w.declare("dp", self.source.outputs)
        with w.loop("k", self.source.outputs):
            w.each(unit, self.source.outputs, self.source.number(0.0))
            w.assign(w.at(unit, "k"), self.source.number(1.0))
            if isinstance(link, Coupled):
                self._coupled("pull", link.pull, dy="dp", dh=f"v{self.last}")
            for layer in range(self.last, 0, -1):
                self._times_slope(f"v{layer}", layer)
                shape = self.sizes[layer], self.sizes[layer - 1]
                w.call("transposed", *shape, self._array(f"w{layer}"), f"v{layer}", f"v{layer - 1}")
            derivative, column = w.at("v0"), "i"
            if self.source.columns is not None:
                derivative, column = f"{derivative} * {w.at('g')}", w.at(w.own("owner"))
            derivative = self._unscaled(derivative, "i")
            self._add_to_jacobian("k", column, self.sizes[0], derivative)


def write_encoding(columns: SourceColumns, kind: str, writer: Writer) -> None:
    """Append the statements that compute the features of the columns x, or, with the kind "df",
    their derivatives by the columns that they are made of, into e.
    """
    for number, (feature, owner) in enumerate(zip(columns.features, columns.owners, strict=True)):
        traced, arguments = feature.part(kind), feature.arguments(kind)
        value = traced.value
        if arguments or traced.statements:
            cells = [writer.at("x", writer.index(owner)) for _ in arguments]
            value = writer.value(f"{kind}_{feature.name}", *cells)
        writer.assign(writer.at("e", writer.index(number)), value)
