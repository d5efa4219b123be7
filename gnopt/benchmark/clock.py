"""Stopwatches: wall time as a user feels it, or the processor time of this process where other work
disturbs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock:
    """Adds up seconds by phase; ``synchronize`` makes a device finish before a reading."""

    def __init__(self, kind: str = "wall", synchronize: Callable[[], None] | None = None) -> None:
        self.read = CLOCKS[kind]
        self.synchronize = synchronize or (lambda: None)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside as part of the phase ``name``."""
        self.synchronize()
        start = self.read()
        yield
        self.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + self.read() - start

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count some of the seconds of ``source`` as those of ``target``."""
        self.seconds[source] = self.seconds.get(source, 0.0) - seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds
