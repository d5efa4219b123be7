"""Say what a user should know although the command goes on: a file that could not be checked, one
that is used in place of a damaged one, or how far a long pass over the data is.

Every part of the package may call `note` and `passing`. The command line prints the lines on
stderr, with ``--quiet`` only those of `note`; a program that uses the package as a library gets
them from the logger "gnopt" of the standard module ``logging``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

_LOGGER = logging.getLogger("gnopt")
FIRST, LAST = 5.0, 60.0  # seconds until a pass is spoken of, and between later lines at most


def note(text: str) -> None:
    """Say one line to the user."""
    _LOGGER.warning("%s", text)


def passing(starts: range, what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield ``starts``, the first rows of the pieces of a pass over the rows up to its stop; if the
    pass takes long, say every so often how far it is.

    ``what`` names the pass, such as "reading the targets".
    """
    said, interval = clock(), FIRST
    for start in starts:
        now = clock()
        if now - said > interval:
            share = 100 * start / starts.stop
            _LOGGER.info("%s: %.0f %% of %s rows", what, share, f"{starts.stop:,}")
            said, interval = now, min(2 * interval, LAST)
        yield start


def only_notes() -> None:
    """Leave out how far passes are, as ``--quiet`` asks."""
    _LOGGER.setLevel(logging.WARNING)


class _Handler(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


@contextlib.contextmanager
def shown_by(show: Callable[[str], None]) -> Iterator[None]:
    """Call ``show`` with every note of the ``with`` block."""
    handler = _Handler(show)
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate = True
