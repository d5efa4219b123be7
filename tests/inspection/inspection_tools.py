"""Small subjects of an inspection, made from the cases of ``reference``."""

from __future__ import annotations

from typing import Any

from reference import Case, settings

from gnopt.config import Config
from gnopt.data.options import DataSettings
from gnopt.inspection.factors import Factors, compute
from gnopt.inspection.subject import Snapshot, Subject, take_snapshot
from gnopt.settings import NetworkSettings, TrainingSettings


def silent(text: str) -> None:
    """Takes a note and says nothing."""


def subject_of(
    case: Case, memory: int = 64 << 20, name: str = "case", eta: float = 0.0, **optimizer: Any
) -> Subject:
    """A case as the subject of an inspection; the arrays of cached cases are not shared."""
    config = Config(
        DataSettings(file=""),
        NetworkSettings(hidden=[], activation=list(case.names), loss=case.loss_name),
        TrainingSettings(dtype=str(case.net.dtype), memory=memory),
        "kfra",
        settings("kfra", **optimizer),
        {},
    )
    theta = case.theta.copy()
    return Subject(
        name, config, case.net, case.loss, case.x.copy(), case.y.copy(), [None], theta, eta
    )


def look_at(case: Case, **options: Any) -> Snapshot:
    """The case with its forward pass."""
    subject = subject_of(case, **options)
    return take_snapshot(subject, subject.weights(None))


def factors_of(at: Snapshot, *names: str, samples: int = 1) -> Factors:
    """Blocks by these methods."""
    return compute(at, names, samples, silent)
