"""Read CSV tables, with or without a header and gzip, in two passes and never as a whole."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np

from gnopt.data.formats import ImportSettings, Reader, listing
from gnopt.data.pictures import natural_key
from gnopt.data.rows import Rows, from_array, smallest
from gnopt.errors import DataError, nearest

_BLOCK = 2048
_Numbered = list[tuple[int, list[str]]]  # line number, cells


@dataclass(frozen=True)
class _Layout:
    path: Path
    delimiter: str
    header: list[str]  # empty where the file has none
    width: int


def open_csv(
    path: Path, inputs: str | None, targets: str | None, weights: str | None = None
) -> tuple[Rows, Rows | None]:
    """Open a table; ``inputs`` and ``targets`` are columns, by name or number, joined by commas.

    Columns count from 0, and -1 is the last. Without ``inputs``, these are all columns that are
    neither targets nor ``weights``, which are not read here. Whole numbers become integers. A
    target column of words becomes labels 0, 1, ... in the order of the words. Raises DataError with
    line and column.
    """
    layout = _layout(path)
    y_columns = _columns(layout, targets, "--targets") if targets is not None else []
    w_columns = _columns(layout, weights, "--weights") if weights is not None else []
    x_columns = (
        _columns(layout, inputs, "--inputs")
        if inputs is not None
        else [c for c in range(layout.width) if c not in (*y_columns, *w_columns)]
    )
    if not x_columns:
        raise DataError(f"{path}: no column is left for the inputs")
    rows, low, high, whole = 0, np.inf, -np.inf, True
    cells: list[str] = []  # of a single target column
    y_blocks: list[np.ndarray] = []  # of several
    words = False
    for block in _read(layout):
        x = _numbers(layout, block, x_columns)
        low, high = min(low, float(x.min())), max(high, float(x.max()))
        whole = whole and bool((x == np.rint(x)).all())
        rows += len(block)
        if len(y_columns) == 1:
            words = words or not all(_is_number(c[y_columns[0]]) for _, c in block)
            cells += [c[y_columns[0]].strip() for _, c in block]
        elif y_columns:
            y_blocks.append(_numbers(layout, block, y_columns))
    if rows == 0:
        raise DataError(f"{path}: has no rows of numbers")
    dtype = smallest(low, high) if whole else np.dtype(np.float64)

    def blocks(count: int) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        for block in _read(layout):
            waiting.append(_numbers(layout, block, x_columns).astype(dtype))
            while sum(map(len, waiting)) >= count:
                joined = np.concatenate(waiting)
                yield joined[:count]
                waiting = [joined[count:]]
        if any(map(len, waiting)):
            yield np.concatenate(waiting)

    x_rows = Rows(str(path), (rows, len(x_columns)), dtype, blocks).checked()
    where = f"{path}: targets"
    if words:
        return x_rows, _labels(cells, where)
    if not y_columns:
        return x_rows, None
    y = np.concatenate(y_blocks) if y_blocks else np.array(cells, dtype=np.float64)
    return x_rows, from_array(y, where).as_labels()


def _labels(cells: list[str], where: str) -> Rows:
    """Return a column of words as labels 0, 1, ... in the order of the words."""
    classes = sorted(set(cells), key=natural_key)
    if "" in classes:
        raise DataError(f"{where}: row {cells.index('')} (counted from 0) is empty")
    number = {word: k for k, word in enumerate(classes)}
    labels = from_array(
        np.array([number[c] for c in cells], dtype=smallest(0, len(classes))), where
    )
    return Rows(where, labels.shape, labels.dtype, labels.blocks, tuple(classes))


def _layout(path: Path) -> _Layout:
    with _opened(path) as file:
        try:
            first = file.readline()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a text file: {error}") from error
        if "\0" in first:
            raise DataError(
                f"{path}: not a text file; expected {listing()} or a folder of pictures"
            )
        delimiter = max(",;\t", key=first.count)
        cells = [c.strip() for c in next(csv.reader([first], delimiter=delimiter), [])]
    if not cells:
        raise DataError(f"{path}: the first line is empty; expected a header or numbers")
    header = [] if any(map(_is_number, cells)) else cells
    return _Layout(path, delimiter, header, len(cells))


def _opened(path: Path) -> IO[str]:
    try:
        with open(path, "rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        if packed:
            return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
        return open(path, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(layout: _Layout) -> Iterator[_Numbered]:
    """Yield blocks of rows with line numbers; DataError if a row is not as wide as the first."""
    with _opened(layout.path) as file:
        reader = csv.reader(file, delimiter=layout.delimiter)
        try:
            if layout.header:
                next(reader)
            while True:
                block = [
                    (reader.line_num, cells) for cells in itertools.islice(reader, _BLOCK) if cells
                ]
                for line, cells in block:
                    if len(cells) != layout.width:
                        raise DataError(
                            f"{layout.path}: line {line} has {len(cells)} cells; expected "
                            f"{layout.width}"
                        )
                if not block:
                    return
                yield block
        except (csv.Error, OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(
                f"{layout.path}: line {reader.line_num + 1} cannot be read: {error}"
            ) from error


def _numbers(layout: _Layout, block: _Numbered, columns: list[int]) -> np.ndarray:
    chosen = itemgetter(*columns)
    try:
        values = np.array([chosen(cells) for _, cells in block], dtype=np.float64)
        if np.isfinite(values).all():
            return values.reshape(len(block), len(columns))
    except ValueError:
        pass
    for line, cells in block:
        for c in columns:
            if not _is_number(cells[c]) or not np.isfinite(float(cells[c])):
                name = f" ({layout.header[c]})" if layout.header else ""
                found = f"'{cells[c]}'" if cells[c].strip() else "empty"
                raise DataError(
                    f"{layout.path}: line {line}, column {c}{name} is {found}; expected a finite "
                    "number (--inputs and --targets choose columns)"
                )
    raise AssertionError("a block that NumPy cannot read has a cell that is no number")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _columns(layout: _Layout, wanted: str, flag: str) -> list[int]:
    numbers = []
    for name in [wanted] if wanted in layout.header else [w.strip() for w in wanted.split(",")]:
        if name in layout.header:
            numbers.append(layout.header.index(name))
        elif name.lstrip("-").isdigit() and -layout.width <= int(name) < layout.width:
            numbers.append(int(name) % layout.width)
        else:
            known = f", or one of {', '.join(layout.header[:12])}" if layout.header else ""
            raise DataError(
                f"{layout.path}: {flag} {name}: no such column; expected 0 to "
                f"{layout.width - 1}{known}{nearest(name, layout.header)}"
            )
    return numbers


def _open_rows(path: Path, settings: ImportSettings) -> tuple[Rows, Rows | None]:
    return open_csv(path, settings.inputs, settings.targets, settings.weights)


READER = Reader("a CSV file", ("transpose",), lambda path, head: True, _open_rows)
