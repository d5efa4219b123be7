"""Files that are either whole or absent: written beside their place, synced, then renamed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

# Prefix of files being written; one that a crash has left may be ignored or deleted.
TEMPORARY = ".tmp-"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path in the folder of ``path``, then move the result to
    ``path``.

    A reader, or a process started after a crash, sees the old file or the new one, never a part.
    Raises OSError (disk full, no permission) with the old file untouched.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the text file ``path`` atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(text.encode())

    write_atomically(path, write)


def write_hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Replace the HDF5 file ``path`` atomically by what ``fill`` puts into an empty one."""

    def write(temporary: Path) -> None:
        with _Patient(temporary, "w+b") as target:
            with h5py.File(target, "w") as file:
                fill(file)
            if target.error is not None:
                raise OSError(target.error.errno, target.error.strerror, str(path))

    write_atomically(path, write)


class _Patient(io.FileIO):
    """A file that remembers its first failed write: HDF5 told of it would print pages and could not
    close.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems refuse to sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
