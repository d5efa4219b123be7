"""Open a file with a table in it, whatever its format, and keep the names of its rows apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gnopt.data.roles import TableForm
from gnopt.data.table.form import Table
from gnopt.data.table.formats import all_formats, find_format
from gnopt.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# What the column is called that R, pandas and spreadsheets put the numbers of rows into.
_UNNAMED = re.compile(r"|unnamed: \d+|rownames|row\.?names?|index|__index_level_0__")
_HEAD = 256


def is_table(path: Path) -> bool:
    """Return whether the content of a file is a table; False for what cannot be opened."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return find_format(path, head) is not None


# The table that was read to decide how to train, for the training itself: (file, table).
_kept: list[tuple[tuple[object, ...], Table]] = []


def read_table(path: Path, form: TableForm | None = None, keep: bool = False) -> Table:
    """Read the table of a file; DataError if it has none or cannot be read.

    With ``keep`` it stays in memory until the file is read again.

    Names of columns become text without blanks around it, each used once. A first column without a
    name of its own that counts the rows becomes the index, as do names of rows.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise DataError(f"{path}: the file is empty; expected a table")
    state = path.stat()
    key = (path.resolve(), state.st_mtime_ns, state.st_size, form or TableForm())
    table = next((table for known, table in _kept if known == key), None)
    if table is None:
        found = find_format(path, head)
        if found is None:
            raise DataError(f"{path}: not a table; expected {', '.join(all_formats())}")
        table = tidy(found.read(path, form or TableForm()))
    _kept[:] = [(key, table)] if keep else []
    return replace(table, notes=list(table.notes))


def tidy(table: Table) -> Table:
    """Give the columns usable names and set the numbers of rows apart; the frame may be changed."""
    import pandas as pd

    frame = table.frame
    if isinstance(frame.columns, pd.MultiIndex):
        frame.columns = pd.Index([" ".join(map(str, name)).strip() for name in frame.columns])
    if not isinstance(frame.index, pd.RangeIndex):
        name = str(frame.index.name or "row")
        table.notes.append(f"the names of the rows ({name}) are no input")
        frame.index.name = name
    names: list[str] = []
    for name in frame.columns:
        text = str(name).strip()
        if text in names:
            number = 1
            while f"{text}.{number}" in names:
                number += 1
            table.notes.append(
                f"two columns are called {text!r}: the later one is used as {text}.{number}"
            )
            text = f"{text}.{number}"
        names.append(text)
    frame.columns = pd.Index(names, dtype=object)
    empty = [name for name in names if name.lower().startswith("unnamed:") and _empty(frame[name])]
    if empty:
        frame = frame.drop(columns=empty)  # a separator at the end of each line
    if table.named and len(frame.columns) > 1 and isinstance(frame.index, pd.RangeIndex):
        first = str(frame.columns[0])
        if _UNNAMED.fullmatch(first.lower()) and _counts_rows(frame[first]):
            shown = "without a name" if first.lower().startswith("unnamed") else repr(first)
            table.notes.append(f"the first column ({shown}) counts the rows: it is no input")
            frame = frame.set_index(first)
            frame.index.name = "row" if first.lower().startswith("unnamed") else first
    table.frame = frame
    return table


def _empty(series: pd.Series) -> bool:
    return bool(series.isna().all())


def _counts_rows(series: pd.Series) -> bool:
    """Return whether a column holds a different whole number, or a different word, in each row."""
    if not series.is_unique or series.isna().any():
        return False
    if series.dtype.kind not in "biuf":
        return True
    values = series.to_numpy(dtype=float)
    return bool((values == values.round()).all()) and bool((values[1:] > values[:-1]).all())
