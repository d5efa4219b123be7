"""Which network of a run is handed out, and why: the best by the validation rows, if there are
some, and else by the training objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NAMES = {"validation_loss": "validation loss", "train_loss": "training objective"}


@dataclass(frozen=True)
class HandedOut:
    """A network of a run: its step, and the loss that it was judged by.

    ``by`` is "validation_loss", "train_loss" or, for a network that was never evaluated, "".
    ``best`` says that this loss is the lowest of all evaluations; otherwise the network was asked
    for, or is the newest of a run without a best one.
    """

    step: int
    by: str
    loss: float | None
    best: bool

    @classmethod
    def of(cls, step: int, losses: Mapping[str, float], best: bool = True) -> HandedOut:
        """Describe the network of a checkpoint by the attributes ``losses``."""
        by, loss = judged(losses)
        return cls(step, by, loss, best and loss is not None)

    def reason(self) -> str:
        """Return why it is this network, in a few words."""
        if not self.best:
            return "not chosen by its loss"
        lowest = f"lowest {_NAMES[self.by]} {self.loss:.6g}"
        return lowest if self.step else f"untrained, {lowest}"

    def complaint(self, updates: int) -> list[str]:
        """Return a line if training for so many updates has only made the network worse."""
        if self.step or not self.best or not updates:
            return []
        return ["training made the network worse; the untrained network is handed out"]

    def facts(self) -> dict[str, object]:
        """Return the fields for JSON."""
        return {
            "step": self.step,
            "judged_by": self.by or None,
            "loss": self.loss,
            "reason": self.reason(),
        }


def judged(losses: Mapping[str, float]) -> tuple[str, float | None]:
    """Return the name and value of the loss that decides, ("", None) where there is none."""
    for name in _NAMES:
        if name in losses:
            return name, losses[name]
    return "", None
