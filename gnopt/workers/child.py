"""Start a worker process for a run, wait for it, and report its exit code and last words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from gnopt import machine
from gnopt.engine.arrays import shared_by


@dataclass(frozen=True)
class Task:
    """All that a worker needs; plain values, so that an engine can send it to another machine."""

    module: str  # that hands `serve` what makes the run
    directory: str  # of all runs, on a file system that the worker sees too
    run: str  # name of the run
    threads: int
    plug_ins: dict[str, dict[str, str]]  # files to load, as `gnopt.plug_ins.records` has them
    cores: tuple[int, ...] = ()  # cores to stay on; none leaves the choice to the system
    sharing: int = 1  # runs at a time that divide a GPU's memory


@dataclass(frozen=True)
class WorkerExit:
    """The exit code of a worker and, unless it is 0, the reason in words, printed by the worker if
    it could.
    """

    run: str
    code: int
    reason: str


def perform(
    task: Task, started: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> WorkerExit:
    """Run a worker to its end; ``started`` is called with the process as soon as it runs."""
    environment = {
        **os.environ,
        **machine.thread_environment(task.threads),
        **shared_by(task.sharing),
    }
    argv = machine.python_running(task.module, task.directory, task.run, json.dumps(task.plug_ins))
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
        assert process.stderr is not None
        # Not communicate(): it would close stdin, and a worker stops when its stdin ends.
        reason = process.stderr.read().decode(errors="replace").strip()
        code = process.wait()
    return WorkerExit(task.run, code, (reason or _words(code)) if code else "")


def _words(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
