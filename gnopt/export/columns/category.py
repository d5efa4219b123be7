"""Words; an empty one stands for a missing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.data.table.cells import MISSING
from gnopt.data.table.kinds.category import Category
from gnopt.engine.arrays.functions import Array, Elementwise, Functions
from gnopt.export.columns import ColumnForm, Feature, absent, flat
from gnopt.export.onnx_graph import Graph

# The words for a missing cell as people write them.
ABSENT = sorted({form(word) for word in MISSING for form in (str, str.upper, str.capitalize)})


class CategoryForm(ColumnForm[Category]):
    """1 in the place of the word, 0 in the others."""

    name = "category"
    cells = np.dtype(object)

    def onnx(self, column: Category, graph: Graph, source: str, result: str) -> None:
        dtype = np.dtype(np.float64)
        known = graph.one_hot(source, column.levels, f"{result}_known")
        gone = graph.one_hot(source, ABSENT, f"{result}_absent")
        parts = [known]
        # By products with columns of ones, a row's numbers are added up.
        is_known, is_gone = (
            graph.node(
                "MatMul",
                [name, graph.constant(f"{name}_ones", np.ones((count, 1)), dtype)],
                f"{name}_any",
            )
            for name, count in ((known, len(column.levels)), (gone, len(ABSENT)))
        )
        if column.rare:
            one = graph.constant("one_row", 1.0, dtype)
            rest = graph.node("Sub", [one, is_known], f"{result}_unknown")
            parts.append(graph.node("Sub", [rest, is_gone], f"{result}_rare"))
        if column.missing:
            parts.append(is_gone)
        if not column.one_number:
            graph.joined(parts, result)
            return
        # A word that is neither of the two lies between them: 1/2 − first/2 + second/2.
        both = graph.joined(parts, f"{result}_both")
        apart = graph.constant("apart", np.array([[-0.5], [0.5]]), dtype)
        half = graph.constant("half_row", 0.5, dtype)
        difference = graph.node("MatMul", [both, apart], f"{result}_apart")
        graph.node("Add", [difference, half], result)

    def features(self, column: Category) -> Sequence[Feature]:
        last = len(column.levels) - 1.0

        def is_level(number: float) -> Elementwise:
            return lambda ops, h: ops.xp.where(h == number, 1.0, 0.0)

        def is_rare(ops: Functions, h: Array) -> Array:
            beside = ops.xp.where((h >= 0.0) & (h <= last), 0.0, 1.0)
            return beside - absent(ops, h)

        values: list[Elementwise] = [
            *(is_level(float(number)) for number in range(len(column.levels))),
            *[is_rare] * column.rare,
            *[absent] * column.missing,
        ]
        if column.one_number:
            first, second = values
            # A word that is neither of the two lies between them.
            values = [lambda ops, h: second(ops, h) * 0.5 - first(ops, h) * 0.5 + 0.5]
        return [Feature(value, flat) for value in values]

    def told(self, column: Category) -> str:
        words = ", ".join(f"{number} = {word}" for number, word in enumerate(column.levels))
        return f"the number of {column.name}: {words}, -1 = another word"


FORM = CategoryForm()
