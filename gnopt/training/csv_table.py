"""CSV tables of a run: written a row at a time, and read even while they grow.

The header is plain, numbers have full precision, and an empty cell means "not applicable". A
process killed while writing leaves at most one incomplete last line, which readers leave out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np

from gnopt.errors import DataError
from gnopt.files import write_text

STEP_COLUMNS = (
    "step",
    "epoch",
    "examples",
    "seconds",
    "wall",
    "loss",
    "grad_norm",
    "step_norm",
    "lr",
    "alpha",
    "damping",
    "rho",
    "rejected",
)
EVAL_COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "train_loss",
    "train_error",
    "validation_loss",
    "validation_error",
)


Cell = str | float | None  # what one cell of a table is made of


def cell(value: Cell) -> str:
    """Return the text of a CSV cell: empty for None, and the shortest that keeps a number exact."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


class Table:
    """A CSV file open for appending; every row is flushed, so that a kill loses no earlier row."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._file = path.open("ab")
        if self._file.tell() == 0:
            self._write(self.columns)

    def append(self, row: Mapping[str, Cell]) -> None:
        """Write one row; values whose name is not a column are left out."""
        self._write([cell(row.get(name)) for name in self.columns])

    def _write(self, cells: Sequence[str]) -> None:
        self._file.write((",".join(cells) + "\n").encode())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def columns_for(fixed: Sequence[str], first_row: Mapping[str, Cell]) -> tuple[str, ...]:
    """Return the fixed columns, followed by the other names of the first row in their order."""
    return (*fixed, *(name for name in first_row if name not in fixed))


def widen(path: Path, columns: Sequence[str]) -> None:
    """Append those of ``columns`` that a table does not have yet, with empty cells so far."""
    header, *lines = _complete_lines(path).splitlines() or [""]
    new = [name for name in columns if name not in header.split(",")]
    if new:
        padding = "," * len(new)
        text = "".join(
            f"{line}\n"
            for line in [",".join([header, *new]), *(f"{line}{padding}" for line in lines)]
        )
        write_text(path, text)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table as text, {column: cell}; none if there is no file."""
    return [
        row
        for row in csv.DictReader(io.StringIO(_complete_lines(path)))
        if None not in row and None not in row.values()
    ]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of a table as float64, NaN where a cell is empty or the column absent.

    The columns are empty if there is no file. Raises DataError for a cell that is not a number.
    """
    header, *lines = _complete_lines(path).splitlines() or [""]
    columns = header.split(",")
    places = [columns.index(name) if name in columns else -1 for name in names]
    cells = [row for row in (line.split(",") for line in lines) if len(row) == len(columns)]
    try:
        return {
            name: np.array([float(row[i]) if i >= 0 and row[i] else np.nan for row in cells])
            for name, i in zip(names, places, strict=True)
        }
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _complete_lines(path: Path) -> str:
    """Return the text up to the last line break: a last line without one was cut short."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return text[: text.rfind("\n") + 1]


def truncate(path: Path, keep: Callable[[int], bool]) -> None:
    """Drop the rows of ``path`` for whose step ``keep`` is false; a run goes back to a step."""
    rows = read_table(path)
    if not rows:
        path.unlink(missing_ok=True)
        return
    header = list(rows[0])
    if header[:1] != ["step"]:
        raise DataError(f"{path}: found the columns {', '.join(header)}; expected 'step' first")
    kept = [row for row in rows if row["step"].isdecimal() and keep(int(row["step"]))]
    lines = [header, *(list(row.values()) for row in kept)]
    write_text(path, "".join(",".join(line) + "\n" for line in lines))
