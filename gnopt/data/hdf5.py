"""Find and check datasets in HDF5 files, and say in one sentence why one cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt.data.filters import compression, missing_filter
from gnopt.data.formats import listing
from gnopt.data.links import refuse_links
from gnopt.data.rows import as_text, picture_scale
from gnopt.data.views import (
    MATLAB_INSIDE,
    Stored,
    Unreadable,
    as_rows,
    field_at,
    is_array,
    signal_of,
)
from gnopt.errors import DataError, nearest

_SHOWN = 12  # names listed in an error, at most
# h5py raises these for damaged files.
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def open_file(path: Path, follow_links: bool = False) -> h5py.File:
    """Open an HDF5 file for reading; DataError says what ``path`` is if it is not such a file.

    Unless ``follow_links``, a file whose datasets are in other files is refused.
    """
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file{_neighbour(path)}")
        if not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise DataError(f"{path}: is {kind}; expected an HDF5 file")
        with open(path, "rb") as handle:
            empty = not handle.read(1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if empty:
        raise DataError(f"{path}: the file is empty; expected an HDF5 file")
    if not h5py.is_hdf5(path):
        raise DataError(
            f"{path}: not an HDF5 file; `gnopt dataset import` converts {listing()} and folders of "
            "images"
        )
    try:
        file = h5py.File(path, "r")
    except _FAILURES as error:
        raise DataError(f"{path}: damaged or truncated HDF5 file: {_reason(error)}") from error
    if not follow_links:
        try:
            refuse_links(file)
        except BaseException:
            file.close()
            raise
    return file


def _neighbour(path: Path) -> str:
    try:
        return nearest(path.name, sorted(p.name for p in path.parent.iterdir()))
    except OSError:
        return "" if path.parent.exists() else f" (nor the folder {path.parent})"


def _reason(error: BaseException) -> str:
    lines = str(error.args[0] if error.args else error).splitlines()
    return lines[0] if lines else type(error).__name__


def is_group(handle: h5py.File, name: str) -> bool:
    """Return whether ``name`` is a group of the file; a broken link is not."""
    try:
        return isinstance(handle.get(name), h5py.Group)
    except _FAILURES:
        return False


def holds(handle: h5py.File, name: str) -> bool:
    """Return whether the file has a link called ``name``, broken or not."""
    try:
        return handle.get(name, getlink=True) is not None
    except _FAILURES:
        return False


def datasets(handle: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield (path, dataset) for every dataset of the file, in the order of the file."""
    names: list[str] = []
    try:
        handle.visit(names.append)
    except _FAILURES as error:
        raise DataError(f"{handle.filename}: damaged HDF5 file: {_reason(error)}") from error
    for name in names:
        try:
            node = handle[name]
        except _FAILURES:
            continue
        if isinstance(node, h5py.Dataset) and not name.startswith(MATLAB_INSIDE):
            yield name, node


def array_paths(handle: h5py.File) -> list[str]:
    """Return the path of every dataset, and of every group that is one array, as MATLAB and Octave
    write them.
    """
    groups: list[str] = []
    handle.visititems(lambda name, node: groups.append(name) if is_array(node) else None)
    inside = tuple(f"{name}/" for name in groups)
    return groups + [name for name, _ in datasets(handle) if not name.startswith(inside)]


def stored_at(handle: h5py.File, path: str) -> Stored:
    """Return what is at ``path`` as rows: a dataset, a field of records, or an array of MATLAB.

    Raises DataError if there is nothing, or nothing that can be read here.
    """
    field = None if holds(handle, path) else field_at(handle, path)
    if field is not None:
        return field
    whole = handle[path] if is_group(handle, path) else None
    signal = signal_of(whole) if whole is not None else None
    node: h5py.Dataset | h5py.Group = (
        whole if is_array(whole) else find(handle, path if signal is None else str(signal.name))
    )
    name = f"{handle.filename}: {node.name}"
    missing = missing_filter(node) if isinstance(node, h5py.Dataset) else None
    if missing is not None:
        raise DataError(f"{name} is {missing}")
    try:
        return as_rows(handle, node)
    except Unreadable as error:
        raise DataError(f"{name} is {error}; expected numbers") from error
    except _FAILURES as error:
        raise DataError(f"{name} cannot be read: {_reason(error)}") from error


def find(handle: h5py.File, path: str) -> h5py.Dataset:
    """Return the dataset at ``path``; DataError lists what the file holds and the nearest name."""
    try:
        node = handle[path]
    except _FAILURES as error:
        raise DataError(f"{handle.filename}: {_absence(handle, path)}") from error
    if not isinstance(node, h5py.Dataset):
        members = list(node)[:_SHOWN] if isinstance(node, h5py.Group) else []
        inside = ", ".join(f"{path}/{name}" for name in members)
        raise DataError(
            f"{handle.filename}: /{path} is a {type(node).__name__.lower()}; expected a dataset"
            + (f" such as {inside}" if inside else "")
        )
    missing = _missing_source(handle, node)
    if missing:
        raise DataError(
            f"{handle.filename}: /{path} is a virtual dataset over {missing}, which does not exist"
        )
    return node


def _absence(handle: h5py.File, path: str) -> str:
    link = None
    if holds(handle, path):
        link = handle.get(path, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return (
            f"/{path} is a link to /{link.path.lstrip('/')} of {link.filename}, "
            "which cannot be opened"
        )
    if isinstance(link, h5py.SoftLink):
        return f"/{path} is a link to {link.path}, which does not exist"
    names = [name for name, _ in datasets(handle)]
    listing = ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
    return (
        f"no dataset /{path}; the file holds {listing or 'no dataset at all'}{nearest(path, names)}"
    )


def _missing_source(handle: h5py.File, dataset: h5py.Dataset) -> str | None:
    # HDF5 silently reads fill values where a source of a virtual dataset is absent
    if not dataset.is_virtual:
        return None
    folder = Path(handle.filename).resolve().parent
    for source in dataset.virtual_sources():
        name = str(source.file_name)
        if name != "." and "%" not in name and not (folder / name).exists():
            return name
    return None


# Bytes of a piece of the file that is read to take chosen rows out of it.
_PIECE_BYTES = 4 * 2**20


def class_names(dataset: Stored) -> tuple[str, ...]:
    """Return the names of labels 0, 1, ... that the attribute ``classes`` lists, or none."""
    names = np.ravel(dataset.attrs.get("classes", []))
    return tuple(map(as_text, names.tolist()))


def is_text(dataset: Stored) -> bool:
    """Return whether a dataset holds words, of a fixed length or of any."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def read_words(column: Column, start: int, stop: int) -> np.ndarray:
    """Return rows ``start .. stop`` of a dataset of words as text, (rows,) of objects.

    Raises DataError if the file is damaged, or for an empty word.
    """
    raw = column.read(start, stop).reshape(-1).tolist()
    texts = {word: as_text(word) for word in dict.fromkeys(raw)}
    words = np.empty(len(raw), dtype=object)
    words[:] = list(map(texts.__getitem__, raw))
    if "" in texts.values():
        row = column.number(start + int(np.argmax(words == "")))
        raise DataError(f"{column.file}: {column.path}: row {row} (counted from 0) is empty")
    return words


@dataclass(frozen=True)
class Column:
    """Rows ``first .. first + rows`` of a dataset, each flattened to ``width`` numbers.

    With ``chosen``, they are the rows of these numbers, counted from ``first``, in ascending order;
    a number may come several times.
    """

    file: str
    dataset: Stored
    scale: float  # a stored number times ``scale`` is the number that is meant
    first: int
    rows: int
    limit: float  # largest magnitude that the float type in use can hold
    chosen: np.ndarray | None = None  # (rows,)

    def __post_init__(self) -> None:
        """Ask the dataset for all that is known of it, which is then known of a closed file too."""
        _ = self.path, self.shape, self.dtype

    @cached_property
    def path(self) -> str:
        """The name of the dataset."""
        return str(self.dataset.name)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.dataset.shape[1:])

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers as they are stored."""
        dtype: np.dtype[Any] = np.dtype(self.dataset.dtype)
        return dtype.newbyteorder("=") if dtype.kind in "iuf" else dtype

    @property
    def row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def part(self, first: int, rows: int) -> Column:
        """Return the ``rows`` rows from ``first`` on."""
        if self.chosen is not None:
            return self.take(np.arange(first, first + rows))
        return replace(self, first=self.first + first, rows=rows)

    def take(self, numbers: np.ndarray) -> Column:
        """Return the rows of these numbers, which ascend and may come several times."""
        chosen = numbers if self.chosen is None else self.chosen[numbers]
        return replace(self, rows=len(chosen), chosen=chosen)

    def number(self, row: int) -> int:
        """Return the number in the dataset of the row at a place of this column."""
        return self.first + (row if self.chosen is None else int(self.chosen[row]))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start .. stop`` as stored.

        Raises DataError if the file is damaged, or for NaN, infinity or a number too large.
        """
        buffer = self.empty(stop - start)
        self.read_into(buffer, 0, start, stop)
        return buffer

    def empty(self, rows: int) -> np.ndarray:
        """Return an uninitialised buffer of ``rows`` rows; DataError if it does not fit."""
        try:
            return np.empty((rows, self.width), self.dtype)
        except (MemoryError, ValueError) as error:
            raise DataError(
                f"{self.file}: {self.path}: {rows:,} rows of {self.row_bytes:,} bytes do not fit "
                "in memory; set data.memory lower"
            ) from error

    def read_into(self, buffer: np.ndarray, at: int, start: int, stop: int) -> None:
        """Read rows ``start .. stop`` into ``buffer[at:]``, and check them as `read` does."""
        if self.chosen is None:
            self._read_range(buffer, at, start, stop)
            return
        wanted = self.chosen[start:stop]
        piece_rows = max(1, _PIECE_BYTES // self.row_bytes)
        begun = 0
        while begun < len(wanted):
            low = int(wanted[begun])
            ended = int(np.searchsorted(wanted, low + piece_rows))
            piece = self.empty(int(wanted[ended - 1]) + 1 - low)
            self._read_range(piece, 0, low, low + len(piece))
            buffer[at + begun : at + ended] = piece[wanted[begun:ended] - low]
            begun = ended

    def _read_range(self, buffer: np.ndarray, at: int, start: int, stop: int) -> None:
        """Read rows ``start .. stop`` from ``first`` on, chosen or not."""
        if stop <= start:
            return
        view = buffer.reshape(len(buffer), *self.shape)
        rows = slice(self.first + start, self.first + stop)
        try:
            self.dataset.read_direct(view, np.s_[rows], np.s_[at : at + stop - start])
        except _FAILURES as error:
            raise DataError(
                f"{self.file}: {self.path}: rows {rows.start} to {rows.stop - 1} cannot be read, "
                f"the file is damaged or incomplete{self._packing()}: {_reason(error)}"
            ) from error
        self._check(buffer[at : at + stop - start], rows.start)

    def _packing(self) -> str:
        stored = self.dataset
        packing = compression(stored) if isinstance(stored, h5py.Dataset) else ""
        return f" (compressed by {packing})" if packing else ""

    def _check(self, block: np.ndarray, first: int) -> None:
        scale = abs(self.scale)
        kind = self.dtype.kind
        if kind in "bOS" or (kind in "iu" and np.iinfo(self.dtype).max * scale <= self.limit):
            return
        with np.errstate(all="ignore"):
            low, high = float(block.min()), float(block.max())  # NaN if there is any
            if abs(low) * scale <= self.limit and abs(high) * scale <= self.limit:
                return
            row, column = np.argwhere(~(np.abs(block.astype(np.float64)) * scale <= self.limit))[0]
        value = float(block[row, column])
        found = f"{value:g}; expected finite numbers"
        if math.isfinite(value):
            found = (
                f"{value * self.scale:g}, too large for the float type in use; expected smaller "
                'numbers, or training.dtype = "float64"'
            )
        place = f"row {first + row}, column {column}" if self.shape else f"row {first + row}"
        raise DataError(f"{self.file}: {self.path}: {place} (counted from 0) is {found}")


def column(handle: h5py.File, path: str, limit: float, words: bool = False) -> Column:
    """Return all rows of the dataset at ``path``; one word a row is allowed with ``words``.

    Raises DataError if there is no such dataset, or for a bad rank, type, size or scale.
    """
    file, dataset = str(handle.filename), stored_at(handle, path)
    name = f"{file}: {dataset.name}"
    if dataset.shape is None:
        raise DataError(f"{name} has no values (a null dataspace); expected shape (rows, ...)")
    if dataset.shape == ():
        raise DataError(f"{name} is a single value; expected shape (rows, ...)")
    dtype = np.dtype(dataset.dtype)
    if dtype.kind not in "biuf" and not (words and is_text(dataset)):
        raise DataError(
            f"{name} holds {_kind(dtype)}; expected integers, floats or booleans"
            f"{_remedy(path, dtype)}"
        )
    if dataset.shape[0] == 0:
        raise DataError(f"{name} has no rows: shape {tuple(dataset.shape)}")
    if math.prod(dataset.shape[1:]) == 0:
        raise DataError(f"{name} has no columns: shape {tuple(dataset.shape)}")
    return Column(file, dataset, scale_of(dataset, name), 0, int(dataset.shape[0]), limit)


def _remedy(path: str, dtype: np.dtype[Any]) -> str:
    if h5py.check_string_dtype(dtype):
        return " (words can be targets of a loss of classes, such as softmax_cross_entropy)"
    if dtype.kind == "c":
        return " (their real and imaginary parts can be two columns)"
    if not dtype.names:
        return ""
    return f" (one field is {path}/{dtype.names[0]}; `gnopt dataset import` takes several)"


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.names:
        return f"records with fields {', '.join(dtype.names)}"
    if h5py.check_ref_dtype(dtype):
        return "references to other datasets"
    if h5py.check_vlen_dtype(dtype) and not h5py.check_string_dtype(dtype):
        return "rows of different lengths"
    return {"S": "text", "U": "text", "O": "text or other objects", "c": "complex numbers"}.get(
        dtype.kind, f"values of type {dtype}"
    )


def scale_of(dataset: Stored, name: str) -> float:
    """Return the attribute ``scale``; without one 1/255 for pictures of bytes, and else 1.

    Raises DataError unless it is finite and not 0.
    """
    try:
        if "scale" not in dataset.attrs:
            return picture_scale(dataset.shape, np.dtype(dataset.dtype)) or 1.0
        value = np.asarray(dataset.attrs["scale"])
    except _FAILURES as error:
        raise DataError(f"{name}: attribute scale cannot be read: {_reason(error)}") from error
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise DataError(f"{name}: attribute scale is {_short(value)}; expected one number")
    scale = float(value.reshape(())[()])
    if not math.isfinite(scale) or scale == 0:
        raise DataError(
            f"{name}: attribute scale is {scale:g}; expected a finite number other than 0"
        )
    return scale


def _short(value: np.ndarray) -> str:
    return f"an array of shape {value.shape}" if value.size != 1 else repr(value.reshape(-1)[0])
