"""Load what a run directory holds: a network, or an ensemble of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gnopt.config import Config, Flags
from gnopt.ensemble.members import members_of
from gnopt.ensemble.outcome import MemberOutcome, read_member
from gnopt.ensemble.trained import TrainedEnsemble, told
from gnopt.errors import DataError
from gnopt.training import load as single
from gnopt.training import rundir
from gnopt.training.content import Content
from gnopt.training.load import Stored, StoredRun, Trained
from gnopt.training.origin import own_config


def load_trained(run: Path, which: str | None = None, flags: Flags | None = None) -> Trained:
    """Load the network of a run, or the trained members of an ensemble.

    ``which`` and ``flags`` are those of `gnopt.training.load.load_run`, for every member.
    """
    if rundir.members(run):
        return load_ensemble(run, which, flags)
    return single.load_run(run, which, flags)


def load_ensemble(
    run: Path, which: str | None = None, flags: Flags | None = None
) -> TrainedEnsemble:
    """Load the members of an ensemble that are trained; DataError if there are none."""
    config = own_config(run, flags)
    trained, others = _trained(run, config)
    networks = [single.load_run(outcome.path, which, flags) for outcome in trained]
    numbers = [outcome.member.number for outcome in trained]
    return TrainedEnsemble(config, run, numbers, networks, others)


def load_stored(run: Path, which: str | None = None) -> Stored:
    """Read the network of a run, or those of the trained members of an ensemble."""
    if not rundir.members(run):
        return single.load_stored(run, which)
    trained, others = _trained(run, own_config(run))
    runs = {o.member.number: single.load_stored(o.path, which) for o in trained}
    return StoredEnsemble(run, runs, others)


@dataclass(frozen=True)
class StoredEnsemble:
    """The networks of an ensemble, on the host; its methods are those of `Stored`."""

    run: Path
    runs: dict[int, StoredRun]  # by number of the member
    left_out: list[str]

    def content(self) -> Content:
        return Content(self.title(), {number: run.network for number, run in self.runs.items()})

    def title(self) -> str:
        sizes = "-".join(map(str, next(iter(self.runs.values())).network.sizes))
        return f"{len(self.runs)} members {sizes}, from {self.run}"

    def facts(self) -> dict[str, object]:
        members = [{"member": number, **run.facts()} for number, run in self.runs.items()]
        return {"ensemble": str(self.run), "members": members}

    def told(self) -> list[str]:
        return told([run.network.step for run in self.runs.values()], self.left_out)

    def shortcomings(self) -> list[str]:
        return [
            f"member {number}: {line}"
            for number, run in self.runs.items()
            for line in run.shortcomings()
        ]


def _trained(run: Path, config: Config) -> tuple[list[MemberOutcome], list[str]]:
    """Return the members that are trained, and a line on the others if there are any.

    Raises DataError if no member is trained.
    """
    outcomes = [read_member(run, member) for member in members_of(config)]
    trained = [outcome for outcome in outcomes if outcome.done]
    others = ", ".join(f"{o.member.number} ({o.status})" for o in outcomes if not o.done)
    if not trained:
        raise DataError(f"{run}: no member of this ensemble is trained: {others}")
    return trained, [f"members that are not trained are left out: {others}"] if others else []
