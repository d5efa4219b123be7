"""Read tables for `gnopt dataset import`: encoded as training encodes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gnopt.data.formats import ImportSettings, Reader
from gnopt.data.held_out import mixed_order
from gnopt.data.roles import Roles, TableForm
from gnopt.data.rows import Rows, from_array, smallest
from gnopt.data.table.encoding import Encoding
from gnopt.data.table.reading import is_table, read_table
from gnopt.data.table.target import Target, missing_targets
from gnopt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableRows(Rows):
    """The inputs of a table, how its columns are encoded, and the weights beside them, (rows,)."""

    encoding: Encoding
    row_weights: np.ndarray | None = None


def open_table(
    path: Path, settings: ImportSettings, learnt: Encoding | None = None
) -> tuple[Rows, Rows | None]:
    """Open a table; ``inputs``, ``targets`` and ``weights`` are columns, by name or number, joined
    by commas.

    It is encoded as ``learnt`` says, or else as its own columns suggest. Rows are mixed
    if ``settings.mix`` is set, so that every part of them has its share of each class. Whole
    numbers become integers.
    """
    header, separator, decimal, encoding = settings.form
    table = read_table(path, TableForm(header, separator, decimal, encoding))
    notes = tuple(table.notes)
    if learnt is None:
        learnt = Encoding.learn(
            table,
            Roles(
                inputs=settings.inputs or "",
                targets=settings.targets or "",
                weights=settings.weights or "",
                drop=settings.drop or "",
                categories=settings.categories or "",
                exact=True,
                prefix="--",
            ),
        )
        notes = learnt.notes
    encoded = learnt.encode(table)
    notes = tuple(dict.fromkeys([*notes, *encoded.notes]))
    x, y, weights = _narrow(encoded.x), encoded.y, encoded.weights
    if settings.mix:
        key = y if y is not None and y.ndim == 1 else None
        order = mixed_order(len(x), 0, key)
        x = x[order]
        y = None if y is None else y[order]
        weights = None if weights is None else weights[order]
    plain = from_array(x, str(path))
    rows = TableRows(
        plain.where,
        plain.shape,
        plain.dtype,
        plain.blocks,
        notes=notes,
        encoding=learnt,
        row_weights=weights,
    )
    if y is None:
        return rows, None
    targets = from_array(_narrow(y), f"{path}: targets").as_labels()
    return rows, replace(targets, classes=learnt.classes)


def open_labels(path: Path) -> Rows:
    """Open a table whose columns are all targets, such as a file of labels."""
    table = read_table(path)
    target = Target.learn(table, list(map(str, table.frame.columns)))
    y = target.encode(table)
    y = y[~missing_targets(y)]
    if not len(y):
        raise DataError(f"{path}: no row has a target ({', '.join(target.names)})")
    return replace(from_array(_narrow(y), str(path)).as_labels(), classes=target.classes)


def _narrow(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as the smallest type of integers that holds them."""
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return values
    return values.astype(smallest(float(values.min()), float(values.max())))


READER = Reader("a table", ("transpose",), lambda path, head: is_table(path), open_table)
