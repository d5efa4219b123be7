"""Fingerprint a data file, so that a run is not resumed, evaluated or drawn with other data."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py

from gnopt.data.hdf5 import datasets
from gnopt.data.views import type_name
from gnopt.errors import DataError
from gnopt.formatting import in_bytes
from gnopt.notes import note

# Every byte of a file up to this size is hashed, which takes about a second. Of a larger file,
# PIECES pieces of PIECE bytes are, the first and the last among them, evenly spaced.
WHOLE = 2 * 10**9
PIECES, PIECE = 1024, 2**20
_FORMER = (64, 2**16)  # pieces, and bytes of each, in records that do not give them
_BLOCK = 2**20


@dataclass(frozen=True)
class DatasetFacts:
    """Shape and type of one HDF5 dataset."""

    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Fingerprint:
    """Name, size and datasets of a data file; its content is hashed when it is asked for."""

    path: Path
    bytes: int
    modified: int  # time of the last change of the file, nanoseconds since 1970
    datasets: dict[str, DatasetFacts]

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.name

    def record(self) -> dict[str, object]:
        """Return what run.json holds of the data: its hash with the rest; reads the file."""
        pieces, piece = (0, 0) if self.bytes <= WHOLE else (PIECES, PIECE)
        return {
            "file": self.file,
            "bytes": self.bytes,
            "datasets": {name: asdict(facts) for name, facts in self.datasets.items()},
            "sha256": self._digest(pieces, piece),
            "pieces": pieces,  # 0: all of the file
            "piece_bytes": piece,
            "modified": self.modified,
        }

    def difference(self, record: Mapping[str, object]) -> str | None:
        """Return in which respect the file is not the one of a `record`, None if it is the same.

        Where only pieces of a large file can be compared, a change of the file's time is noted.
        """
        size = record.get("bytes")
        if size != self.bytes:
            return f"it has {self.bytes:,} bytes, and had {size}"
        pieces, piece = (record.get("pieces"), record.get("piece_bytes"))
        if pieces is None:
            pieces, piece = _FORMER if record.get("sampled") else (0, 0)
        if not isinstance(pieces, int) or not isinstance(piece, int) or pieces * piece > size:
            return "the record of its content cannot be read"
        if record.get("sha256") != self._digest(pieces, piece):
            return "its content has changed"
        if pieces and record.get("modified") != self.modified:
            note(
                f"{self.file} was written or copied since the run was started; "
                f"{in_bytes(pieces * piece)} of its {in_bytes(self.bytes)} were compared, and "
                "agree"
            )
        return None

    def _digest(self, pieces: int, piece: int) -> str:
        return _hash(self.path, self.bytes, self.modified, pieces, piece)


def fingerprint(handle: h5py.File) -> Fingerprint:
    """Return the fingerprint of an open file."""
    path = Path(handle.filename)
    facts = {name: DatasetFacts(list(d.shape or ()), type_name(d)) for name, d in datasets(handle)}
    status = path.stat()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, facts)


@functools.lru_cache(maxsize=8)  # a command asks several times for the same file
def _hash(path: Path, size: int, modified: int, pieces: int, piece: int) -> str:
    """Return the SHA-256 of a file, or of evenly spaced pieces where ``pieces`` is not 0."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            if not pieces:
                while block := file.read(_BLOCK):
                    digest.update(block)
            for i in range(pieces):
                file.seek(i * (size - piece) // max(1, pieces - 1))
                digest.update(file.read(piece))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
