"""Read arrays from NPY, NPZ and MAT files. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from gnopt.data.formats import ImportSettings, Reader
from gnopt.data.rows import Rows, from_array, picture_scale
from gnopt.errors import DataError, nearest

_Loader = Callable[[str], Rows]  # reads the array of this name
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


def load_array(path: Path, name: str | None = None) -> np.ndarray:
    """Return one whole array of an NPY, NPZ or MAT file."""
    return open_arrays(path, name, None, transpose=False, squeeze=False)[0].all()


def refuse_pickle(path: Path, head: bytes) -> None:
    """Raise DataError for a pickle, because loading a pickle can run any program inside."""
    if path.suffix.lower() in _PICKLES or (
        head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"
    ):
        raise DataError(
            f"{path}: is a pickle, which gnopt never loads, as that can run code; expected MAT "
            "(such as olivettifaces.mat), NPY, NPZ, HDF5 or a folder of pictures"
        )


def open_arrays(
    path: Path, inputs: str | None, targets: str | None, transpose: bool, squeeze: bool = True
) -> tuple[Rows, Rows | None]:
    """Open the arrays called ``inputs`` and ``targets`` of an NPY, NPZ or MAT file.

    Without names these are the arrays x and y, or the only array. ``transpose``: data points are
    along the last axis. ``squeeze``: targets in one column or row become a vector, and whole
    numbers integers. Raises DataError if the file or an array cannot be used.
    """
    with open_source(path) as source:
        head = source.read(8)
    refuse_pickle(path, head)
    if head[:6] == b"\x93NUMPY":
        if inputs or targets:
            raise DataError(
                f"{path}: an NPY file holds one array without a name; expected neither --inputs "
                "nor --targets, or an NPZ file"
            )
        return _turned(from_array(_npy(path), str(path)), transpose), None
    names, load = _npz(path) if head[:2] == b"PK" else _mat(path, head)
    x_name = inputs or ("x" if "x" in names else names[0] if len(names) == 1 else None)
    if x_name is None:
        raise DataError(
            f"{path}: has arrays {', '.join(names) or '(none)'}; choose one with --inputs"
        )
    y_name = targets or ("y" if inputs is None and "y" in names else None)
    for wanted in filter(None, (x_name, y_name)):
        if wanted not in names:
            raise DataError(
                f"{path}: no array '{wanted}'; it has {', '.join(names) or 'none'}"
                f"{nearest(wanted, names)}"
            )
    x = _turned(load(x_name), transpose)
    y = None if y_name is None else _turned(load(y_name), transpose)
    if y is not None and squeeze:
        if len(y.shape) == 2 and y.shape[0] == 1 != x.rows:  # MATLAB keeps a vector as one row
            y = from_array(y.all().reshape(-1), y.where)
        y = y.as_labels()
    return x, y


def open_source(path: Path) -> IO[bytes]:
    """Open a file to read bytes; DataError names the file with the nearest name if it fails."""
    try:
        return open(path, "rb")
    except OSError as error:
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}{nearest(path.name, siblings)}"
        ) from error


def _turned(rows: Rows, transpose: bool) -> Rows:
    if transpose and len(rows.shape) > 1:
        rows = from_array(np.moveaxis(rows.all(), -1, 0), rows.where)
    scale = picture_scale(rows.shape, rows.dtype)
    return Rows(rows.where, rows.shape, rows.dtype, rows.blocks, rows.classes, scale)


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _BAD as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if any(word in reason for word in ("allow_pickle", "Object arrays", "Python objects")):
            reason = "it holds pickled objects, which gnopt never loads"
        raise DataError(f"{path}: {what} cannot be read: {reason}") from error


def _npy(path: Path) -> np.ndarray:
    with _explained(path, "the array"):
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: Path) -> tuple[list[str], _Loader]:
    with _explained(path, "the archive"):
        archive = np.load(path, allow_pickle=False)

    def load(name: str) -> Rows:
        with _explained(path, f"array '{name}'"):
            return from_array(archive[name], f"{path}: {name}")

    return list(archive.files), load


def _mat(path: Path, head: bytes) -> tuple[list[str], _Loader]:
    if h5py.is_hdf5(path):  # MATLAB 7.3
        with _explained(path, "the file"):
            file = h5py.File(path, "r")
            return _numeric(file), lambda name: _matlab73(path, file[name])
    if path.suffix.lower() != ".mat" and head[:6] != b"MATLAB":
        raise DataError(f"{path}: neither NPY, NPZ nor MAT")
    import scipy.io

    with _explained(path, "the MAT file"):
        try:
            names = [name for name, _, _ in scipy.io.whosmat(path)]
        except Exception as error:  # scipy raises its own kinds on damaged files
            raise ValueError(str(error) or "damaged") from error

    def load(name: str) -> Rows:
        with _explained(path, f"variable '{name}'"):
            value = scipy.io.loadmat(path, variable_names=[name])[name]
        return from_array(
            value.toarray() if hasattr(value, "toarray") else value, f"{path}: {name}"
        )

    return names, load


def _numeric(file: h5py.File) -> list[str]:
    names: Iterable[str] = file
    return [
        n
        for n in names
        if isinstance(file.get(n), h5py.Dataset)
        and file[n].dtype.kind in "biuf"
        and file[n].attrs.get("MATLAB_class", b"") != b"char"
    ]


def _matlab73(path: Path, dataset: h5py.Dataset) -> Rows:
    # MATLAB writes its arrays with the axes reversed: rows are along the last axis of the dataset
    shape = tuple(dataset.shape[::-1])
    where = f"{path}: {dataset.name.lstrip('/')}"

    def blocks(rows: int) -> Iterator[np.ndarray]:
        for start in range(0, shape[0], rows):
            with _explained(path, f"variable '{dataset.name}'"):
                block = dataset[..., start : start + rows].T
            yield block

    return Rows(where, shape, np.dtype(dataset.dtype), blocks).checked()


def _recognises(path: Path, head: bytes) -> bool:
    magic = head[:6] in (b"\x93NUMPY", b"MATLAB") or head[:2] == b"PK"
    return magic or path.suffix.lower() == ".mat"


def _open_rows(path: Path, settings: ImportSettings) -> tuple[Rows, Rows | None]:
    return open_arrays(path, settings.inputs, settings.targets, settings.transpose)


READER = Reader("a file of arrays", (), _recognises, _open_rows)
