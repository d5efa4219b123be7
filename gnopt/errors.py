"""The errors a user may see; each knows the exit code of the command that raised it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GnoptError(Exception):
    """An error reported in one or a few lines, without a traceback."""

    exit_code = 1


class DataError(GnoptError):
    """A data file is missing, damaged, or does not hold what was asked of it."""


class ConfigError(GnoptError):
    """One or more settings are wrong; ``problems`` lists all of them, one line each."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Diverged(GnoptError):
    """Training met numbers that are not finite and could not recover."""

    exit_code = 3


class SomeRunsFailed(GnoptError):
    """A comparison finished, but not all of its runs did."""

    exit_code = 4


class Interrupted(GnoptError):
    """A signal ended the run after a checkpoint; the exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to ``name``, or an empty
    string.
    """
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
