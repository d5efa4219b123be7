"""Train the members of an ensemble that are not trained yet."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from gnopt import plug_ins
from gnopt.ensemble import worker
from gnopt.ensemble.load import load_ensemble
from gnopt.ensemble.outcome import MemberOutcome, read_member, unfinished
from gnopt.ensemble.start import Ensemble
from gnopt.ensemble.summary import EnsembleScores, score_ensemble
from gnopt.errors import Diverged, GnoptError, Interrupted
from gnopt.training.rundir import resume_command
from gnopt.workers.child import Task, WorkerExit
from gnopt.workers.engines import get_engine

MemberEnded = Callable[[MemberOutcome, str], None]  # with the reason of a failure, or ""


@dataclass(frozen=True)
class EnsembleOutcome:
    """How the members of an ensemble ended, and what they score together."""

    members: list[MemberOutcome]
    scores: EnsembleScores

    @property
    def trained(self) -> list[MemberOutcome]:
        """The members that count."""
        return [member for member in self.members if member.done]

    def notes(self) -> list[str]:
        """Return lines on members that diverged, and on those that learned nothing."""
        lost = [str(m.member.number) for m in self.members if not m.done]
        notes = [f"{m.member.name}: {line}" for m in self.members for line in m.shortcomings]
        if lost:
            count = f"{len(lost)} of {len(self.members)} members"
            notes.insert(0, f"{count} diverged and are left out: {', '.join(lost)}")
        return notes


def train(ensemble: Ensemble, ended: MemberEnded) -> EnsembleOutcome:
    """Train what is left to train, and record in run.json how the ensemble ended.

    ``ended`` is called after each member. A member that diverges is left out of the ensemble.
    Raises Diverged if all of them do, Interrupted when a signal arrives, once every member has
    written a checkpoint, and GnoptError after the last member if one failed in another way.
    """
    run = ensemble.run
    try:
        outcome = _train(ensemble, ended)
    except BaseException as error:
        status, code = _status_of(error)
        with contextlib.suppress(OSError):  # a full disk must not hide the error
            run.log(f"{status}: {error}")
            run.finish(status, code)
        raise
    for text in outcome.notes():
        run.log(text)
    for name, score in outcome.scores.rows():
        run.log(f"{name}: {score}")
    run.log("done")
    trained = [outcome.member.number for outcome in outcome.trained]
    run.finish("done", 0, trained=trained, scores=outcome.scores.facts())
    return outcome


def _status_of(error: BaseException) -> tuple[str, int]:
    """Return what run.json says of an ensemble that this error ended, and the exit code."""
    if isinstance(error, KeyboardInterrupt):  # while scores are computed
        return "interrupted", 130
    status = {Diverged: "diverged", Interrupted: "interrupted"}.get(type(error), "failed")
    return status, error.exit_code if isinstance(error, GnoptError) else 1


def _train(ensemble: Ensemble, ended: MemberEnded) -> EnsembleOutcome:
    run, members = ensemble.run, ensemble.members
    todo = unfinished(run.path, ensemble.config, members)
    run.log(
        f"{len(todo)} of {len(members)} members to train, {ensemble.allocation.text()}: "
        f"{shlex.join(run.info['argv'])}"
    )
    failures: dict[int, str] = {}

    def task_ended(task: Task, worker_exit: WorkerExit) -> None:
        outcome = read_member(run.path, members[int(task.run) - 1])
        if worker_exit.code and outcome.status != "diverged":
            failures[outcome.member.number] = worker_exit.reason
        run.log(f"{outcome.member.name}: {outcome.text(worker_exit.reason)}")
        ended(outcome, worker_exit.reason)

    tasks = [
        Task(
            worker.__name__,
            str(run.path.resolve()),
            str(member.number),
            ensemble.allocation.threads,
            plug_ins.records(),
        )
        for member in todo
    ]
    again = resume_command(run.path)
    try:
        get_engine("local").run(tasks, ensemble.allocation, task_ended)
    except Interrupted as error:
        left = len(unfinished(run.path, ensemble.config, members))
        raise Interrupted(
            f"{error}; {left} of {len(members)} members are not trained\nresume with: {again}",
            error.exit_code - 128,
        ) from None
    outcomes = [read_member(run.path, member) for member in members]
    if failures:
        lines = [f"  {members[n - 1].name}: {reason}" for n, reason in sorted(failures.items())]
        raise GnoptError(
            "\n".join(
                [
                    f"{len(failures)} of {len(members)} members failed:",
                    *lines,
                    f"the others are kept; once the cause is gone: {again}",
                ]
            )
        )
    if not any(outcome.done for outcome in outcomes):
        raise Diverged(f"all {len(members)} members diverged; their logs are in {run.path}/members")
    return EnsembleOutcome(outcomes, score_ensemble(load_ensemble(run.path)))
