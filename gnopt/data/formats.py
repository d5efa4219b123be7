"""The file formats that ``gnopt dataset import`` reads: one list, for dispatch and for messages.

A format is read by a module of this package that defines ``READER``. Adding a format means writing
such a module and adding a line to ``FORMATS``. This module imports nothing, so that the help of the
command line can name the formats without loading NumPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gnopt.data.rows import Rows

# Name in messages → module, in the order in which they are asked whether a file is theirs.
FORMATS = {
    "CSV": "table_rows",
    "Parquet": "table_rows",
    "Feather": "table_rows",
    "Excel": "table_rows",
    "IDX": "idx",
    "NPY": "array_files",
    "NPZ": "array_files",
    "MAT": "array_files",
    "HDF5": "array_files",
}


@dataclass(frozen=True)
class ImportSettings:
    """How to read a source of data; a setting that a format does not know must be left out."""

    inputs: str | None = None  # name of an array, or columns
    targets: str | None = None
    transpose: bool = False  # data points are along the last axis
    size: tuple[int, int] | None = None  # (width, height) to resize pictures to
    color: bool = False  # keep pictures in color
    weights: str | None = None  # name of an array, or a column, with the weight of each row
    drop: str | None = None  # columns of a table that are no inputs
    categories: str | None = None  # columns of a table whose numbers stand for words
    # Header, separator, decimal mark and encoding of a table of text (see gnopt.data.roles).
    form: tuple[str, str, str, str] = ("auto", "auto", "auto", "auto")
    mix: bool = False  # take the rows of a table in an order that is drawn

    def of_weights(self) -> ImportSettings:
        """Return the settings that read the weights as if they were inputs."""
        return replace(self, inputs=self.weights, targets=None, weights=None)


@dataclass(frozen=True)
class Reader:
    """How a module reads one or several formats."""

    kind: str  # for messages, such as "an IDX file"
    unknown: tuple[str, ...]  # settings that mean nothing for this kind
    recognises: Callable[[Path, bytes], bool]  # from the path and the first bytes of a file
    open_rows: Callable[[Path, ImportSettings], tuple[Rows, Rows | None]]  # inputs and targets


def listing(*more: str) -> str:
    """Return the names of the formats, and ``more``, joined by commas."""
    return ", ".join([*FORMATS, *more])


def find_reader(path: Path, head: bytes) -> Reader | None:
    """Return the reader for a file that starts with the bytes ``head``; None if there is none."""
    readers = map(_reader, dict.fromkeys(FORMATS.values()))
    return next((reader for reader in readers if reader.recognises(path, head)), None)


def _reader(module: str) -> Reader:
    reader: Reader = importlib.import_module(f"gnopt.data.{module}").READER
    return reader
