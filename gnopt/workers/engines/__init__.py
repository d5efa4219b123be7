"""Engines perform tasks, each the making of a run; a file here that defines ``ENGINE`` adds one.

An engine is an object with ``name``, ``summary`` and

    check() -> None
    run(tasks, allocation, ended) -> None

``check`` raises GnoptError if the engine cannot work here. ``run`` performs every task (see
`child.perform`) and calls ``ended(task, worker_exit)`` after each, in the calling thread. When a
signal arrives, ``run`` raises Interrupted once the workers have written their checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gnopt.errors import ConfigError, nearest
from gnopt.registry import discover
from gnopt.workers.child import Task, WorkerExit
from gnopt.workers.cores import Allocation

TaskEnded = Callable[[Task, WorkerExit], None]


class Engine(Protocol):
    """The contract of an engine, as described above."""

    name: str
    summary: str

    def check(self) -> None:
        """Raise GnoptError if runs cannot be made here."""

    def run(self, tasks: Sequence[Task], allocation: Allocation, ended: TaskEnded) -> None:
        """Perform the tasks and call ``ended`` after each."""


def get_engine(name: str) -> Engine:
    """Return the engine called ``name``; ConfigError if there is none."""
    engines = discover(__name__, "ENGINE")
    if name not in engines:
        raise ConfigError(
            f"--engine {name}: expected {' or '.join(engines)}{nearest(name, engines)}"
        )
    engine: Engine = engines[name]
    return engine
