"""Turn the requests of the command line into a plan, new or resumed, and an allocation of cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gnopt.compare import facts
from gnopt.compare.plan import (
    FILE,
    ComparisonPlan,
    ComparisonRequest,
    make_plan,
    merge,
    provide_plug_ins,
    read_plan,
)
from gnopt.errors import ConfigError
from gnopt.machine import usable_cores
from gnopt.training.rundir import free_path, occupied
from gnopt.workers.cores import Allocation


@dataclass(frozen=True)
class ExecutionRequest:
    """How the runs are to be made. None leaves a number to the plan or to the machine."""

    jobs: int | None  # runs at a time
    threads: int | None  # of each run
    engine: str
    targets: Sequence[float]  # objectives to time the methods to
    keep: bool  # keep the last checkpoint of finished runs


def default_comparison_path(config: Path | None) -> Path:
    """Return ``runs/compare-<config>``, with a number if that is taken."""
    return free_path(f"compare-{config.stem if config else ''}")


def prepare(
    directory: Path, go_on: bool, request: ComparisonRequest | None, execution: ExecutionRequest
) -> tuple[ComparisonPlan, Allocation]:
    """Return the plan, new, resumed or extended, and the allocation of cores; write nothing.

    ``go_on`` allows a comparison that is already in ``directory``; a ``request`` adds runs to it,
    None leaves it as it is. Raises ConfigError if ``directory`` holds something else, or a
    comparison that contradicts the request.
    """
    old = _existing(directory, go_on, request is None)
    calls = facts.history(old) if old else []
    jobs = execution.jobs or (calls[-1]["jobs"] if calls else 1)
    cores = len(usable_cores())
    default = max(1, cores // jobs) if execution.engine == "local" else 1
    threads = execution.threads or (old.threads if old else default)
    if old and threads != old.threads:
        raise ConfigError(
            f"--threads {threads}: the runs of this comparison have {old.threads} threads each; "
            "with others, neither numbers nor times would compare"
        )
    if request is None:
        assert old is not None
        provide_plug_ins(old)
        plan = old
    else:
        new = make_plan(request, directory, threads)
        new.keep = execution.keep
        plan = merge(old, new) if old else new
    plan.targets = list(execution.targets) or plan.targets
    return plan, Allocation(jobs, threads, cores, execution.engine, tuple(plan.gpus()))


def _existing(directory: Path, go_on: bool, needed: bool) -> ComparisonPlan | None:
    if go_on and (needed or (directory / FILE).is_file()):
        return read_plan(directory)
    if occupied(directory):
        hint = "--resume goes on with it" if (directory / FILE).is_file() else "choose another name"
        raise ConfigError(f"--out {directory}: the directory is not empty; {hint}")
    return None
