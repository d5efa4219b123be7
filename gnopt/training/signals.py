"""Turn signals into flags, so that training stops or goes on between two updates."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C, kill, Ctrl-\; Windows has no SIGQUIT.
_STOP = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGQUIT") if hasattr(signal, name)
)
HANGUP: int | None = getattr(signal, "SIGHUP", None)  # the terminal or the connection has closed


def outlive_terminal() -> None:
    """Let this process go on when its terminal closes.

    Called by commands that train, before they begin: reading the data may take minutes, too.
    """
    if HANGUP is not None and signal.getsignal(HANGUP) == signal.SIG_DFL:
        # Unlike SIG_IGN, a handler is not inherited by the processes that are started.
        signal.signal(HANGUP, _pass)


def _pass(number: int, frame: FrameType | None) -> None:
    pass


class Signals:
    """Within a ``with`` block, note the first signal to stop in ``received``; a second ends the
    process. ``hung_up`` says that the terminal has closed, which stops nothing.

    The loop looks at both after every update and can still write a checkpoint. Python gives signals
    to the main thread alone: in another thread of a program, nothing is noted.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.hung_up = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _STOP:
            self._previous[number] = signal.signal(number, self._note)
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:  # as nohup sets it
            self._previous[HANGUP] = signal.signal(HANGUP, self._hang_up)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self.hung_up = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            with contextlib.suppress(OSError, ValueError):
                show_cursor = b"\x1b[?25h" if sys.stderr.isatty() else b""
                os.write(2, show_cursor + b"\ngnopt: second signal, no checkpoint\n")
            os._exit(128 + number)
        self.received = number
