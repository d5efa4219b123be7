"""Tables of records: the tables and frames in HDF5 files, and structured arrays in NPY files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gnopt.data.hdf5 import open_file
from gnopt.data.hdf5_frames import arrays_beside, find_frames, frame_of_records, read_frame
from gnopt.data.roles import TableForm
from gnopt.data.table.form import Table
from gnopt.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_NPY, _HDF5 = b"\x93NUMPY", b"\x89HDF\r\n\x1a\n"
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def _frames(path: Path) -> list[str]:
    """Return the paths of the tables in an HDF5 file; none in a file that holds arrays too."""
    try:
        with open_file(path) as handle:
            found = find_frames(handle)
            return [] if arrays_beside(handle, found) else found
    except (*_FAILURES, DataError):
        return []


@dataclass(frozen=True)
class Records:
    """A file with one table of records."""

    name = "records in HDF5 or NPY"
    suffixes: ClassVar[tuple[str, ...]] = ()  # .h5 and .npy are mostly arrays

    def recognises(self, path: Path, head: bytes) -> bool:
        if head.startswith(_HDF5):
            return bool(_frames(path))
        return head.startswith(_NPY) and _structured(path) is not None

    def read(self, path: Path, form: TableForm) -> Table:
        records = _structured(path)
        if records is not None:
            return Table(path, frame_of_records(np.asarray(records)))
        names = _frames(path)
        if len(names) != 1:
            raise DataError(
                f"{path}: holds the tables {', '.join(names)}; expected one (data.inputs = "
                f'"{names[0]}" picks one for training)'
            )
        with open_file(path) as handle:
            return Table(path, read_frame(handle, names[0]))

    @property
    def writer(self) -> Callable[[pd.DataFrame, Path], None] | None:
        return None


FORMAT = Records()


def _structured(path: Path) -> np.ndarray | None:
    """Return the records of an NPY file, mapped into memory, or None if it holds none."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*_FAILURES, EOFError):
        return None
    is_records = isinstance(array, np.ndarray) and array.dtype.names is not None
    return array.reshape(-1) if is_records else None
