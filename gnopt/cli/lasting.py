"""Keep a command going when nobody can read what it prints any more.

A closed terminal, a pipe whose reader has ended (``2>&1 | head -1``), a log on a full disk, a
descriptor that was closed by ``2>&-``: each makes a write to stdout or stderr fail, and an error in
the middle of a training would end it. So both streams pretend that a failed write succeeded, and
remember the error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any


class _Lasting(io.FileIO):
    """A descriptor for writing that keeps its first error instead of raising it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        try:
            while self.error is None:
                written: int | None = super().write(data)
                if written is not None:
                    return written
                # Another program on the same terminal has made it non-blocking.
                select.select([], [self.fileno()], [])
        except OSError as error:
            self.error = error
        return size


class Output:
    """What became of stdout."""

    def __init__(self, raw: _Lasting) -> None:
        self._raw = raw

    def failure(self) -> OSError | None:
        """Return why stdout could not take all results, such as a full disk; None if it could, or
        if its reader has left: then there is nobody to tell.
        """
        with contextlib.suppress(ValueError):
            sys.stdout.flush()
        error = self._raw.error
        if error is None or error.errno in (errno.EPIPE, errno.EBADF, errno.EIO):
            return None
        return OSError(error.errno, error.strerror, "stdout")


@contextlib.contextmanager
def lasting_streams() -> Iterator[Output]:
    """Make stdout and stderr last for the ``with`` block."""
    _fill_standard_descriptors()
    before = sys.stdout, sys.stderr
    raw = {1: _Lasting(1, "wb", closefd=False), 2: _Lasting(2, "wb", closefd=False)}
    sys.stdout, sys.stderr = (
        _on(raw[number], stream) if _is_standard(stream, number) else stream
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    try:
        yield Output(raw[1])
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _fill_standard_descriptors() -> None:
    """Open /dev/null in place of standard descriptors that are closed; else the next files that are
    opened, such as a checkpoint, would get their numbers, and what is printed with them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


def _is_standard(stream: Any, number: int) -> bool:
    """Return whether a stream is missing or writes to this descriptor, as at the start of Python;
    a program that calls gnopt may have put another in its place.
    """
    if stream is None:
        return True
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _on(raw: io.FileIO, like: Any) -> io.TextIOWrapper:
    if like is not None:
        with contextlib.suppress(OSError):
            like.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding if like else "utf-8",
        errors=like.errors if like else "backslashreplace",
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )
