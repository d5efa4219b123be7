"""Where the seconds of an update go: a timer that an optimizer calls at the borders of its phases.

``with self.timer("inverses"):`` marks a phase inside an update. A run uses ``NullTimer``, which
does nothing. ``gnopt bench`` puts a ``Stopwatch`` in its place and reads the seconds of each phase.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

PHASES = {
    "passes": "forward and backward passes, and losses that judge a step",
    "statistics": "averages of the curvature factors",
    "inverses": "damped inverses or eigenbases of the factors",
    "solve": "gradient times the inverse of the approximate curvature",
    "model": "products with the exact Gauss-Newton matrix",
    "vector": "directions, norms and the step itself",
}


class PhaseTimer(Protocol):
    """Times the phases of an update by name; each name is a key of ``PHASES``."""

    def __call__(self, name: str) -> AbstractContextManager[None]:
        """Return a context whose time belongs to the phase ``name``."""


class NullTimer:
    """Times nothing: every phase gets this same empty context, so that nothing is allocated."""

    __slots__ = ()

    def __call__(self, name: str) -> NullTimer:
        """Return the empty context."""
        return self

    def __enter__(self) -> None:
        """Begin nothing."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End nothing; an error goes on."""


class Stopwatch:
    """Adds up ``seconds`` by phase.

    Phases may be nested. The time of an inner phase is not counted in the outer phase, so the sum
    over phases never exceeds the time that passed. ``synchronize`` is called at every border, so
    that work queued on a device counts in the phase that queued it; ``read`` is the clock.
    """

    def __init__(
        self, synchronize: Callable[[], None], read: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize, self._read = synchronize, read
        self._open: list[str] = []  # names of the phases we are in, innermost last
        self._since = 0.0  # the clock at the last border

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside the context as that of the phase ``name``."""
        self._cross_border()
        self._open.append(name)
        try:
            yield
        finally:
            self._cross_border()
            self._open.pop()

    def reset(self) -> None:
        """Forget the seconds counted so far; called between updates."""
        self.seconds = {}

    def _cross_border(self) -> None:
        """Give the time since the last border to the innermost open phase."""
        self._synchronize()
        now = self._read()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
