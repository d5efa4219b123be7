"""Write files so that a reader sees a whole file or none: under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

# Temporary names start with this prefix. A crash may leave such a file; it can be deleted.
TEMPORARY = ".tmp-"


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Give the ``with`` block a temporary path beside ``path``; rename it to ``path`` at the end.

    A reader, or a process started after a crash, sees the old file or the new one, never a part.
    If the block or the renaming raises (disk full, no permission), the old file stays untouched and
    the temporary file is deleted.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the text file ``path`` atomically; raises OSError."""
    with replacement(path) as temporary:
        temporary.write_bytes(text.encode())


def write_hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Call ``fill`` with an empty HDF5 file and put the result at ``path``; raises OSError."""
    with replacement(path) as temporary, _FailureKeepingFile(temporary, "w+b") as target:
        with h5py.File(target, "w") as file:
            fill(file)
        if target.error is not None:
            raise OSError(target.error.errno, target.error.strerror, str(path))


class _FailureKeepingFile(io.FileIO):
    """A file that keeps its first failed write in ``error`` instead of raising.

    If HDF5 learned of a failed write (disk full), it would print pages of messages and could not
    close the file any more. So every later write pretends to succeed, and `write_hdf5` raises the
    error once HDF5 has closed the file.
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
