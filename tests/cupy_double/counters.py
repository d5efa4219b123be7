"""Counts of copies between host and device, of waits and of queued operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass
class Counters:
    """Copies host → device and back with their bytes, waits of the host, fused kernels, and calls
    that queue work.
    """

    h2d: int = 0
    h2d_bytes: int = 0
    d2h: int = 0
    d2h_bytes: int = 0
    flags: int = 0  # error flags of checked linear algebra, and truth values, read by the host
    syncs: int = 0
    kernels: int = 0
    # Operations that launch a kernel or more: what a small network's update costs on a GPU.
    calls: int = 0

    def up(self, nbytes: int) -> None:
        """Count a copy from host to device: it is queued, and nobody waits."""
        self.h2d += 1
        self.h2d_bytes += nbytes

    def down(self, nbytes: int) -> None:
        """Count a copy from device to host, for which the host waits."""
        self.d2h += 1
        self.d2h_bytes += nbytes
        self.wait()

    def flag(self) -> None:
        """Count a truth value that the host reads: it waits for a byte."""
        self.flags += 1
        self.wait()

    def wait(self) -> None:
        """Count a wait of the host; DeviceSynchronized where waiting is forbidden."""
        if not _ALLOWED[-1]:
            raise DeviceSynchronized
        self.syncs += 1

    def reset(self) -> None:
        """Start from zero."""
        for field in fields(self):
            setattr(self, field.name, 0)


COUNTERS = Counters()
_ALLOWED = [True]


class DeviceSynchronized(RuntimeError):
    """cupyx.DeviceSynchronized."""


@contextmanager
def allow_synchronize(allow: bool) -> Iterator[None]:
    """cupyx.allow_synchronize: whether the host may wait for the device meanwhile."""
    _ALLOWED.append(allow)
    try:
        yield
    finally:
        _ALLOWED.pop()
