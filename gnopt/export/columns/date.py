"""Dates, which exported files take as days since 1970-01-01; NaN stands for a missing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.data.table.kinds.date import Date
from gnopt.engine.arrays.functions import Array, Functions
from gnopt.export.columns import ColumnForm, Feature, absent, flat, is_known
from gnopt.export.onnx_graph import Graph, with_absent


class DateForm(ColumnForm[Date]):
    """The number of days, and whether it is missing."""

    name = "date"
    cells = np.dtype(np.float64)

    def onnx(self, column: Date, graph: Graph, source: str, result: str) -> None:
        days, gone = with_absent(graph, source, column.median, result)
        graph.joined([days, gone] if column.missing else [days], result)

    def features(self, column: Date) -> Sequence[Feature]:
        def value(ops: Functions, h: Array) -> Array:
            return ops.xp.where(is_known(ops, h), h, column.median)

        def slope(ops: Functions, h: Array) -> Array:
            return 1.0 - absent(ops, h)

        return [Feature(value, slope), *[Feature(absent, flat)] * column.missing]

    def told(self, column: Date) -> str:
        return f"days from 1970-01-01 to {column.name}"


FORM = DateForm()
