"""What a data file was when it was used: enough to notice that it changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py

from gnopt.data.hdf5 import datasets
from gnopt.errors import DataError

_WHOLE = 64 * 10**6  # files smaller than this are hashed whole
_PIECES, _PIECE = 64, 2**16


def fingerprint(handle: h5py.File) -> dict[str, Any]:
    """Return name, size, datasets and a SHA-256 of the content (of 64 even pieces of a large
    file).
    """
    path = Path(handle.filename)
    found = {
        name: {"shape": list(d.shape or ()), "dtype": _dtype(d)} for name, d in datasets(handle)
    }
    size, digest = _content(path)
    return {
        "file": path.name,
        "bytes": size,
        "datasets": found,
        "sha256": digest,
        "sampled": size >= _WHOLE,
    }


def _dtype(dataset: h5py.Dataset) -> str:
    try:
        return str(dataset.dtype)
    except TypeError:  # a type NumPy does not have
        return "unknown"


def _content(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size < _WHOLE:
                file.seek(0)
                while block := file.read(2**20):
                    digest.update(block)
            else:
                for i in range(_PIECES):
                    file.seek(i * (size - _PIECE) // (_PIECES - 1))
                    digest.update(file.read(_PIECE))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return size, digest.hexdigest()
