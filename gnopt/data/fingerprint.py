"""Fingerprint a data file, so that a resumed run notices if the data changed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py

from gnopt.data.hdf5 import datasets
from gnopt.data.views import type_name
from gnopt.errors import DataError

_WHOLE = 64 * 10**6  # files smaller than this are hashed whole
_PIECES, _PIECE = 64, 2**16


@dataclass(frozen=True)
class DatasetFacts:
    """Shape and type of one HDF5 dataset."""

    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Fingerprint:
    """Name, size, datasets and hash of a data file, as run.json records them."""

    file: str
    bytes: int
    datasets: dict[str, DatasetFacts]
    sha256: str  # of the content
    sampled: bool  # whether the hash is of 64 evenly spaced pieces of a large file

    def content(self) -> dict[str, object]:
        """Return as plain values all that must stay the same when a run resumes."""
        return {name: value for name, value in asdict(self).items() if name != "file"}


def fingerprint(handle: h5py.File) -> Fingerprint:
    """Return the fingerprint of an open file; the whole file is read for the hash."""
    path = Path(handle.filename)
    facts = {name: DatasetFacts(list(d.shape or ()), type_name(d)) for name, d in datasets(handle)}
    size, digest = _content(path)
    return Fingerprint(path.name, size, facts, digest, size >= _WHOLE)


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
