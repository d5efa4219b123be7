"""Write new HDF5 data files: atomically, in chunks of rows, and never over a file by accident."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import DTypeLike

from gnopt.errors import DataError
from gnopt.files import as_text, claim, new_hdf5

_CHUNK_BYTES = 2**18
Progress = Callable[[int], object]  # takes the number of rows just finished


def claim_new(path: Path, overwrite: bool, sources: Iterable[Path | None] = ()) -> Path:
    """Return where to write a data file that is made of ``sources``, which are not written to.

    Raises DataError where `gnopt.files.claim` refuses ``path``.
    """
    kept = [source for source in sources if source is not None and source.is_file()]
    return claim(path, overwrite, kept, DataError)


@contextlib.contextmanager
def new_file(path: Path, source: str) -> Iterator[h5py.File]:
    """Give the ``with`` block a new file; it appears at ``path`` unless the block raises.

    `claim_new` returns ``path``. ``source`` says in words where the data come from; it becomes an
    attribute of the file. Raises DataError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_hdf5(path) as file:
            file.attrs["source"] = as_text(source)
            yield file
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be written: {reason}") from error


def new_table(
    file: h5py.File,
    path: str,
    rows: int,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    scale: float | None = None,
) -> h5py.Dataset:
    """Create a compressed dataset in chunks of whole rows, about 256 KiB each.

    ``shape`` is that of one row. ``scale`` becomes an attribute: the factor for readers to apply.
    """
    row_bytes = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
    if row_bytes >= 2**32:
        raise DataError(
            f"{path}: one row would have {row_bytes:,} bytes; HDF5 chunks hold less than 4 GiB"
        )
    chunk = (min(rows, max(1, _CHUNK_BYTES // row_bytes)), *shape)
    table = file.create_dataset(path, (rows, *shape), dtype, chunks=chunk, compression="gzip")
    if scale is not None:
        table.attrs["scale"] = scale
    return table
