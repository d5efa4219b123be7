"""Make one run of a comparison: ``python -m gnopt.compare.worker DIRECTORY RUN``."""

from __future__ import annotations

import sys
from pathlib import Path

from gnopt.compare.plan import ComparisonPlan, Run, read_plan
from gnopt.training import checkpoint
from gnopt.workers.worker import make_run, serve


def train(directory: Path, name: str) -> None:
    """Make or finish a run, and keep at most its last checkpoint; raises what training raises."""
    plan = read_plan(directory)
    run = next(run for run in plan.runs if run.id == name)
    seed = {"training.seed": ("--seed", run.seed)}
    argv = train_command(plan, run)
    trainer = make_run(plan.problem_path, run.sets, seed, plan.run_path(run), argv)
    _tidy(trainer.run.checkpoints, trainer.saved if plan.keep else None)


def train_command(plan: ComparisonPlan, run: Run) -> list[str]:
    """Return the ``gnopt train`` command that makes the same run."""
    sets = [part for text in run.sets for part in ("--set", text)]
    return [
        "gnopt",
        "train",
        str(plan.problem_path),
        *sets,
        "--seed",
        str(run.seed),
        "--out",
        str(plan.run_path(run)),
    ]


def _tidy(folder: Path, last: Path | None) -> None:
    for path in checkpoint.listed(folder):
        if last is None or path.name != last.name:
            path.unlink()
    for pointer in ("latest", "best"):
        if checkpoint.pointed(folder, pointer) is None:
            (folder / pointer).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(serve(train))
