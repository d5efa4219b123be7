"""Make the runs of a comparison that are not finished yet."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gnopt import plug_ins
from gnopt.compare import worker
from gnopt.compare.outcome import RunOutcome, read_outcome
from gnopt.compare.plan import ComparisonPlan, Run
from gnopt.engine.arrays import check_device
from gnopt.errors import ConfigError, Interrupted
from gnopt.training import rundir
from gnopt.workers.child import Task, WorkerExit
from gnopt.workers.cores import Allocation
from gnopt.workers.engines import get_engine

RunEnded = Callable[[Run, RunOutcome, WorkerExit], None]


@dataclass(frozen=True)
class Part:
    """The ``number``-th of ``of`` equal parts of the runs, to share them among machines."""

    number: int = 1
    of: int = 1

    def take(self, runs: Sequence[Run]) -> list[Run]:
        """Return every ``of``-th run, starting at the ``number``-th."""
        return list(runs[self.number - 1 :: self.of])


def parse_part(text: str | None) -> Part | None:
    """Read ``--part I/N`` with 1 <= I <= N; ConfigError otherwise."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ConfigError(f"--part {text!r}: expected I/N with 1 <= I <= N, such as 1/8")
    return Part(int(number), int(of))


def unfinished(plan: ComparisonPlan, part: Part | None = None) -> list[Run]:
    """Return the runs, of one part or of all, that neither finished nor diverged."""
    runs = (part or Part()).take(plan.runs)
    return [run for run in runs if read_outcome(plan, run).status not in rundir.FINISHED]


def check_devices(runs: Sequence[Run], allocation: Allocation) -> None:
    """Raise ConfigError where a device that the runs need cannot be had."""
    for device in allocation.gpus if runs and allocation.engine == "local" else ():
        check_device(device)


def execute(
    plan: ComparisonPlan, runs: Sequence[Run], allocation: Allocation, run_ended: RunEnded
) -> dict[str, str]:
    """Make ``runs`` and return {id of a run that failed: reason}.

    ``run_ended`` is called as each run ends. Raises Interrupted when a signal arrives, after every
    run under way has written a checkpoint.
    """
    by_id = {run.id: run for run in runs}
    failures: dict[str, str] = {}

    def ended(task: Task, worker_exit: WorkerExit) -> None:
        run = by_id[task.run]
        if worker_exit.code:
            failures[run.id] = worker_exit.reason
        run_ended(run, read_outcome(plan, run), worker_exit)

    directory = str(plan.directory.resolve())
    tasks = [
        Task(worker.__name__, directory, run.id, plan.threads, plug_ins.records()) for run in runs
    ]
    try:
        get_engine(allocation.engine).run(tasks, allocation, ended)
    except Interrupted as error:
        left = len(unfinished(plan))
        raise Interrupted(
            f"{error}; {left} of {len(plan.runs)} runs are not finished\nresume with: "
            f"gnopt compare --resume --out {shlex.quote(str(plan.directory))}",
            error.exit_code - 128,
        ) from None
    return failures
