"""Write columns that an example has made as a table of text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gnopt.files import write_text

Column = np.ndarray | Sequence[str]


def write_table(path: Path, columns: Mapping[str, Column]) -> None:
    """Write a CSV file with a header; NaN becomes an empty cell."""
    cells = [[_cell(value) for value in column] for column in columns.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*cells, strict=True))
    write_text(path, text.getvalue())


def with_gaps(column: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a column of numbers with a share of its cells missing (NaN)."""
    return np.where(rng.random(len(column)) < share, np.nan, column)


def _cell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)
