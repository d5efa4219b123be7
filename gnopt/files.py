"""Write files so that a reader sees a whole file or none, and never one that nobody asked to lose.

A command with an OUT calls `claim` before its work starts, and writes to the path that it returns.
Whatever is written goes through `replacement`: under a temporary name, then renamed. Names that
stand in a file, and what lies in a folder that may come from somebody else, go through `inside`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import h5py

from gnopt.errors import ConfigError, DataError, GnoptError

# Temporary names start with this prefix. A crash may leave such a file; `sweep` deletes it.
TEMPORARY = ".tmp-"
_HOST = re.sub(r"[^A-Za-z0-9.]", "", platform.node())[:32]
_LEFT_BEHIND = re.compile(re.escape(TEMPORARY) + r"(\d+)@([A-Za-z0-9.]*)-.*", re.DOTALL)
_PATIENCE = 5.0  # seconds that a pipe may be without a reader


def claim(
    path: Path,
    overwrite: bool,
    kept: Iterable[Path] = (),
    error: type[GnoptError] = ConfigError,
) -> Path:
    """Return where to write what a user asked to have at ``path``; raise ``error`` if not there.

    Every command with an OUT calls this before its work starts. An existing file is refused
    without ``overwrite``, and a folder always. ``kept`` are files, and folders with all that they
    hold, that are never written to, such as the data that the command reads. Symbolic links are
    followed. A device or a pipe is returned as it is: `replacement` writes into it. Files that
    killed commands left in the folder are deleted.
    """
    target = Path(os.path.realpath(path))
    for other in kept:
        if _holds(other, target):
            what = "is" if other.is_file() else "belongs to"
            raise error(f"{path}: {what} {other}, which is read here; expected another file")
    if is_stream(path):
        return path
    if target.is_dir():
        raise error(f"{path}: is a directory; expected the name of a file")
    if target.is_symlink():
        raise error(f"{path}: a symbolic link that leads back to itself; expected a file")
    if target.exists() and not target.is_file():
        raise error(f"{path}: neither a file nor a pipe; expected the name of a file")
    if target.exists() and not overwrite:
        raise error(f"{path}: exists already; --overwrite replaces it")
    sweep(target.parent)
    return target if path.is_symlink() else path


def inside(folder: Path, name: str) -> Path:
    """Return ``folder / name``; DataError if that is not a place in the folder.

    Called for every name that is read from a file, and for the files of a directory that may come
    from somebody else, before they are opened, appended to, emptied or deleted. Links are followed
    for the check, so neither ``..`` nor a symbolic link leads out. A device or a pipe is refused
    too: reading it could block for ever.
    """
    path = folder / name
    try:
        root, real = os.path.realpath(folder), os.path.realpath(path)
        status = path.stat() if os.path.lexists(path) else None
    except FileNotFoundError:  # a link to nothing
        status = None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: {name!r} names no file: {error}") from None
    if not real.startswith(root + os.sep):
        raise DataError(f"{path}: leads to {real}, which is not inside {folder}; refused")
    if status and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise DataError(f"{path}: a device or a pipe; expected a file")
    return path


def _holds(place: Path, target: Path) -> bool:
    """Return whether ``target``, a path without links, is the file ``place`` or inside a folder."""
    real = Path(os.path.realpath(place))
    if target == real or real in target.parents:
        return True
    try:
        return place.is_file() and target.samefile(place)  # another name of the same file
    except OSError:  # there is no target yet
        return False


def is_stream(path: Path) -> bool:
    """Return whether bytes are to be written into what is at ``path``, not in place of it.

    That is true of a device such as /dev/null, of a named pipe, and of whatever stdout or stderr
    leads to.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    return (
        stat.S_ISCHR(status.st_mode)
        or stat.S_ISFIFO(status.st_mode)
        or _descriptor(status) is not None
    )


def is_stdout(path: Path) -> bool:
    """Return whether what is written to ``path`` appears on stdout, such as for /dev/stdout."""
    try:
        return _descriptor(path.stat()) == 1
    except OSError:
        return False


def _descriptor(status: os.stat_result) -> int | None:
    """Return 1 or 2 if stdout or stderr leads to the file of ``status``; /dev/null is nobody's."""
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _null():
        return None
    for number in (1, 2):
        with contextlib.suppress(OSError):  # the stream is closed
            if os.path.samestat(status, os.fstat(number)):
                return number
    return None


def _null() -> int:
    try:
        return os.stat(os.devnull).st_rdev
    except OSError:
        return -1


def sweep(folder: Path) -> None:
    """Delete temporary files in ``folder`` whose process is gone.

    Those of processes on other machines, which cannot be asked, are deleted when a week old.
    """
    if os.name != "posix":  # there is no way to ask for a process
        return
    with contextlib.suppress(OSError):  # no such folder, or none that may be changed
        for entry in os.scandir(folder):
            match = _LEFT_BEHIND.fullmatch(entry.name)
            if match is None or not entry.is_file(follow_symlinks=False):
                continue
            number, host = match.groups()
            old = time.time() - entry.stat().st_mtime > 7 * 86400.0
            if old if host != _HOST else not _alive(int(number)):
                os.unlink(entry.path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Give the ``with`` block a temporary path; what the block writes there ends up at ``path``.

    A reader, or a process started after a crash, sees the old file or the new one, never a part.
    If the block or the renaming raises (disk full, no permission), the old file stays untouched and
    the temporary file is deleted; so are those that killed processes left in the folder. The new
    file has the mode and, where that is allowed, the owner of the old one. A device or a pipe is
    written into.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
            temporary = Path(folder) / "stream"
            yield temporary
            _pour(temporary, path)
        return
    sweep(path.parent)
    # The end of the name alone, because a name can be too long for a prefix.
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}@{_HOST}-{path.name[-40:]}")
    try:
        with naming(path):
            _create(temporary, path)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError of the ``with`` block name the file ``path``: a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(TEMPORARY):
            error.filename = str(path)
            error.filename2 = None
        raise


def _create(temporary: Path, like: Path) -> None:
    """Create an empty file with mode and owner of the file ``like``, if that exists."""
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        status = like.lstat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        with contextlib.suppress(OSError, AttributeError):  # only root may; Windows has no owners
            os.chown(temporary, status.st_uid, status.st_gid)
        os.chmod(temporary, stat.S_IMODE(status.st_mode))


def _pour(source: Path, stream: Path) -> None:
    with source.open("rb") as made, _open_stream(stream) as target:
        shutil.copyfileobj(made, target)


def _open_stream(path: Path) -> BinaryIO:
    """Open a device or a pipe for writing; OSError if a pipe stays without a reader."""
    number = _descriptor(path.stat())
    if number is not None:
        (sys.stdout if number == 1 else sys.stderr).flush()
        return os.fdopen(os.dup(number), "wb")
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                waits = error.errno == errno.ENXIO
                text = "no process reads this pipe" if waits else error.strerror
                raise OSError(error.errno, text, str(path)) from None
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")


def as_text(name: Path | str) -> str:
    """Return the name of a file as text that every format holds: bytes that are no UTF-8 become
    the replacement character.
    """
    return os.fsencode(name).decode(errors="replace")


def write_text(path: Path, text: str) -> None:
    """Replace the text file ``path`` atomically; raises OSError.

    Names of files that are no Unicode are written as the bytes that they are.
    """
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file ``path`` atomically; raises OSError."""
    with replacement(path) as temporary:
        temporary.write_bytes(content)


def write_hdf5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Call ``fill`` with an empty HDF5 file and put the result at ``path``; raises OSError."""
    with new_hdf5(path) as file:
        fill(file)


@contextlib.contextmanager
def new_hdf5(
    path: Path, block: int = 0, finish: Callable[[BinaryIO], None] | None = None
) -> Iterator[h5py.File]:
    """Give the ``with`` block an empty HDF5 file, which appears at ``path`` unless the block
    raises. Raises OSError, also for a disk that is full.

    Every HDF5 file of gnopt is written here. ``block`` bytes at its start are left to ``finish``,
    which is called with the bytes of the whole file before the file gets its name.
    """
    with replacement(path) as temporary, _FailureKeepingFile(temporary, "w+b") as target:
        with h5py.File(target, "w", userblock_size=block) as file:
            yield file
        if finish is not None:
            finish(cast(BinaryIO, target))
        if target.error is not None:
            raise OSError(target.error.errno, target.error.strerror, str(path))


class _FailureKeepingFile(io.FileIO):
    """A file that keeps its first failed write in ``error`` instead of raising.

    If HDF5 learned of a failed write (disk full), it would print pages of messages and could not
    close the file any more. So every later write pretends to succeed, and `new_hdf5` raises the
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
