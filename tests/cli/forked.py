"""Commands in a copy of this process: it starts in milliseconds, and can be killed at any time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from cli_tools import CommandResult

from gnopt.cli import main


class Forked:
    """A command under way; its working directory is ``folder``."""

    def __init__(self, folder: Path, argv: Sequence[object]) -> None:
        self._err = folder / ".stderr"
        with warnings.catch_warnings():
            # Python warns of threads in the parent: the command uses none of their locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._become(folder, [str(part) for part in argv])

    def _become(self, folder: Path, argv: list[str]) -> None:
        """Run the command in the child, which ends here whatever happens."""
        code = 70
        try:
            os.chdir(folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            err = os.open(self._err, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            for number, descriptor in enumerate((nothing, nothing, err)):
                os.dup2(descriptor, number)
            sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 (the process ends)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            try:
                main(argv)
            except SystemExit as done:
                code = int(done.code or 0)
            sys.stderr.flush()
        finally:
            os._exit(code)

    def kill(self) -> None:
        """Kill the command, if it has not ended, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def finish(self, seconds: float) -> CommandResult:
        """Wait for the end; a command that takes longer is killed and fails the test."""
        end, pause = time.monotonic() + seconds, 0.001
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"no end after {seconds:g} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        code = os.waitstatus_to_exitcode(status)
        return CommandResult(code, "", self._err.read_text(errors="replace"))
