"""Turn Ctrl-C and SIGTERM into a flag, so that training stops between two updates."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within a ``with`` block, note the first signal in ``received``; a second ends the process.

    The loop checks ``received`` after every update and can still write a checkpoint.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in _WATCHED:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            show_cursor = b"\x1b[?25h" if sys.stderr.isatty() else b""
            os.write(sys.stderr.fileno(), show_cursor + b"\ngnopt: second signal, no checkpoint\n")
            os._exit(128 + number)
        self.received = number
