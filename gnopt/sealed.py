"""HDF5 files that carry a digest over all their bytes, so that damage is seen before they are used.

HDF5 itself does not notice a flipped bit in an array, and some damage to its inner tables makes it
loop without end. So a sealed file begins with a block of 512 bytes, which HDF5 calls user block and
which every HDF5 program passes over::

    gnopt: sha256 <64 hexadecimal digits>
    <remark>
    <spaces up to the last byte of the block, a line break>

The digest is over the remark, its line break and all that follows the block; ``check`` compares it
before HDF5 opens the file. A block at the start, unlike one at the end, stays where it is when a
program changes the file, so that a change is seen, and a damaged block cannot look like a file
without one. The digest lies in the file it belongs to, so that both are written, copied and renamed
as one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import h5py

from gnopt.errors import DataError
from gnopt.files import new_hdf5
from gnopt.notes import note

BLOCK = 512  # bytes, the smallest user block that HDF5 allows
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FORM = re.compile(rb"gnopt: sha256 ([0-9a-f]{64})\n([^\n]*)\n *\n")
_PIECE = 1 << 20  # bytes that are read at a time

# Reads a whole file as HDF5 does, within so many seconds of processor time.
_TRIAL = """
import sys, h5py
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]),) * 2)
except ImportError:
    pass
def look(name, item):
    for key in item.attrs:
        item.attrs[key]
    if isinstance(item, h5py.Dataset) and item.shape is not None and not item.external:
        if item.nbytes <= int(sys.argv[3]):
            item[()]
try:
    with h5py.File(sys.argv[1], "r") as file:
        look("/", file)
        file.visititems(look)
except Exception:
    pass  # the caller gets the same error and says what it means
"""


def write_sealed(path: Path, fill: Callable[[h5py.File], None], remark: str = "") -> None:
    """Write an HDF5 file as `new_hdf5` does, with a digest and a ``remark`` of one short line.

    Raises OSError.
    """
    with new_hdf5(path, BLOCK, lambda file: _seal(file, remark)) as file:
        fill(file)


def seal(path: Path) -> None:
    """Renew the digest of a sealed file after a change that was meant; the remark stays."""
    with path.open("r+b") as file:
        match = _FORM.fullmatch(file.read(BLOCK))
        _seal(file, match[2].decode() if match else "")


def _seal(file: BinaryIO, remark: str) -> None:
    second = f"{remark}\n".encode()
    first = b"gnopt: sha256 " + _digest(file, second).encode() + b"\n"
    file.seek(0)
    file.write((first + second).ljust(BLOCK - 1) + b"\n")


def _digest(file: BinaryIO, remark: bytes) -> str:
    digest = hashlib.sha256(remark)
    file.seek(BLOCK)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def check(path: Path) -> str | None:
    """Return the remark of a sealed file, or None for an HDF5 file that was never sealed.

    Raises DataError if the digest is not that of the content, or if the file is no HDF5 file. One
    without a digest is read by another process first, because HDF5 may loop without end or crash on
    a damaged file; DataError if it does.
    """
    try:
        with path.open("rb") as file:
            block = file.read(BLOCK)
            match = _FORM.fullmatch(block)
            found = match and _digest(file, match[2] + b"\n").encode()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if match is None and block.startswith(_HDF5):
        _try_out(path, path.stat().st_mtime_ns)
        return None
    if match is None or found != match[1]:
        what = "is empty" if not block else "is damaged: its content is not what was written"
        raise DataError(f"{path}: the file {what}")
    return match[2].decode(errors="replace")


@functools.cache  # a command reads the same file several times
def _try_out(path: Path, modified: int) -> None:
    """Note that a file carries no digest, once HDF5 has read all of it in another process."""
    size = path.stat().st_size
    seconds = 5 + size // 10**8
    trial = [sys.executable, "-P", "-c", _TRIAL, str(path), str(seconds), str(64 * size)]
    done = subprocess.run(
        trial, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if done.returncode:
        raise DataError(
            f"{path}: damaged: HDF5 crashes on it, or reads for more than {seconds} seconds"
        )
    note(
        f"{path} carries no digest, as networks that were exported or written by an earlier "
        "version: whether it is whole cannot be told"
    )
