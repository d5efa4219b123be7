"""How exported files take the columns of a table: one module for each kind of column.

A module that defines ``FORM`` is found by itself, and serves the kind of
`gnopt.data.table.kinds` that has its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from gnopt.data.table.kinds import InputColumn
from gnopt.engine.arrays.functions import Array, Elementwise, Functions
from gnopt.errors import GnoptError
from gnopt.export.onnx_graph import Graph
from gnopt.registry import discover

LARGEST = float(np.finfo(np.float64).max)


class Feature(NamedTuple):
    """A number made of a cell h, and its derivative by h; functions that can be traced."""

    value: Elementwise
    slope: Elementwise


def is_known(ops: Functions, h: Array) -> Array:
    """Return whether h stands for a cell that is not missing."""
    return abs(h) <= LARGEST


def flat(ops: Functions, h: Array) -> Array:
    """Return the derivative of a number that changes by jumps alone."""
    return ops.xp.zeros_like(h)


def absent(ops: Functions, h: Array) -> Array:
    """Return 1 where a cell is missing, else 0."""
    return ops.xp.where(is_known(ops, h), 0.0, 1.0)


Column = TypeVar("Column", bound=InputColumn)


class ColumnForm(ABC, Generic[Column]):
    """The form of the columns of one kind."""

    name: ClassVar[str]
    cells: ClassVar[np.dtype]  # of the input of an ONNX model, (N, 1)

    @abstractmethod
    def onnx(self, column: Column, graph: Graph, source: str, result: str) -> None:
        """Append nodes that compute the column's numbers, (N, width) float64, called ``result``,
        from its cells, called ``source``.
        """

    @abstractmethod
    def features(self, column: Column) -> Sequence[Feature]:
        """Return how the column's numbers are computed from one number h, which stands for a cell;
        a number that is not finite stands for a missing cell.
        """

    @abstractmethod
    def told(self, column: Column) -> str:
        """Return what h is, in words."""


def form_of(column: InputColumn) -> ColumnForm[InputColumn]:
    """Return the form of a column; GnoptError if its kind has none."""
    forms: dict[str, ColumnForm[InputColumn]] = discover(__name__, "FORM")
    if column.kind not in forms:
        raise GnoptError(
            f"column {column.name!r}: columns of the kind '{column.kind}' have no form for this "
            f"format, only {', '.join(forms)}; export to .h5 or .npz"
        )
    return forms[column.kind]
