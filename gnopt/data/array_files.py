"""Read arrays by name from NPY, NPZ, MAT and HDF5 files. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from gnopt.data.formats import ImportSettings, Reader
from gnopt.data.hdf5 import Column, array_paths, class_names, column, open_file
from gnopt.data.layout import Pair, find_layout
from gnopt.data.mat_file import MatVariables
from gnopt.data.other_files import refusal
from gnopt.data.plain_pickle import NotPlain, object_array
from gnopt.data.rows import Rows, from_array, picture_scale, refuse_too_large
from gnopt.errors import DataError, nearest

HDF5_HEAD = b"\x89HDF\r\n\x1a\n"
_NPY_HEAD = b"\x93NUMPY"
_SHOWN = 12  # names in a message, at most
_PICKLES = {".pkl", ".pickle", ".pkz", ".joblib"}
_BAD = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    zlib.error,
    zipfile.BadZipFile,
)
# Rows of bytes are taken for flattened pictures from this width on, if it is that of a square
# picture, grey or in color, and a byte of the first rows is in the upper half.
_FLAT_WIDTH, _FLAT_ROWS, _UPPER_HALF = 64, 1000, 128


@dataclass(frozen=True)
class ArrayFile:
    """The arrays of a file, read by their names."""

    path: Path
    names: list[str]
    load: Callable[[str], Rows]
    left_out: dict[str, str] = field(default_factory=dict)  # what else is in the file

    def __getitem__(self, name: str) -> Rows:
        """Return the array called ``name``; DataError names the arrays that there are."""
        found = next(
            (n for n in (name, name.strip("/").replace("/", ".")) if n in self.names), None
        )
        dotted = name.replace(".", "/")
        if found is None and dotted in self.names:
            found = dotted
        if found is not None:
            return self.load(found)
        if name in self.left_out:
            raise DataError(
                f"{self.path}: {name} is {self.left_out[name]}; expected an array of numbers, or a "
                "column of words as targets"
            )
        raise DataError(
            f"{self.path}: no array '{name}'; it has {_listed(self.names)}"
            f"{nearest(name, self.names)}"
        )

    def notes(self, used: set[str]) -> tuple[str, ...]:
        """Return a line on what is in the file and cannot be used, unless a user asked for it."""
        rest = [f"{name} ({what})" for name, what in self.left_out.items() if name not in used]
        return (f"{self.path.name}: left out: {_listed(rest)}",) if rest else ()


def load_array(path: Path, name: str | None = None) -> np.ndarray:
    """Return one whole array of an NPY, NPZ, MAT or HDF5 file."""
    settings = ImportSettings(name)
    return _open_arrays(path, settings, squeeze=False)[0].numbers().all()


def refuse_pickle(path: Path, head: bytes) -> None:
    """Raise DataError for a pickle, because loading a pickle can run any program inside."""
    if path.suffix.lower() in _PICKLES or (
        head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"
    ):
        raise DataError(
            f"{path}: is a pickle, which gnopt never loads, as that can run code; expected MAT "
            "(such as olivettifaces.mat), NPY, NPZ, HDF5 or a folder of pictures"
        )


def refuse_archive(path: Path) -> None:
    """Raise DataError for a zip archive that is not an NPZ file, or is damaged."""
    with _explained(path, "the archive"):
        other = refusal(path)
    if other is not None:
        raise DataError(f"{path}: is {other}")


def layout_of(path: Path) -> dict[str, Pair]:
    """Return the arrays that make up the groups train, validation and test of a file, by their
    names; empty for a file of other arrays or of none.
    """
    with open_source(path) as source:
        head = source.read(8)
    if not _recognises(path, head) or head[:6] == _NPY_HEAD:
        return {}
    found = find_layout(_array_file(path, head).names)
    return found if "train" in found else {}


def open_source(path: Path) -> IO[bytes]:
    """Open a file to read bytes; DataError names the file with the nearest name if it fails."""
    try:
        return open(path, "rb")
    except OSError as error:
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}{nearest(path.name, siblings)}"
        ) from error


def _open_arrays(
    path: Path, settings: ImportSettings, squeeze: bool = True
) -> tuple[Rows, Rows | None]:
    """Open the arrays called ``inputs`` and ``targets``.

    Without names these are the arrays x and y, or the only array. With ``transpose``, data points
    are along the last axis. ``squeeze``: targets in one column or row become a vector, whole
    numbers integers, and words labels. Raises DataError if the file or an array cannot be used.
    """
    inputs, targets, transpose = settings.inputs, settings.targets, settings.transpose
    with open_source(path) as source:
        head = source.read(8)
    refuse_pickle(path, head)
    if head[:6] == _NPY_HEAD:
        if inputs or targets:
            raise DataError(
                f"{path}: an NPY file holds one array without a name; expected neither --inputs "
                "nor --targets, or an NPZ file"
            )
        return _as_pictures(_turned(from_array(_npy(path), str(path)), transpose)), None
    arrays = _array_file(path, head)
    names = arrays.names
    x_name = inputs or _called(names, "x") or (names[0] if len(names) == 1 else None)
    if x_name is None:
        rest = "; ".join(arrays.notes(set()))
        raise DataError(
            f"{path}: has arrays {_listed(names) or '(none)'}; choose one with --inputs"
            + (f" ({rest})" if rest else "")
        )
    y_name = targets or (_called([*names, *arrays.left_out], "y") if inputs is None else None)
    x = _as_pictures(_turned(arrays[x_name], transpose))
    x = replace(x, notes=(*x.notes, *arrays.notes({x_name, *([y_name] if y_name else [])})))
    if y_name is None:
        return x, None
    y = _turned(arrays[y_name], transpose)
    if squeeze and len(y.shape) == 2 and y.shape[0] == 1 != x.rows:  # MATLAB has vectors of one row
        y = replace(from_array(y.all().reshape(-1), y.where), classes=y.classes)
    x, y = _aligned(x, y)
    return x, y.as_labels() if squeeze else y


def _aligned(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    """Return inputs and targets with data points first, where only their last axes fit together.

    MATLAB's examples have a data point in each column, or pictures along the fourth axis.
    """
    for turn_x, turn_y in ((False, False), (True, False), (True, True), (False, True)):
        if x.shape[-turn_x] == y.shape[-turn_y]:
            break
    else:
        return x, y
    turned = [rows.where for rows, turn in ((x, turn_x), (y, turn_y)) if turn]
    note = (f"{' and '.join(turned)}: data points are along the last axis",) if turned else ()
    other = _turned(y, turn_y)
    return (
        replace(_turned(x, turn_x), notes=(*x.notes, *note)),
        replace(other, classes=y.classes),
    )


def _called(names: list[str], wanted: str) -> str | None:
    """Return the array of this name, also in capitals or inside a struct, if it is the only one."""
    if wanted in names:
        return wanted
    found = [name for name in names if re.split(r"[./]", name)[-1].lower() == wanted]
    return found[0] if len(found) == 1 else None


def _turned(rows: Rows, transpose: bool) -> Rows:
    if not transpose or len(rows.shape) < 2:
        return rows
    return from_array(np.moveaxis(rows.all(), -1, 0), rows.where, rows.scale)


def _as_pictures(rows: Rows) -> Rows:
    """Return the rows with the scale of pictures, if they are bytes of pictures without one."""
    if rows.scale is not None or rows.dtype != np.uint8:
        return rows
    scale = picture_scale(rows.shape, rows.dtype)
    if scale is not None:
        return replace(rows, scale=scale)
    width = math.prod(rows.shape[1:])
    shape = _picture_shape(width)
    if len(rows.shape) != 2 or shape is None:
        return rows
    if next(iter(rows.blocks(_FLAT_ROWS))).max() < _UPPER_HALF:
        return rows
    note = (
        f"rows of {width:,} bytes are taken for pictures of {shape}, with scale 1/255; "
        "--scale 1 keeps them as numbers"
    )
    return replace(rows, scale=1 / 255, notes=(*rows.notes, note))


def _picture_shape(width: int) -> str | None:
    """Return the shape of a square picture of so many numbers, grey or in color; None without one.

    >>> _picture_shape(784), _picture_shape(3072), _picture_shape(100_000)
    ('28x28', '32x32x3', None)
    """
    for colors in (1, 3):
        side = math.isqrt(width // colors)
        if width >= _FLAT_WIDTH and side * side * colors == width:
            return f"{side}x{side}" + (f"x{colors}" if colors > 1 else "")
    return None


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _BAD as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        pickled = ("allow_pickle", "Object arrays", "Python objects", "array of objects")
        if isinstance(error, NotPlain) or any(word in reason for word in pickled):
            reason = "it holds pickled objects, which gnopt never loads"
        raise DataError(f"{path}: {what} cannot be read: {reason}") from error


def _array_file(path: Path, head: bytes) -> ArrayFile:
    if head[:2] == b"PK":
        return _npz(path)
    if h5py.is_hdf5(path):
        return _hdf5(path)
    if path.suffix.lower() != ".mat" and head[:6] != b"MATLAB":
        raise DataError(f"{path}: neither NPY, NPZ, MAT nor HDF5")
    return _mat(path)


def _npy(path: Path) -> np.ndarray:
    with _explained(path, "the array"):
        with open(path, "rb") as file:
            words = _pickled_words(file)
        if words is not None:
            return words
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _pickled_words(file: IO[bytes]) -> np.ndarray | None:
    """Return an NPY array of words that NumPy pickled as objects, read without running the pickle;
    None for any other array. Raises ValueError for an array of other objects.
    """
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    dtype = read_header(file)[2]
    if not dtype.hasobject:
        return None
    values = object_array(file.read())
    if not all(isinstance(value, str | bytes) for value in values.ravel()):
        raise ValueError("Python objects")
    return values.astype(str)


def _npz(path: Path) -> ArrayFile:
    refuse_archive(path)
    with _explained(path, "the archive"):
        archive = np.load(path, allow_pickle=False)

    def load(name: str) -> Rows:
        with _explained(path, f"array '{name}'"):
            with zipfile.ZipFile(path) as packed, packed.open(f"{name}.npy") as file:
                refuse_too_large(f"{path}: array '{name}'", packed.getinfo(f"{name}.npy").file_size)
                words = _pickled_words(file)
            return from_array(archive[name] if words is None else words, f"{path}: {name}")

    return ArrayFile(path, list(archive.files), load)


def _mat(path: Path) -> ArrayFile:
    with _explained(path, "the MAT file"):
        variables = MatVariables(path)

    def load(name: str) -> Rows:
        with _explained(path, f"variable '{name}'"):
            return from_array(variables[name], f"{path}: {name}")

    return ArrayFile(path, variables.names, load, variables.left_out)


def _hdf5(path: Path) -> ArrayFile:
    """Return the arrays of an HDF5 file, also one of MATLAB 7.3; it stays open while they are
    read.
    """
    handle = open_file(path)
    columns: dict[str, Column] = {}
    left_out: dict[str, str] = {}
    for name in array_paths(handle):
        try:
            columns[name] = column(handle, name, float(np.finfo(np.float64).max), words=True)
        except DataError as error:
            what = str(error).removeprefix(f"{path}: ").removeprefix(f"/{name} ").partition(";")[0]
            left_out[name] = what.removeprefix("holds ").removeprefix("is ")
    return ArrayFile(path, list(columns), lambda name: _rows_of(columns[name]), left_out)


def _rows_of(stored: Column) -> Rows:
    def blocks(rows: int) -> Iterator[np.ndarray]:
        for start in range(0, stored.rows, rows):
            block = stored.read(start, min(start + rows, stored.rows))
            yield block.reshape(len(block), *stored.shape)

    scale = stored.scale if stored.scale != 1 else None
    shape = (stored.rows, *stored.shape)
    where = f"{stored.file}: {stored.path.strip('/')}"
    names = class_names(stored.dataset)
    return Rows(where, shape, stored.dtype, blocks, names, scale).checked()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _recognises(path: Path, head: bytes) -> bool:
    magic = head[:6] in (_NPY_HEAD, b"MATLAB") or head[:2] == b"PK" or head[:8] == HDF5_HEAD
    return magic or path.suffix.lower() == ".mat"


READER = Reader("a file of arrays", (), _recognises, _open_arrays)
