"""The ONNX form of a function: which ONNX operators compute it.

An activation and a loss carry their form as the fact ``onnx``. `gnopt.export.onnx` calls it with
the graph that it writes; nothing here knows the file format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np


class OnnxGraph(Protocol):
    """The graph that is being written: a form appends its nodes to it. Every value has a name."""

    def node(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: float | int
    ) -> str:
        """Append a node that computes ``output`` from ``inputs``, and return ``output``.

        A value is computed once: start the names of intermediate values with the name of your
        result, so that they differ from layer to layer.
        """
        ...

    def constant(self, name: str, value: np.ndarray | float) -> str:
        """Store a number or an array in the type of the weights as ``name``; return ``name``.

        Layers share constants: the same name may be stored again with the same value. GnoptError
        where the value is another one.
        """
        ...


# Append nodes that compute the value called by the second name from the one called by the first.
OnnxForm = Callable[[OnnxGraph, str, str], object]


class Operator:
    """The form of a function that is a single ONNX operator: ``Operator("Elu", alpha=1.0)``."""

    def __init__(self, name: str, **attributes: float | int) -> None:
        self.name, self.attributes = name, attributes

    def __call__(self, graph: OnnxGraph, source: str, result: str) -> str:
        """Append the operator as one node."""
        return graph.node(self.name, [source], result, **self.attributes)
