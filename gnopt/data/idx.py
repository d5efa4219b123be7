"""IDX files, the format of MNIST, compressed by gzip or not.

The file holds two zero bytes, a byte for the type, a byte for the number of dimensions, the
dimensions, and the numbers.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from gnopt.data.formats import ImportSettings, Reader
from gnopt.data.rows import Rows, picture_scale, refuse_too_large
from gnopt.errors import DataError
from gnopt.formatting import in_bytes

_DEFLATE = 1032  # times that gzip can pack a file smaller, at most
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(head: bytes) -> bool:
    """Return whether a file that starts with ``head``, after decompression, is an IDX file."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 8


def open_idx(path: Path) -> Rows:
    """Read the header of an IDX file; its rows are read when the blocks are asked for."""
    with _reading(path) as file:
        head = file.read(4)
        if not is_idx(head):
            raise DataError(f"{path}: not an IDX file")
        dimensions = file.read(4 * head[3])
        if len(dimensions) < 4 * head[3]:
            raise DataError(f"{path}: the IDX header is cut short")
    shape = struct.unpack(f">{head[3]}I", dimensions)
    dtype = np.dtype(_TYPES[head[2]])

    _check_promise(path, shape, math.prod(shape[1:]) * dtype.itemsize)

    def blocks(rows: int) -> Iterator[np.ndarray]:
        yield from _blocks(path, shape, dtype, rows)

    scale = picture_scale(shape, dtype)
    return Rows(str(path), shape, dtype.newbyteorder("="), blocks, scale=scale).checked()


def _check_promise(path: Path, shape: tuple[int, ...], row_bytes: int) -> None:
    """Raise DataError if one row of what the header promises cannot be in the file or in memory."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if row_bytes > size * (_DEFLATE if packed else 1):
        raise DataError(
            f"{path}: its header promises {shape[0]:,} rows of {in_bytes(row_bytes)}; the file has "
            f"{in_bytes(size)}"
        )
    refuse_too_large(f"{path}: a row", row_bytes)


def _blocks(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int
) -> Iterator[np.ndarray]:
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    with _reading(path) as file:
        file.read(4 + 4 * len(shape))
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            content = file.read(count * row_bytes)
            if len(content) < count * row_bytes:
                raise DataError(
                    f"{path}: ends in row {start + len(content) // row_bytes}; its header promises "
                    f"{shape[0]:,} rows of {row_bytes:,} bytes"
                )
            block = np.frombuffer(content, dtype).reshape(count, *shape[1:])
            yield block.astype(dtype.newbyteorder("="), copy=False)
        if file.read(1):
            raise DataError(f"{path}: goes on after the {shape[0]:,} rows that its header promises")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _recognises(path: Path, head: bytes) -> bool:
    return is_idx(_unpacked(path) if head[:2] == b"\x1f\x8b" else head)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(4)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error


def _open_rows(path: Path, settings: ImportSettings) -> tuple[Rows, None]:
    return open_idx(path), None


READER = Reader(
    "an IDX file", ("inputs", "targets", "weights", "transpose"), _recognises, _open_rows
)
