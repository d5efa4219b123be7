"""Which network of a run is handed out, and why: the best by what judges the run, on the
validation rows, if there are some, and else on the training rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.training.judge import Judged


@dataclass(frozen=True)
class HandedOut:
    """A network of a run: its step, and by what it was judged; None if it was never evaluated.

    ``best`` says that it is the best of all evaluations; otherwise the network was asked for, or is
    the newest of a run without a best one.
    """

    step: int
    judged: Judged | None
    best: bool

    @classmethod
    def of(cls, step: int, judged: Judged | None, best: bool = True) -> HandedOut:
        """Describe the network of a checkpoint; one that was not evaluated is not the best."""
        return cls(step, judged, best and judged is not None)

    def reason(self) -> str:
        """Return why it is this network, in a few words."""
        if not self.best or self.judged is None:
            return "not chosen by its loss"
        words = self.judged.words()
        return words if self.step else f"untrained, {words}"

    def complaint(self, updates: int) -> list[str]:
        """Return a line if training for so many updates has only made the network worse."""
        if self.step or not self.best or not updates:
            return []
        return ["training made the network worse; the untrained network is handed out"]

    def facts(self) -> dict[str, object]:
        """Return the fields for JSON."""
        return {
            "step": self.step,
            "judged_by": self.judged.column if self.judged else None,
            "value": self.judged.value if self.judged else None,
            "reason": self.reason(),
        }
