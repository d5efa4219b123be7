"""Choose the checkpoint from which a run goes on, where some files of the run are damaged.

The newest one is not always fit: its file may be damaged, the network of the best evaluation until
then may be lost, or rows of the tables before it. An older checkpoint before the damage makes good
for all of these, because training repeats what was lost to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gnopt.errors import DataError
from gnopt.training import checkpoint
from gnopt.training.rundir import Marks, RunDirectory


@dataclass(frozen=True)
class Place:
    """Where a run goes on."""

    path: Path | None = None  # of the checkpoint; None: there is none yet, the run begins
    notes: list[str] = field(default_factory=list)  # on damage, for the user
    best_is_lost: bool = False  # the network of the best evaluation so far


def find_place(run: RunDirectory) -> Place:
    """Return the newest checkpoint of a run from which all goes on as if nothing had happened.

    If there is none but for a lost best network, the run goes on without that network. Raises
    DataError if no checkpoint can be used.
    """
    problems: list[str] = []
    without_best: Path | None = None
    for path in _candidates(run.path):
        step = checkpoint.step_of(path) or 0
        problem = checkpoint.damage(path)
        if problem is None and not checkpoint.resumable(path):
            continue
        problem = problem or run.gap(Marks.read(checkpoint.remark(path)), step)
        if problem is None:
            lost = _lost_best(path)
            if lost is None:
                return Place(path, _told(problems, path))
            problem, without_best = lost, without_best or path
        problems.append(problem)
    if without_best is not None:
        return Place(
            without_best,
            [*dict.fromkeys(problems), "the best of the networks from now on is handed out"],
            best_is_lost=True,
        )
    if problems:
        raise DataError(
            "\n".join(
                [
                    *dict.fromkeys(problems),
                    f"{run.path}: no checkpoint is left from which the run can go on as it was; "
                    "--init-from starts a new run from the weights of a checkpoint",
                ]
            )
        )
    return Place()


def newest(run: Path) -> Path | None:
    """Return the newest checkpoint from which a run can go on and that is not damaged, None if
    there is none yet; damaged ones are noted. Raises DataError if all are damaged.
    """
    return checkpoint.whole(
        path
        for path in _candidates(run)
        if checkpoint.damage(path) is not None or checkpoint.resumable(path)
    )


def best_whole(folder: Path) -> Path | None:
    """Return the checkpoint that ``best`` names or, if it is damaged, the best of the others that
    are whole; None if ``best`` names none.
    """
    best = checkpoint.pointed(folder, "best")
    if best is None or checkpoint.damage(best) is None:
        return best
    others = [path for path in checkpoint.listed(folder) if path != best]
    ranks = {path: checkpoint.rank(path) for path in others if checkpoint.damage(path) is None}
    damaged = [path for path in others if path not in ranks]
    return checkpoint.whole([best, *sorted(ranks, key=lambda path: ranks[path]), *damaged])


def updates_made(run: Path) -> int:
    """Return the updates that the newest checkpoint was made after, as its name says."""
    path = next(_candidates(run), None)
    return (checkpoint.step_of(path) or 0) if path else 0


def _candidates(run: Path) -> Iterator[Path]:
    """Yield the checkpoint that ``latest`` names, then the older ones; all, if it names none."""
    folder = run / "checkpoints"
    paths = checkpoint.listed(folder)[::-1]
    latest = checkpoint.pointed(folder, "latest")
    yield from paths[paths.index(latest) :] if latest in paths else paths


def _lost_best(path: Path) -> str | None:
    """Return what is wrong with the best network as of this checkpoint, or None.

    If the run has had a better network since, the older one is not needed: training finds the
    better one again.
    """
    step = checkpoint.load_state(path).get("counters", {}).get("best_step")
    if not isinstance(step, int):
        return None  # no state of a run; who reads all of it says so
    best = path.with_name(checkpoint.checkpoint_name(step))
    since = checkpoint.named(path.parent, "best")
    if best == path or (since is not None and since > (checkpoint.step_of(path) or 0)):
        return None
    problem = checkpoint.damage(best) if best.is_file() else f"{best} is missing"
    return problem and f"{problem}; it was the best network"


def _told(problems: list[str], path: Path) -> list[str]:
    again = f"the run goes on from {path.name} and makes the updates after it again"
    return [*dict.fromkeys(problems), again] if problems else []
