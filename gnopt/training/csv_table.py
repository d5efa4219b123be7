"""CSV tables of a run: written a row at a time, and read even while they grow.

The header is plain, numbers have full precision, and an empty cell means "not applicable". A
process killed while writing leaves at most one incomplete last line, which readers leave out.
"""

from __future__ import annotations

import math
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np

from gnopt.errors import DataError
from gnopt.files import inside, naming, write_text

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


_BLOCK = 1 << 20  # bytes that are read at a time

Cell = str | float | None  # what one cell of a table is made of


def cell(value: Cell) -> str:
    """Return the text of a CSV cell: empty for None, and the shortest that keeps a number exact."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


@dataclass(frozen=True)
class Mark:
    """What the first lines of a table held when a checkpoint was written.

    The checksum (CRC-32) is over the first ``columns`` cells of each line, because a table may get
    more columns at its right when a run resumes.
    """

    lines: int = 0  # with the header; 0: there was no table
    columns: int = 0
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.lines} {self.columns} {self.checksum:08x}"

    @classmethod
    def read(cls, text: str) -> Mark:
        """Read back what ``str`` gave; ValueError for anything else."""
        lines, columns, checksum = text.split()
        return cls(int(lines), int(columns), int(checksum, 16))

    def after(self, text: bytes) -> Mark:
        """Return the mark with the lines of ``text`` added, each whole and of all columns."""
        if not text:
            return self
        return Mark(
            self.lines + text.count(b"\n"),
            self.columns or text.partition(b"\n")[0].count(b",") + 1,
            zlib.crc32(text, self.checksum),
        )

    def end_in(self, path: Path) -> int | None:
        """Return where these lines end in a table, in bytes, or None if it does not begin with
        them. The file is read as a stream. Names of columns without rows end at 0.
        """
        if self.lines <= 1:
            return 0
        found, end = Mark(), 0
        for piece in _pieces(path):
            left = self.lines - found.lines
            if piece.count(b"\n") > left:
                piece = b"".join(piece.splitlines(keepends=True)[:left])
            if found.columns == 0 and piece.partition(b"\n")[0].count(b",") + 1 > self.columns:
                return self._end_in_part(path)
            found, end = found.after(piece), end + len(piece)
            if found.lines == self.lines:
                break
        return end if found == self else None

    def _end_in_part(self, path: Path) -> int | None:
        """Return the same of a table that has got columns since."""
        found, end = Mark(), 0
        for piece in _pieces(path):
            for line in piece.splitlines(keepends=True):
                cells = line.rstrip(b"\n").split(b",")[: self.columns]
                found, end = found.after(b",".join(cells) + b"\n"), end + len(line)
                if found.lines == self.lines:
                    return end if found == self else None
        return None


def cut(path: Path, end: int) -> None:
    """Drop what follows the byte ``end`` of a table; with 0, the table."""
    if end:
        os.truncate(path, end)
    else:
        path.unlink(missing_ok=True)


class Table:
    """A CSV file open for appending; every row is flushed, so that a kill loses no earlier row.

    ``mark`` tells what it holds, and ``before`` what it held before the rows of the last step.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._step: str | None = None
        self.mark, self.before = Mark(), Mark()
        rest = b""
        if path.is_file():
            for piece in _pieces(path):
                # The last step may have several rows; they are few, and stand in the last piece.
                self.mark, rest = self.mark.after(rest), piece
        self._file = path.open("ab")
        if self._file.tell() == 0:
            self._write(self.columns)
        self.before = self.mark
        for line in rest.splitlines(keepends=True):
            self._count(line.decode(errors="replace").partition(",")[0], line)

    def append(self, row: Mapping[str, Cell]) -> None:
        """Write one row; values whose name is not a column are left out."""
        self._write([cell(row.get(name)) for name in self.columns])

    def _write(self, cells: Sequence[str]) -> None:
        line = (",".join(cells) + "\n").encode()
        with naming(self.path):
            self._file.write(line)
            self._file.flush()
        self._count(cells[0], line)

    def _count(self, step: str, line: bytes) -> None:
        if step != self._step:
            self.before, self._step = self.mark, step
        self.mark = self.mark.after(line)

    def marked(self, step: int) -> Mark:
        """Return the mark of all rows before ``step``, which is the last step or a later one."""
        return self.before if self._step == str(step) else self.mark

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def columns_for(fixed: Sequence[str], first_row: Mapping[str, Cell]) -> tuple[str, ...]:
    """Return the fixed columns, followed by the other names of the first row in their order."""
    return (*fixed, *(name for name in first_row if name not in fixed))


def widen(path: Path, columns: Sequence[str]) -> None:
    """Append those of ``columns`` that a table does not have yet, with empty cells so far."""
    header, *lines = [line.decode() for line in _lines(path)] or [""]
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
    header, *rows = [line.decode().split(",") for line in _lines(path)] or [[]]
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of a table as float64, NaN where a cell is empty or the column absent.

    The columns are empty if there is no file. The file is read as a stream. Raises DataError for a
    cell that is not a number.
    """
    found = {name: array("d") for name in names}
    for row in read_rows(path, names):
        for name, value in zip(names, row, strict=True):
            found[name].append(value)
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def read_rows(path: Path, names: Sequence[str]) -> Iterator[list[float]]:
    """Yield the numbers of these columns, a row at a time, as `read_columns` returns them."""
    lines = _lines(path)
    columns = next(lines, b"").decode().split(",")
    places = [columns.index(name) if name in columns else -1 for name in names]
    nan = math.nan
    try:
        for line in lines:
            row = line.split(b",")
            if len(row) == len(columns):
                yield [float(row[i]) if i >= 0 and row[i] else nan for i in places]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def last_row(path: Path) -> dict[str, str]:
    """Return the last complete row of a table as text, {column: cell}, from the end of the file;
    empty if there is none.
    """
    for line, _ in _backwards(path):
        header = _header(path)
        row = line.split(",")
        if len(row) == len(header):
            return dict(zip(header, row, strict=True))
    return {}


def _header(path: Path) -> list[str]:
    return next(_lines(path), b"").decode().split(",")


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the text up to the last line break in pieces of whole lines: a last line without a
    break was cut short. Yields nothing if there is no file. Raises DataError if it is no text.
    """
    rest = b""
    try:
        with inside(path.parent, path.name).open("rb") as file:
            while block := file.read(_BLOCK):
                end = block.rfind(b"\n") + 1
                if end:
                    piece, rest = rest + block[:end], block[end:]
                    piece.decode()
                    yield piece
                else:
                    rest += block
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines, without their breaks."""
    for piece in _pieces(path):
        yield from piece.splitlines()


def _backwards(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the complete lines below the header from the last to the first, each with the place of
    its first byte; DataError if the file is no text.
    """
    try:
        with inside(path.parent, path.name).open("rb") as file:
            start = file.seek(0, os.SEEK_END)
            tail, complete = b"", False
            while start > 0:
                size = min(_BLOCK, start)
                start = file.seek(start - size)
                tail = file.read(size) + tail
                first = 0 if start == 0 else tail.find(b"\n") + 1
                if start and not first:
                    continue
                places = [start + first]
                lines = tail[first:].splitlines(keepends=True)
                for line in lines:
                    places.append(places[-1] + len(line))
                for line, place in zip(reversed(lines), reversed(places[:-1]), strict=True):
                    complete = complete or line.endswith(b"\n")
                    if complete and place:
                        yield line.rstrip(b"\r\n").decode(), place
                tail = tail[:first]
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def truncate(path: Path, keep: Callable[[int], bool]) -> None:
    """Go back to a step: drop the rows at the end of ``path`` for whose step ``keep`` is false, and
    a line that was cut short. A table without rows is deleted.

    Only the end of the file is read. Raises DataError if it is no table of a run.
    """
    if not path.is_file():
        return
    header = next(_lines(path), b"")
    if header and header.split(b",")[0] != b"step":
        raise DataError(
            f"{path}: found the columns {header.decode().replace(',', ', ')}; expected 'step' first"
        )
    end = len(header) + 1
    for line, place in _backwards(path):
        step = line.partition(",")[0]
        if step.isdecimal() and keep(int(step)):
            end = place + len(line.encode()) + 1
            break
    else:
        path.unlink()
        return
    os.truncate(path, end)


def break_in(path: Path, steps: int) -> str | None:
    """Return why a table does not have one row for each of so many updates, in order, or None if it
    does. The file is read as a stream.
    """
    if not steps:
        return None
    if not path.is_file():
        return f"{path} is missing"
    last = 0
    lines = _lines(path)
    columns = next(lines, b"").count(b",") + 1
    for line in lines:
        step = line.partition(b",")[0]
        if line.count(b",") + 1 != columns or step != b"%d" % (last + 1):
            found = step.decode(errors="replace")
            return f"{path}: after the row of update {last} comes one that begins with {found!r}"
        last += 1
        if last == steps:
            return None
    return f"{path} ends at update {last}"
