"""CSV files that grow by a row and survive a kill: plain header, full precision, empty = n/a."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

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


def cell(value: Any) -> str:
    """One CSV cell: the shortest text that reads back as the same number; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


class Table:
    """An open CSV file whose header was fixed by its first row; every row reaches the system at
    once.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._file = path.open("ab")
        if self._file.tell() == 0:
            self._write(self.columns)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; keys that are not columns are left out."""
        self._write([cell(row.get(name)) for name in self.columns])

    def _write(self, cells: Sequence[str]) -> None:
        self._file.write((",".join(cells) + "\n").encode())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def columns_for(fixed: Sequence[str], first_row: Mapping[str, Any]) -> tuple[str, ...]:
    """The fixed columns, then whatever else the first row holds, in its order."""
    return (*fixed, *(name for name in first_row if name not in fixed))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of a run, a last line cut short left out; empty where there is no
    file.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file: {error}") from error
    whole = text[: text.rfind("\n") + 1]
    return [
        row
        for row in csv.DictReader(io.StringIO(whole))
        if None not in row and None not in row.values()
    ]


def truncate(path: Path, keep: Callable[[int], bool], once: bool = False) -> None:
    """Drop the rows of ``path`` whose step is not to be kept, and with ``once`` all but the first
    row of a step.
    """
    rows = read_table(path)
    if not rows:
        path.unlink(missing_ok=True)
        return
    header = list(rows[0])
    if header[:1] != ["step"]:
        raise DataError(f"{path}: found the columns {', '.join(header)}; expected 'step' first")
    kept = [row for row in rows if row["step"].isdecimal() and keep(int(row["step"]))]
    if once:
        kept = list({row["step"]: row for row in reversed(kept)}.values())[::-1]
    lines = [header, *(list(row.values()) for row in kept)]
    write_text(path, "".join(",".join(line) + "\n" for line in lines))
