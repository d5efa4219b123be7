"""What training is for, and the settings that follow from it.

A setting whose value is "auto" takes the aim's; each can be set alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AUTO = "auto"
# Weight decay that is chosen by the data: during the run, by the evidence, or before it.
EVIDENCE, CROSS_VALIDATION = "evidence", "cross_validation"


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One aim with its settings, named as the options are."""

    name: str
    summary: str
    weight_decay: float | str  # of second-order methods, in units of the loss
    averaging: float
    patience: float

    def choose(self, option: str, value: Any) -> Any:
        """Return the value of this option: the aim's where it is "auto"."""
        return getattr(self, option) if value == AUTO else value


PREDICTION = Aim(
    name="prediction",
    summary="the best model for new data",
    weight_decay=EVIDENCE,
    averaging=0.9,
    patience=2.0,
)
OBJECTIVE = Aim(
    name="objective",
    summary="the lowest training objective soonest",
    weight_decay=0.0,
    averaging=0.0,
    patience=0.0,
)
AIMS = {aim.name: aim for aim in (PREDICTION, OBJECTIVE)}
