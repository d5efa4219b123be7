"""Making the runs of a plan that are not finished yet."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gnopt.compare.child import Ending, Task
from gnopt.compare.cores import Share
from gnopt.compare.engines import get_engine
from gnopt.compare.outcome import FINISHED, Outcome, read_outcome
from gnopt.compare.plan import Plan, Run
from gnopt.engine.arrays import check_device
from gnopt.errors import ConfigError, Interrupted

Heard = Callable[[Run, Outcome, Ending], None]


@dataclass(frozen=True)
class Part:
    """The ``number``-th of ``of`` equal parts of the runs."""

    number: int = 1
    of: int = 1

    def take(self, runs: Sequence[Run]) -> list[Run]:
        """Every ``of``-th run."""
        return list(runs[self.number - 1 :: self.of])


def parse_part(text: str | None) -> Part | None:
    """``I/N`` as a part, 1 <= I <= N; ConfigError otherwise."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ConfigError(f"--part {text!r}: expected I/N with 1 <= I <= N, such as 1/8")
    return Part(int(number), int(of))


def unfinished(plan: Plan, part: Part | None = None) -> list[Run]:
    """The runs, of one part or all, that neither finished nor diverged."""
    runs = (part or Part()).take(plan.runs)
    return [run for run in runs if read_outcome(plan, run).status not in FINISHED]


def check_devices(runs: Sequence[Run], share: Share) -> None:
    """ConfigError, once for all ``runs``, where a GPU that they need is not there; other engines'
    may be elsewhere.
    """
    for device in share.gpus if runs and share.engine == "local" else ():
        check_device(device)


def execute(plan: Plan, runs: Sequence[Run], share: Share, heard: Heard) -> dict[str, str]:
    """Make ``runs``; ``heard`` is told of each as it ends. Returns run → reason for those that
    failed.

    Raises Interrupted after the checkpoints of all runs under way where a signal arrives.
    """
    by_id = {run.id: run for run in runs}
    failures: dict[str, str] = {}

    def ended(task: Task, ending: Ending) -> None:
        run = by_id[task.run]
        if ending.code:
            failures[run.id] = ending.reason or f"exit code {ending.code}"
        heard(run, read_outcome(plan, run), ending)

    tasks = [Task(str(plan.directory.resolve()), run.id, plan.threads, plan.folder) for run in runs]
    try:
        get_engine(share.engine).run(tasks, share, ended)
    except Interrupted as error:
        left = len(unfinished(plan))
        raise Interrupted(
            f"{error}; {left} of {len(plan.runs)} runs are not finished\nresume with: "
            f"gnopt compare --resume --out {shlex.quote(str(plan.directory))}",
            error.exit_code - 128,
        ) from None
    return failures
