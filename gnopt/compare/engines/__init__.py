"""Where the runs of a comparison are made: a file here that defines ``ENGINE`` adds one.

An engine is an object with ``name``, ``summary`` and

    check() -> None
    run(tasks, share, ended) -> None

``check`` raises GnoptError where the engine cannot work. ``run`` performs every task (see
`child.perform`), calls ``ended(task, ending)`` in the calling thread after each, and, where a
signal arrives, raises Interrupted after the workers have written their checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gnopt.compare.child import Ending, Task
from gnopt.compare.cores import Share
from gnopt.errors import ConfigError, nearest
from gnopt.registry import discover

Ended = Callable[[Task, Ending], None]


class Engine(Protocol):
    """The contract above."""

    name: str
    summary: str

    def check(self) -> None:
        """Raise where runs cannot be made."""

    def run(self, tasks: Sequence[Task], share: Share, ended: Ended) -> None:
        """Perform the tasks."""


def get_engine(name: str) -> Engine:
    """The engine called ``name``; ConfigError otherwise."""
    found = discover(__name__, "ENGINE")
    if name not in found:
        raise ConfigError(f"--engine {name}: expected {' or '.join(found)}{nearest(name, found)}")
    engine: Engine = found[name]
    return engine
