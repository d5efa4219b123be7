"""The errors that a user may see, and the exit code of the command that raised each.

::

    GnoptError              1          reported in one or a few lines, without a traceback
     ├─ DataError           1          a data file or a run directory is missing or damaged
     │   └─ TargetRangeError 1         a target is a number that the loss does not take
 ├─ ConfigError         2          the request is wrong: flags, grids, names
     │   └─ SettingsError   2          settings of a configuration are wrong, each told as a record
     ├─ CheckFailed         1          a self-test of a network, loss or activation failed
     ├─ Diverged            3          the numbers of a run stopped being finite
     ├─ SomeRunsFailed      4          a comparison ended, but not all of its runs did
     └─ Interrupted         128 + n    signal n ended a run after a checkpoint
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class GnoptError(Exception):
    """An error reported in one or a few lines, without a traceback."""

    exit_code = 1


class DataError(GnoptError):
    """A data file is missing, damaged, or does not hold what was asked of it."""


class TargetRangeError(DataError):
    """A target is a number that the loss does not take."""


class ConfigError(GnoptError):
    """One or more settings are wrong; ``problems`` lists all of them, one line each."""

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class SettingProblem:
    """One wrong setting: what was found, what was expected instead, and where it was given.

    ``str()`` is the message, and the only place that puts the parts together.
    """

    key: str  # section.name
    found: str  # in words, such as "training.seed = -1" or "unknown key training.sede"
    expected: str = ""  # in words, such as "a whole number >= 0"
    hint: str = ""  # ends the message: the nearest name, or another section that has the key
    source: str = ""  # a file, --set or a flag

    def __str__(self) -> str:
        source = f"{self.source}: " if self.source else ""
        expected = f": expected {self.expected}" if self.expected else ""
        return f"{source}{self.found}{expected}{self.hint}"


class SettingsError(ConfigError):
    """Settings of a configuration are wrong; ``records`` holds the parts of each problem."""

    def __init__(self, records: Iterable[SettingProblem]) -> None:
        self.records = list(records)
        super().__init__(map(str, self.records))


class CheckFailed(GnoptError):
    """Some self-tests failed."""


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
    """Return a hint, to be put at the end of a message, at the known name closest to ``name``.

    The hint is empty where no name is close.

    >>> nearest("kfar", ["kfra", "adam"])
    " (did you mean 'kfra'?)"
    >>> nearest("lbfgs", ["kfra", "adam"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
