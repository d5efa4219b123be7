"""Say what a user should know although the command goes on: a file that could not be checked, or
one that is used in place of a damaged one.

Every part of the package may call `note`. The command line prints the lines on stderr, even with
``--quiet``; a program that uses the package as a library gets them from the logger "gnopt" of the
standard module ``logging``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

_LOGGER = logging.getLogger("gnopt")


def note(text: str) -> None:
    """Say one line to the user."""
    _LOGGER.warning("%s", text)


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
    _LOGGER.propagate = False
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate = True
