"""Numbers; NaN stands for a missing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.data.table.kinds.number import Number
from gnopt.engine.arrays.functions import Array, Functions
from gnopt.export.columns import ColumnForm, Feature, absent, flat, is_known
from gnopt.export.onnx_graph import Graph, with_absent


class NumberForm(ColumnForm[Number]):
    """x or asinh((x − center) / spread), and whether it is missing."""

    name = "number"
    cells = np.dtype(np.float64)

    def onnx(self, column: Number, graph: Graph, source: str, result: str) -> None:
        x, gone = with_absent(graph, source, column.median, result)
        if column.spread:
            center = graph.constant(f"{result}_center", column.center, self.cells)
            spread = graph.constant(f"{result}_spread", column.spread, self.cells)
            centred = graph.node("Sub", [x, center], f"{result}_centred")
            scaled = graph.node("Div", [centred, spread], f"{result}_scaled")
            narrow = graph.cast(scaled, graph.dtype, f"{result}_narrow")
            made = graph.node("Asinh", [narrow], f"{result}_asinh")
            x = graph.cast(made, self.cells, f"{result}_compressed")
        graph.joined([x, gone] if column.missing else [x], result)

    def features(self, column: Number) -> Sequence[Feature]:
        def scaled(ops: Functions, h: Array) -> Array:
            known = ops.xp.where(is_known(ops, h), h, column.median)
            return (known - column.center) / column.spread if column.spread else known

        def value(ops: Functions, h: Array) -> Array:
            return ops.xp.arcsinh(scaled(ops, h)) if column.spread else scaled(ops, h)

        def slope(ops: Functions, h: Array) -> Array:
            known = 1.0 - absent(ops, h)
            if not column.spread:
                return known
            u = scaled(ops, h)
            return known / (column.spread * ops.xp.sqrt(u * u + 1.0))

        return [Feature(value, slope), *[Feature(absent, flat)] * column.missing]

    def told(self, column: Number) -> str:
        return column.name


FORM = NumberForm()
