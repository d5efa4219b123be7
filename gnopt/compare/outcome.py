"""Read from its directory how a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from gnopt.compare.plan import ComparisonPlan, Run
from gnopt.training import rundir
from gnopt.training.csv_table import read_columns

_COLUMNS = ("train_loss", "train_error", "validation_loss", "validation_error")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. Numbers are those of the last evaluation, NaN unless the run is done, and
    ``lowest_validation`` is the lowest validation loss of all evaluations.
    """

    status: str  # `rundir.status_of`, or "missing" without run.json
    updates: int = 0
    seconds: float = 0.0
    initial: float = nan  # objective before the first update
    objective: float = nan
    error: float = nan
    validation_objective: float = nan
    validation_error: float = nan
    lowest_validation: float = nan

    @property
    def done(self) -> bool:
        """Whether the run used up its budget."""
        return self.status == "done"


def read_outcome(plan: ComparisonPlan, run: Run) -> RunOutcome:
    """Return how ``run`` stands, whether it has ended or not."""
    path = plan.run_path(run)
    if not rundir.is_run(path):
        return RunOutcome("missing")
    status = rundir.status_of(path)
    updates, seconds = rundir.updates_and_seconds(path)
    evaluations = read_columns(path / "eval.csv", _COLUMNS)
    losses = evaluations["train_loss"]
    initial = float(losses[0]) if len(losses) else nan
    if status != "done" or not len(losses):
        return RunOutcome(status, updates, seconds, initial)
    validation = evaluations["validation_loss"]
    lowest = float(np.nanmin(validation)) if np.isfinite(validation).any() else nan
    numbers = [*(float(evaluations[name][-1]) for name in _COLUMNS), lowest]
    return RunOutcome(status, updates, seconds, initial, *numbers)
