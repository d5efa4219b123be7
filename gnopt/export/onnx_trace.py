"""ONNX nodes of an element-wise function that is traced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays.functions import Elementwise
from gnopt.engine.arrays.trace import COMPARISONS, Body, Untraceable, trace_into
from gnopt.export.onnx_graph import Graph

# NumPy's names and those of ONNX.
OPERATORS = {
    **dict.fromkeys(("absolute", "abs", "fabs"), "Abs"),
    **{name: name.capitalize() for name in ("exp", "log", "sqrt", "sin", "cos", "sinh", "cosh")},
    **{name: name.capitalize() for name in ("tanh", "erf", "reciprocal", "sign")},
    "arctan": "Atan",
    "arcsinh": "Asinh",
    "negative": "Neg",
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "true_divide": "Div",
    "power": "Pow",
    "maximum": "Max",
    "minimum": "Min",
    # Comparisons are held as numbers, 0 or 1.
    "bitwise_and": "Mul",
    "bitwise_or": "Max",
}
RELATIONS = dict(
    zip(
        COMPARISONS,
        ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Equal"),
        strict=True,
    )
)


class _Nodes(Body):
    """Nodes of a graph, whose values have names that start with ``prefix``."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        super().__init__(graph.dtype)
        self.graph, self.prefix, self.count = graph, prefix, 0

    def number(self, value: float) -> str:
        return self.graph.constant(f"number {value!r}", value)

    def apply(self, operation: str, values: Sequence[str]) -> str:
        if operation in OPERATORS:
            return self._node(OPERATORS[operation], *values)
        if operation in RELATIONS:
            holds = self.graph.cast(
                self._node(RELATIONS[operation], *values), self.dtype, self._name()
            )
            return self.apply("invert", [holds]) if operation == "not_equal" else holds
        if operation == "where":
            condition = self.graph.cast(values[0], np.dtype(bool), self._name())
            return self._node("Where", condition, *values[1:])
        one = self.number(1.0)
        match operation:
            case "square":
                return self._node("Mul", values[0], values[0])
            case "expm1":
                return self._node("Sub", self._node("Exp", values[0]), one)
            case "log1p":
                return self._node("Log", self._node("Add", values[0], one))
            case "invert":
                return self._node("Sub", one, values[0])
            case "bitwise_xor":
                return self._node("Abs", self._node("Sub", *values))
        raise NotImplementedError(operation)

    def _name(self) -> str:
        self.count += 1
        return f"{self.prefix}_{self.count}"

    def _node(self, operator: str, *values: str) -> str:
        return self.graph.node(operator, values, self._name())


def append_traced(
    graph: Graph, function: Elementwise, source: str, result: str, out: bool = False
) -> None:
    """Append nodes that compute ``result``, a function of ``source``; Untraceable, with the graph
    as it was, if the function cannot be traced.
    """
    nodes, tensors = len(graph.nodes), list(graph.tensors)
    try:
        value = trace_into(_Nodes(graph, result), function, [source], out)
    except Untraceable:
        del graph.nodes[nodes:]
        graph.tensors = {name: graph.tensors[name] for name in tensors}
        raise
    graph.node("Identity", [value], result)
