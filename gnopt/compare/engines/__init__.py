"""Where the runs of a comparison are made: a file here that defines ``ENGINE`` adds one.

An engine is an object with ``name``, ``summary`` and

    check() -> None
    run(tasks, allocation, ended) -> None

``check`` raises GnoptError where the engine cannot work. ``run`` performs every task (see
`child.perform`), calls ``ended(task, worker_exit)`` in the calling thread after each, and, where a
signal arrives, raises Interrupted after the workers have written their checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gnopt.compare.child import Task, WorkerExit
from gnopt.compare.cores import Allocation
from gnopt.errors import ConfigError, nearest
from gnopt.registry import discover

TaskEnded = Callable[[Task, WorkerExit], None]


class Engine(Protocol):
    """The contract above."""

    name: str
    summary: str

    def check(self) -> None:
        """Raise where runs cannot be made."""

    def run(self, tasks: Sequence[Task], allocation: Allocation, ended: TaskEnded) -> None:
        """Perform the tasks."""


def get_engine(name: str) -> Engine:
    """The engine called ``name``; ConfigError otherwise."""
    found = discover(__name__, "ENGINE")
    if name not in found:
        raise ConfigError(f"--engine {name}: expected {' or '.join(found)}{nearest(name, found)}")
    engine: Engine = found[name]
    return engine
