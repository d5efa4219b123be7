"""Read from their directories how the members of an ensemble ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from gnopt.config import Config
from gnopt.ensemble.members import Member
from gnopt.errors import DataError
from gnopt.formatting import digits
from gnopt.toml import to_toml
from gnopt.training import rundir
from gnopt.training.csv_table import read_columns

_LOSSES = ("step", "train_loss", "validation_loss")


@dataclass(frozen=True)
class MemberOutcome:
    """How a member stands, whether it has ended or not.

    Losses are those of the network that is handed out, NaN where there are none.
    """

    member: Member
    path: Path
    status: str  # `rundir.status_of`, or "missing" without run.json
    updates: int = 0
    seconds: float = 0.0
    handed_out: Mapping[str, Any] = field(default_factory=dict)  # which network, as in run.json
    objective: float = nan
    validation: float = nan
    shortcomings: Sequence[str] = ()  # lines on a network that is no better than a constant

    @property
    def done(self) -> bool:
        """Whether the member is trained, and counts in the ensemble."""
        return self.status == "done"

    def text(self, reason: str = "") -> str:
        """Return how the member ended in a few words; ``reason`` says why it is not trained."""
        if not self.done:
            why = f" ({reason.splitlines()[0]})" if reason else ""
            return f"{self.status} after {self.updates} updates{why}"
        losses = f"loss {digits(self.objective)}"
        if not isnan(self.validation):
            losses += f", validation {digits(self.validation)}"
        step = self.handed_out["step"]
        return f"{losses} at update {step} of {self.updates}, {self.seconds:.1f} s"

    def facts(self) -> dict[str, object]:
        """Return the fields for JSON."""
        return {
            "member": self.member.number,
            "run": str(self.path),
            "seed": self.member.seed,
            "rows": self.member.rows,
            "status": self.status,
            "updates": self.updates,
            "seconds": self.seconds,
            "handed_out": self.handed_out or None,
            "objective": self.objective,
            "validation_objective": self.validation,
            "shortcomings": list(self.shortcomings),
        }


def read_member(ensemble: Path, member: Member) -> MemberOutcome:
    """Return how ``member`` of the ensemble in this directory stands."""
    path = member.path(ensemble)
    if not rundir.is_run(path):
        return MemberOutcome(member, path, "missing")
    info = rundir.read_info(path)
    updates, seconds = rundir.updates_and_seconds(path)
    status = rundir.status_of(path)
    if status != "done":
        return MemberOutcome(member, path, status, updates, seconds)
    handed_out = info.get("handed_out", {})
    if "step" not in handed_out:
        raise DataError(f"{path / 'run.json'}: damaged: it does not tell what was handed out")
    losses = read_columns(path / "eval.csv", _LOSSES)
    at = losses["step"] == handed_out["step"]
    objective, validation = (
        float(losses[name][at][-1]) if at.any() else nan for name in _LOSSES[1:]
    )
    return MemberOutcome(
        member,
        path,
        status,
        updates,
        seconds,
        handed_out,
        objective,
        validation,
        info.get("shortcomings", ()),
    )


def unfinished(ensemble: Path, config: Config, members: list[Member]) -> list[Member]:
    """Return the members that are not trained by these settings yet."""
    return [member for member in members if not _finished(ensemble, config, member)]


def _finished(ensemble: Path, config: Config, member: Member) -> bool:
    path = member.path(ensemble)
    if read_member(ensemble, member).status not in rundir.FINISHED:
        return False
    try:
        return (path / "config.toml").read_text() == to_toml(member.config(config).values())
    except OSError:
        return False
