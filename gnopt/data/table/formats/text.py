"""Tables of text: CSV, TSV and their relatives, plain, in .gz or alone in a .zip.

What the file does not say is found out from its first lines: the encoding, the separator, the
decimal mark, and whether the first line holds names. Every choice that is not the usual one (UTF-8,
commas, points, a line of names) is noted.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from gnopt.data.roles import AUTO, TableForm
from gnopt.data.table.cells import MISSING, is_missing, parse_number
from gnopt.data.table.form import Table, Writer
from gnopt.errors import DataError
from gnopt.formatting import in_bytes
from gnopt.machine import free_memory

if TYPE_CHECKING:
    import pandas as pd

SPACE = "space"
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", SPACE: "space"}
_SAMPLE_BYTES, _SAMPLE_LINES = 2**18, 200
_PIECE = 2**22
# A table of text takes, while it is parsed, up to about this many times its size.
_PARSED = 4
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# How text begins that is no table: MAT files, JSON, XML, PDF.
_NO_TABLES = (b"MATLAB", b"{", b"[{", b"<?xml", b"<!DOCTYPE", b"<html", b"%PDF")
_Rows = list[list[str]]


@dataclass(frozen=True)
class Text:
    """A table as lines of cells."""

    name = "CSV"
    suffixes = (".csv", ".tsv", ".txt", ".dat", ".data", ".tab")

    def recognises(self, path: Path, head: bytes) -> bool:
        """Return whether the bytes are text, packed or not."""
        if head[:2] == b"\x1f\x8b":
            head = _unpacked_head(path, len(head))
        if head[:2] == b"PK":
            return _single_table(path) is not None
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return True
        binary = any(b < 9 or 13 < b < 27 for b in head)
        return bool(head.strip()) and not binary and not head.startswith(_NO_TABLES)

    def read(self, path: Path, form: TableForm) -> Table:
        packed = _content(path)
        content, encoding = _decoded(path, packed, form)
        wide = content is not packed
        content, skipped, form = _without_preface(content, form)
        sample = _sample(content, encoding, path)
        known = _find_form(sample, form, path)
        notes = _notes(known, form, path, sample)
        if wide:
            notes.insert(0, "the text is UTF-16 or UTF-32, as its mark says")
        if skipped:
            notes.insert(0, f"{skipped:,} lines before the table are left out")
        frame, first_line = _parse(path, content, encoding, known)
        first_line += skipped
        return Table(path, frame, notes, first_line, known.decimal, known.header == "yes")

    @property
    def writer(self) -> Writer | None:
        def write(frame: pd.DataFrame, file: IO[bytes], name: str) -> None:
            plain = name.lower().removesuffix(".gz")
            separator = "\t" if plain.endswith((".tsv", ".tab")) else ","
            text = frame.to_csv(index=False, sep=separator).encode()
            file.write(text if plain == name.lower() else gzip.compress(text, mtime=0))

        return write


FORMAT = Text()


# ---- bytes -----------------------------------------------------------------------------------


def _single_table(path: Path) -> str | None:
    """Return the one file of a zip archive that is a table of text, None if it is not like that."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
    except (OSError, zipfile.BadZipFile):
        return None
    return names[0] if len(names) == 1 and names[0].lower().endswith(Text.suffixes) else None


def _unpacked_head(path: Path, size: int) -> bytes:
    """Return the first bytes of what a .gz file holds, none where it is damaged or no text."""
    try:
        with gzip.open(path, "rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


def _content(path: Path) -> bytes:
    """Return the unpacked bytes; DataError if these need more than the free memory allows."""
    limit = free_memory() // _PARSED
    try:
        with open(path, "rb") as file:
            head = file.read(2)
            file.seek(0)
            if head == b"\x1f\x8b":
                return _limited(cast("IO[bytes]", gzip.open(file, "rb")), path, limit)
            if head == b"PK":
                with zipfile.ZipFile(file) as archive, archive.open(_single_table(path) or "") as f:
                    return _limited(f, path, limit)
            return _limited(file, path, limit)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, KeyError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _limited(file: IO[bytes], path: Path, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(_PIECE):
        size += len(part)
        if size > limit:
            raise DataError(
                f"{path}: more than {in_bytes(limit)} of text, for which the free memory is too "
                "small; expected a smaller file, or Parquet, or HDF5 (read in blocks)"
            )
        parts.append(part)
    return b"".join(parts)


def _decoded(path: Path, content: bytes, form: TableForm) -> tuple[bytes, str]:
    """Return content and the encoding to read it by; text of wide characters becomes UTF-8."""
    encoding = form.encoding
    wide = content.startswith(tuple(_MARKS)) or encoding.lower().startswith(("utf-16", "utf-32"))
    if b"\0" in content[:_SAMPLE_BYTES] and not wide:
        raise DataError(f"{path}: not a table of text: it holds NUL characters")
    if encoding == AUTO:
        marks = (name for mark, name in _MARKS.items() if content.startswith(mark))
        encoding = next(marks, "utf-8")
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(
            f"{path}: data.encoding = {encoding!r}: no such encoding; expected a name such as "
            "utf-8, latin-1, cp1252 or utf-16"
        ) from None
    try:
        if name.startswith(("utf-16", "utf-32")):
            text = content.decode(name)
            if "\0" in text:
                raise DataError(f"{path}: not a table of text: it holds NUL characters")
            return text.lstrip("\ufeff").encode(), "utf-8"
        if not content.isascii():
            content.decode(name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: not {name.upper()}: byte 0x{content[error.start]:02x} in line {line}; set "
            "data.encoding (--encoding of gnopt dataset import), such as latin-1 or cp1252"
        ) from error
    return content, name


def _without_preface(content: bytes, form: TableForm) -> tuple[bytes, int, TableForm]:
    """Return the text without comments (#) before the table, how many lines these are, and the form
    with the separator that a first line such as "sep=;", which Excel writes, tells.
    """
    skipped = 0
    start = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    while True:
        end = content.find(b"\n", start)
        line = content[start : end if end >= 0 else len(content)].strip()
        told = line[4:].decode(errors="replace") if line.lower().startswith(b"sep=") else ""
        if end < 0 or not (line.startswith(b"#") or len(told) == 1):
            return content[start:] if skipped else content, skipped, form
        if told and form.separator == AUTO:
            form = replace(form, separator=told)
        start, skipped = end + 1, skipped + 1


def _sample(content: bytes, encoding: str, path: Path) -> list[str]:
    """Return the first lines that are not blank."""
    piece = content[:_SAMPLE_BYTES]
    text = piece.decode(encoding, errors="ignore").lstrip("\ufeff")
    lines = text.splitlines()
    if len(content) > _SAMPLE_BYTES and len(lines) > 1:
        lines = lines[:-1]
    lines = [line for line in lines if line.strip()][:_SAMPLE_LINES]
    if not lines:
        raise DataError(f"{path}: the file has no rows; expected a table")
    return lines


# ---- form ------------------------------------------------------------------------------------


def _cells(lines: Sequence[str], separator: str) -> _Rows:
    if separator == SPACE:
        return [line.split() for line in lines]
    try:
        rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in rows if row]
    except csv.Error:
        return [[line] for line in lines]


def _find_form(lines: list[str], form: TableForm, path: Path) -> TableForm:
    """Return the form with all that "auto" left open found out from the first lines."""
    separators = list(_SEPARATORS)
    if form.separator != AUTO:
        named = {name: mark for mark, name in _SEPARATORS.items()}
        separators = [named.get(form.separator, form.separator.replace("\\t", "\t"))]
        if len(separators[0]) != 1 and separators[0] != SPACE:
            raise DataError(
                f"{path}: data.separator = {form.separator!r}: expected one character, or "
                f"{', '.join(_SEPARATORS.values())}"
            )
    best, found = (-1.0, -1.0, 0.0), replace(form, separator=",", decimal=".")
    for separator in separators:
        rows = _cells(lines, separator)
        for decimal in (".", ",") if form.decimal == AUTO else (form.decimal,):
            if separator == decimal:
                continue
            score = _fit(rows, decimal)
            if score > best:
                best, found = score, replace(form, separator=separator, decimal=decimal)
    rows = _cells(lines, found.separator)
    if form.header == AUTO:
        found = replace(found, header="yes" if _has_header(rows, found.decimal) else "no")
    return found


def _fit(rows: _Rows, decimal: str) -> tuple[float, float, float]:
    """Return how well a separator and a decimal mark explain the rows: larger is better.

    Rows of one width with several cells come first, then cells that are numbers, then many columns.
    Words that hold a separator between digits, such as "1;3", are no sign of a good choice.
    """
    widths = Counter(map(len, rows))
    width, times = widths.most_common(1)[0]
    regular = times / len(rows)
    if width < 2:
        return (0.0, 0.0, 0.0)
    body = [row for row in rows[1:] or rows if len(row) == width]
    cells = [cell for row in body for cell in row if not is_missing(cell)]
    numbers = sum(_number(cell, decimal) is not None for cell in cells) / max(1, len(cells))
    return (round(regular, 1), round(numbers, 3), float(width))


def _number(cell: str, decimal: str) -> float | None:
    """Return the number of a cell while the form is still open: "1,234" is not taken for 1.234."""
    if decimal == "," and "," in cell and "." not in cell:
        whole, _, fraction = cell.partition(",")
        if len(fraction) == 3 and fraction.isdigit() and whole.lstrip("+-").strip("0"):
            return None
    return parse_number(cell, decimal)


def _has_header(rows: _Rows, decimal: str) -> bool:
    """Return whether the first row holds the names of the columns.

    It does where it has a word above numbers; where its words are all different and none comes
    again below; or where it counts in equal steps through numbers unlike those below: the 0, 1, 2,
    ... of a frame without names, years, or wavelengths.
    """
    first, rest = rows[0], rows[1:]
    if len(first) < 1 or not rest:
        return not any(parse_number(cell, decimal) is not None for cell in first)
    width = max(len(row) for row in rest)
    # A line of names may be one shorter than the rows: R leaves the names of rows without a name.
    shift = width - len(first) if width == len(first) + 1 else 0
    columns = [
        [row[k + shift] for row in rest if k + shift < len(row) and not is_missing(row[k + shift])]
        for k in range(len(first))
    ]
    numbers = [parse_number(cell, decimal) for cell in first]
    below = [[parse_number(cell, decimal) for cell in column] for column in columns]
    numeric = [bool(column) and all(v is not None for v in column) for column in below]
    words = [k for k, v in enumerate(numbers) if v is None]
    if any(
        not is_missing(first[k])
        and len(below[k]) > 0
        and sum(v is not None for v in below[k]) >= 0.8 * len(below[k])
        for k in words
    ):
        return True
    counted = [k for k, v in enumerate(numbers) if v is not None]
    if len(counted) >= 2 and _counts([numbers[k] for k in counted]):
        if len(counted) >= 3 and [numbers[k] for k in counted] in (
            [float(k) for k in range(len(counted))],
            [float(k) for k in range(1, len(counted) + 1)],
        ):
            return True
        apart = [
            k
            for k in counted
            if numeric[k] and not _within(numbers[k], [v for v in below[k] if v is not None])
        ]
        return len(counted) >= 3 and len(apart) == len(counted)
    if counted:
        return False
    named = [cell for cell in first if not is_missing(cell)]
    return len(set(named)) == len(named) > 0 and not any(
        first[k] in columns[k] for k in range(len(first))
    )


def _counts(numbers: Sequence[float | None]) -> bool:
    steps = {b - a for a, b in pairwise(v for v in numbers if v is not None)}
    return len(steps) == 1 and steps != {0.0} and all(v == int(v) for v in numbers if v is not None)


def _within(value: float | None, below: list[float]) -> bool:
    return value is not None and min(below) <= value <= max(below)


def _notes(known: TableForm, form: TableForm, path: Path, sample: Sequence[str]) -> list[str]:
    """Return a line for each choice that was made for the user and is not the usual one."""
    notes = []
    if known.header == "yes":
        names = _cells(sample[:1], known.separator)[0]
        twice = [name for name, times in Counter(names).items() if times > 1 and name]
        notes += [f"several columns are called {name!r}: later ones get a number" for name in twice]
    name = path.name.lower()
    usual = "\t" if name.endswith((".tsv", ".tab")) else ","
    if form.separator == AUTO and known.separator != usual:
        notes.append(f"cells are separated by {_SEPARATORS[known.separator]}s (data.separator)")
    if form.decimal == AUTO and known.decimal == ",":
        notes.append('numbers have decimal commas (data.decimal = ",")')
    if form.header == AUTO and known.header == "no":
        notes.append(
            'the first line holds no names: columns are called 0, 1, ... (data.header = "yes" '
            "if it does)"
        )
    return notes


# ---- rows ------------------------------------------------------------------------------------


def _parse(path: Path, content: bytes, encoding: str, form: TableForm) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    names = form.header == "yes"
    separator = r"\s+" if form.separator == SPACE else form.separator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # columns of several types are dealt with below
            frame = pd.read_csv(
                io.BytesIO(content),
                sep=separator,
                header=0 if names else None,
                decimal=form.decimal,
                encoding=encoding,
                na_values=sorted(_spellings()),
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
                on_bad_lines="error",
            )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file has no rows; expected a table") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {_plain(error)}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not {encoding.upper()}: {error.reason}") from None
    except (MemoryError, OverflowError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not len(frame):
        raise DataError(f"{path}: has a line of names and no rows; expected rows below it")
    return frame, 2 if names else 1


def _spellings() -> Iterator[str]:
    """Yield the words for a missing value that are no part of a category's name, as written."""
    for word in MISSING - {"none"}:
        yield from {word, word.upper(), word.capitalize()}
    yield "NaN"


def _plain(error: Exception) -> str:
    """Say what pandas says of a line in the words of this project."""
    text = str(error).removeprefix("Error tokenizing data. C error: ").strip()
    words = text.split()
    if text.startswith("Expected") and len(words) >= 8:
        return f"line {words[5].rstrip(',')} has {words[7]} cells; expected {words[1]}"
    return f"cannot be read: {text}"
