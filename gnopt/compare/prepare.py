"""From what is asked for, and what is already there, to a plan and each run's share of the
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gnopt.compare import facts
from gnopt.compare.cores import Share
from gnopt.compare.plan import FILE, Plan, Request, make_plan, merge, read_plan
from gnopt.errors import ConfigError
from gnopt.machine import usable_cores
from gnopt.training.rundir import occupied


@dataclass(frozen=True)
class Wishes:
    """How runs are made; None where the command line leaves it open."""

    jobs: int | None
    threads: int | None
    engine: str
    targets: Sequence[float]
    keep: bool  # the last checkpoints of finished runs


def default_directory(config: Path | None) -> Path:
    """``runs/compare-<config>``, with a number where taken."""
    base = Path("runs") / f"compare-{config.stem if config else ''}"
    path, number = base, 1
    while occupied(path):
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def prepare(
    directory: Path, go_on: bool, request: Request | None, wishes: Wishes
) -> tuple[Plan, Share]:
    """The plan, new, taken up or extended, and the share of cores; nothing is written.

    Raises ConfigError where ``directory`` holds something else, or a comparison that ``request``
    contradicts.
    """
    old = _existing(directory, go_on, request is None)
    calls = facts.history(old) if old else []
    jobs = wishes.jobs or (calls[-1]["jobs"] if calls else 1)
    cores = len(usable_cores())
    default = max(1, cores // jobs) if wishes.engine == "local" else 1
    threads = wishes.threads or (old.threads if old else default)
    if old and threads != old.threads:
        raise ConfigError(
            f"--threads {threads}: the runs of this comparison have {old.threads} threads each; "
            "with others, neither numbers nor times would compare"
        )
    if request is None:
        assert old is not None
        plan = old
    else:
        new = make_plan(request, directory, threads)
        new.keep = wishes.keep
        plan = merge(old, new) if old else new
    plan.targets = list(wishes.targets) or plan.targets
    return plan, Share(jobs, threads, cores, wishes.engine, tuple(plan.gpus()))


def _existing(directory: Path, go_on: bool, needed: bool) -> Plan | None:
    if go_on and (needed or (directory / FILE).is_file()):
        return read_plan(directory)
    if occupied(directory):
        hint = "--resume goes on with it" if (directory / FILE).is_file() else "choose another name"
        raise ConfigError(f"--out {directory}: the directory is not empty; {hint}")
    return None
