"""Datasets of HDF5 files as rows of numbers or words, where they are stored in another way.

`as_rows` returns a dataset as it is, or a view of it that reads like one:

- MATLAB (7.3) and Octave store arrays with their axes reversed.
- A cell array of MATLAB is a dataset of references, and its text is numbers of UTF-16.
- The field of a record is read by itself.
- netCDF packs numbers as multiples of a step; AnnData writes sparse matrices and categories.
- Numbers of a type that NumPy does not have, such as floats of 128 bits, are read as float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Protocol

import h5py
import numpy as np

from gnopt.data.rows import as_text

MATLAB_INSIDE = ("#refs#", "#subsystem#")  # groups of MATLAB's own
_CLASS, _OBJECT, _EMPTY = "MATLAB_class", "MATLAB_object_decode", "MATLAB_empty"
_SPARSE, _OCTAVE = "MATLAB_sparse", "OCTAVE_NEW_FORMAT"
_ENCODING, _SPARSE_ROWS = "encoding-type", ("csr_matrix", "csc_matrix")
_DEEPEST = 10  # groups of NeXus that lead to the data, at most
_MISSING = ("_FillValue", "missing_value")
_COLUMNS = ("data", "ir", "jc")  # of a sparse matrix: numbers, their rows, where columns begin
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


class Stored(Protocol):
    """What rows are read from: a dataset of the file, or a view of one."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    attrs: Mapping[str, Any]

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        """Read the rows ``rows`` into ``out[at]``."""


class Unreadable(ValueError):
    """A dataset holds something else than rows of numbers or words; the text says what."""


class View:
    """A view with the name and the attributes of its dataset."""

    how: ClassVar[str] = "stored in another way"  # for `gnopt dataset info`
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None

    def __init__(self, dataset: h5py.Dataset | h5py.Group) -> None:
        self.dataset = dataset
        self.name, self.attrs = str(dataset.name), dataset.attrs


class Reversed(View):
    """An array of MATLAB: its first axis is the last one of the dataset; a row vector is a column.

    Complex numbers, characters and objects are told apart by `as_rows`.
    """

    how = "axes reversed, as MATLAB and Octave store them"

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__(dataset)
        shape = tuple(dataset.shape[::-1])
        self._is_row = len(shape) == 2 and shape[0] == 1
        self.shape = shape[1:] if self._is_row else shape
        self.dtype = np.dtype(dataset.dtype)
        if _matlab_class(dataset) == "logical":
            self.dtype = np.dtype(bool)
        if dataset.chunks and not self._is_row:
            self.chunks = tuple(dataset.chunks[::-1])

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        if self._is_row:
            out[at] = self.dataset[rows, 0]
        else:
            out[at] = self.dataset[..., rows].T


class Field(View):
    """One field of a dataset of records."""

    def __init__(self, dataset: h5py.Dataset, fields: tuple[str, ...]) -> None:
        super().__init__(dataset)
        self._fields = fields
        self.name = "/".join([self.name, *fields])
        dtype = np.dtype(dataset.dtype)
        for name in fields:
            dtype = dtype[name]
        base, inner = (dtype.base, dtype.shape) if dtype.subdtype else (dtype, ())
        self.dtype, self.shape = base, (*dataset.shape, *inner)
        self.attrs: Mapping[str, Any] = {}
        self.chunks = dataset.chunks

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        values = self.dataset.fields(self._fields[0])[rows]
        for name in self._fields[1:]:
            values = values[name]
        out[at] = values.reshape(out[at].shape)


class AsFloat64(View):
    """Numbers of a type that NumPy does not have; HDF5 converts them."""

    how = "of a type that NumPy does not have, as float64"
    dtype = np.dtype(np.float64)

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__(dataset)
        self.shape, self.chunks = dataset.shape, dataset.chunks

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        count = (rows.stop - rows.start, *self.shape[1:])
        place = self.dataset.id.get_space()
        place.select_hyperslab((rows.start, *[0] * (len(self.shape) - 1)), count)
        values = np.empty(count)
        memory = h5py.h5s.create_simple(count)
        self.dataset.id.read(memory, place, values, h5py.h5t.NATIVE_DOUBLE)
        out[at] = values


class Sparse(View):
    """A sparse matrix of MATLAB, whose numbers other than 0 are held in memory."""

    how = "a sparse matrix of MATLAB"

    def __init__(self, group: h5py.Group) -> None:
        super().__init__(group)
        self.shape = (int(group.attrs[_SPARSE]), len(group["jc"]) - 1)
        self.dtype = np.dtype(group["data"].dtype) if "data" in group else np.dtype(np.float64)

    @cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csc_array

        parts = [self.dataset[name][()] if name in self.dataset else [] for name in _COLUMNS]
        return csc_array(tuple(parts), shape=self.shape).tocsr()

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        out[at] = self._matrix[rows].toarray()


class SparseRows(View):
    """A sparse matrix of AnnData, by rows or by columns; what is not 0 is held in memory."""

    how = "a sparse matrix of AnnData"

    def __init__(self, group: h5py.Group) -> None:
        super().__init__(group)
        self.shape = tuple(int(n) for n in group.attrs["shape"])
        self.dtype = np.dtype(group["data"].dtype)

    @cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csc_array, csr_array

        by_rows = as_text(self.attrs[_ENCODING]) == "csr_matrix"
        parts = tuple(self.dataset[name][()] for name in ("data", "indices", "indptr"))
        return (csr_array if by_rows else csc_array)(parts, shape=self.shape).tocsr()

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        out[at] = self._matrix[rows].toarray()


class Categories(View):
    """A column of categories of AnnData: codes, and the words that they stand for."""

    how = "categories of AnnData"

    def __init__(self, group: h5py.Group) -> None:
        super().__init__(group)
        self._codes, self._categories = group["codes"], group["categories"][()]
        self.shape, self.chunks = self._codes.shape, self._codes.chunks
        self.dtype = group["categories"].dtype

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        codes = self._codes[rows]
        if (codes < 0).any():
            raise ValueError(f"row {rows.start + int((codes < 0).argmax())} has no category")
        out[at] = self._categories[codes].reshape(out[at].shape)


class Packed(View):
    """Numbers of netCDF that are stored as a multiple of a step above an offset.

    Numbers that mark missing values are NaN.
    """

    how = "numbers packed by netCDF"
    dtype = np.dtype(np.float64)

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__(dataset)
        self.shape, self.chunks = dataset.shape, dataset.chunks
        self._scale = float(np.ravel(self.attrs.get("scale_factor", 1.0))[0])
        self._offset = float(np.ravel(self.attrs.get("add_offset", 0.0))[0])
        self._missing = [np.ravel(self.attrs[name]) for name in _MISSING if name in self.attrs]

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        raw = self.dataset[rows]
        values = raw * self._scale + self._offset
        for marks in self._missing:
            values[np.isin(raw, marks)] = np.nan
        out[at] = values


class Words(View):
    """Text of MATLAB, a word in each row: a cell array, or an array of characters."""

    how = "text of MATLAB"
    dtype = h5py.string_dtype()

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__(dataset)
        is_cell = _matlab_class(dataset) == "cell"
        self.shape = (int(dataset.size) if is_cell else int(dataset.shape[-1]),)

    @cached_property
    def _words(self) -> list[str]:
        if _matlab_class(self.dataset) == "cell":
            return [self._word(reference) for reference in self.dataset[()].T.ravel()]
        return [_text(row) for row in self.dataset[()].T]

    def _word(self, reference: h5py.Reference) -> str:
        node = self.dataset.file[reference]
        empty = bool(node.attrs.get(_EMPTY, 0))
        return "" if empty else _text(node[()].T)

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        out[at] = np.array(self._words[rows], dtype=object).reshape(out[at].shape)


class Cells(View):
    """A cell array of MATLAB whose cells are arrays of one shape: each is a row."""

    how = "cells of MATLAB"

    def __init__(self, dataset: h5py.Dataset, first: h5py.Dataset) -> None:
        super().__init__(dataset)
        self._inner = first.shape[::-1]
        self.dtype = np.dtype(first.dtype)
        self.shape = (int(dataset.size), *(self._inner if first.size > 1 else ()))

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        references = self.dataset[()].T.ravel()[rows]
        for row, reference in enumerate(references, start=at.start):
            cell = self.dataset.file[reference][()].T
            if cell.shape != self._inner:
                raise ValueError(f"a cell has shape {cell.shape}; expected {self._inner}")
            out[row] = cell.reshape(out[row].shape)


def as_rows(handle: h5py.File, node: h5py.Dataset | h5py.Group) -> Stored:
    """Return a dataset, or an array of MATLAB or Octave, as rows; Unreadable says what it is."""
    if isinstance(node, h5py.Group):
        encoding = as_text(node.attrs.get(_ENCODING, b""))
        if encoding in _SPARSE_ROWS:
            return SparseRows(node)
        if encoding == "categorical":
            return Categories(node)
        return Sparse(node) if _is_sparse(node) else Reversed(node["value"])
    try:
        np.dtype(node.dtype)
    except _FAILURES:
        if node.id.get_type().get_class() in (h5py.h5t.FLOAT, h5py.h5t.INTEGER):
            return AsFloat64(node)
        raise Unreadable("of a type that NumPy does not have") from None
    if any(name in node.attrs for name in ("scale_factor", "add_offset")):
        return Packed(node)
    plain: Stored = node
    if not is_matlab(handle, node):
        return plain
    kind = _matlab_class(node)
    if _OBJECT in node.attrs or kind == "function_handle":
        raise Unreadable(f"an object of MATLAB's class {kind}")
    if node.attrs.get(_EMPTY, 0):
        raise Unreadable("empty")
    if kind == "char":
        return Words(node)
    if kind == "cell" or h5py.check_ref_dtype(node.dtype):
        return _cells(handle, node)
    return Reversed(node) if len(node.shape or ()) else plain


def is_matlab(handle: h5py.File, node: h5py.Dataset) -> bool:
    """Return whether MATLAB wrote a dataset: its class, or the 512 bytes before the file, tell."""
    if _CLASS in node.attrs:
        return True
    if not handle.userblock_size:
        return False
    try:
        with open(handle.filename, "rb") as file:
            return file.read(6) == b"MATLAB"
    except OSError:
        return False


def signal_of(group: h5py.Group) -> h5py.Dataset | None:
    """Return the dataset that a group of NeXus is about: its attribute ``signal`` names it, or the
    dataset has an attribute ``signal`` of 1.
    """
    named = as_text(group.attrs.get("signal", b""))
    if named and isinstance(group.get(named), h5py.Dataset):
        return group[named]
    members = (group.get(name) for name in group)
    return next(
        (
            member
            for member in members
            if isinstance(member, h5py.Dataset) and as_text(member.attrs.get("signal", "")) == "1"
        ),
        None,
    )


def default_signal(handle: h5py.File) -> str | None:
    """Return the path of the dataset that a file of NeXus shows by default, None in other files.

    Attributes ``default`` lead from the top to a group of data; without them, the first group of
    the class NXdata counts.
    """
    try:
        group: h5py.Group = handle
        for _ in range(_DEEPEST):
            name = as_text(group.attrs.get("default", b""))
            below = group.get(name) if name else None
            if not isinstance(below, h5py.Group):
                break
            group = below
        found = None if group == handle else signal_of(group)
        if found is not None:
            return str(found.name).strip("/")
        paths: list[str] = []

        def look(name: str, node: object) -> None:
            if (
                isinstance(node, h5py.Group)
                and as_text(node.attrs.get("NX_class", b"")) == "NXdata"
            ):
                paths.append(name)

        handle.visititems(look)
        signals = (signal_of(handle[path]) for path in paths)
        return next((str(signal.name).strip("/") for signal in signals if signal is not None), None)
    except _FAILURES:  # a damaged file is left to its reader
        return None


def is_array(node: object) -> bool:
    """Return whether a group is one array, as MATLAB, Octave and AnnData write some of theirs."""
    if not isinstance(node, h5py.Group):
        return False
    encoding = as_text(node.attrs.get(_ENCODING, b""))
    if encoding in _SPARSE_ROWS:
        return {"data", "indices", "indptr"} <= set(node) and "shape" in node.attrs
    if encoding == "categorical":
        return {"codes", "categories"} <= set(node)
    return _is_sparse(node) or (
        _OCTAVE in node.attrs and isinstance(node.get("value"), h5py.Dataset)
    )


def _is_sparse(group: h5py.Group) -> bool:
    return _SPARSE in group.attrs and {"ir", "jc"} <= set(group)


def type_name(dataset: h5py.Dataset) -> str:
    """Return the type of a dataset in words, whether NumPy has it or not."""
    try:
        return str(dataset.dtype)
    except _FAILURES:
        kind = dataset.id.get_type()
        return f"{8 * kind.get_size()} bits, no type of NumPy"


def field_at(handle: h5py.File, path: str) -> Field | None:
    """Return the field that a path such as table/weight names, or None if there is none."""
    parts = path.strip("/").split("/")
    for cut in range(1, len(parts)):
        try:
            node = handle.get("/".join(parts[:cut]))
            dtype = np.dtype(node.dtype) if isinstance(node, h5py.Dataset) else None
        except _FAILURES:
            return None
        if dtype is None:
            continue
        fields = tuple(parts[cut:])
        for name in fields:
            if dtype.names is None or name not in dtype.names:
                return None
            dtype = dtype[name]
        return Field(node, fields)
    return None


def _cells(handle: h5py.File, node: h5py.Dataset) -> Stored:
    references = node[()].T.ravel()
    first = handle[references[0]] if len(references) else None
    if not isinstance(first, h5py.Dataset):
        raise Unreadable("a cell array of structs or cells")
    if _matlab_class(first) == "char" or first.attrs.get(_EMPTY, 0):
        return Words(node)
    if first.dtype.kind not in "biuf":
        raise Unreadable("a cell array of other things than numbers and words")
    return Cells(node, first)


def _matlab_class(node: h5py.Dataset) -> str:
    kind = node.attrs.get(_CLASS, b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _text(characters: np.ndarray) -> str:
    return characters.astype("<u2").tobytes().decode("utf-16-le", errors="replace")
