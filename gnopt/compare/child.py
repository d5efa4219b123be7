"""Starting a worker process, waiting for it and reading how its run ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gnopt import machine
from gnopt.engine.arrays import shared_by


@dataclass(frozen=True)
class Task:
    """What a worker needs to know; small enough to send anywhere that sees the same file system."""

    directory: str
    run: str
    threads: int
    folder: str  # where plug-ins lie
    cores: tuple[int, ...] = ()
    sharing: int = 1  # runs at a time that divide a GPU's memory


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended: its exit code and, where that is not 0, the reason."""

    run: str
    code: int
    reason: str


def perform(
    task: Task, started: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> WorkerExit:
    """Run a worker to its end; ``started`` hears of the process as soon as there is one."""
    path = os.pathsep.join(
        filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2]), task.folder])
    )
    environment = {
        **os.environ,
        **machine.thread_environment(task.threads),
        **shared_by(task.sharing),
        "PYTHONPATH": path,
    }
    argv = [sys.executable, "-m", "gnopt.compare.worker", task.directory, task.run]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        machine.pin(process.pid, task.cores)
        if started:
            started(process)
        assert (
            process.stderr is not None
        )  # communicate() would close stdin, whose end tells the worker to stop
        reason = process.stderr.read().decode(errors="replace").strip()
        code = process.wait()
    return WorkerExit(task.run, code, reason if code else "")
