"""What every reader of a format returns, and what a format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, Protocol

from gnopt.data.roles import TableForm

if TYPE_CHECKING:
    import pandas as pd


Writer = Callable[["pd.DataFrame", IO[bytes], str], None]  # frame, open file, name of the file


@dataclass
class Table:
    """The columns of a file as a data frame, and what was found out while it was read.

    The index of the frame numbers the rows from 0, or holds the names of the rows where the file
    has names. ``first_line`` is the line of row 0 where the file is text, else 0.
    """

    path: Path
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    first_line: int = 0
    decimal: str = "."  # of numbers that are still text
    named: bool = True  # whether the file names its columns; else they are called 0, 1, ...

    def place(self, row: int) -> str:
        """Return where a row stands, for messages: row 0 of a CSV with a header is "line 2"."""
        return f"line {self.first_line + row}" if self.first_line else f"row {row} (from 0)"


class Format(Protocol):
    """One kind of file with a table in it."""

    name: ClassVar[str]  # in messages
    suffixes: ClassVar[tuple[str, ...]]  # that a file of this kind has

    def recognises(self, path: Path, head: bytes) -> bool:
        """Return whether a file with this path and these first bytes is of this kind."""

    def read(self, path: Path, form: TableForm) -> Table:
        """Read the whole table; DataError if it cannot be read."""

    @property
    def writer(self) -> Writer | None:
        """The function that writes a frame to a file, or None where there is none."""
