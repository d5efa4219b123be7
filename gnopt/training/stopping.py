"""When a run stops before its budget is used up: nothing better on new data, or nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

from gnopt.settings import OBJECTIVE, TrainingSettings
from gnopt.training.judge import Rank

GRACE = 20  # updates that patience always allows
# A run has converged after so many updates in a row that changed neither the loss nor the weights
# by more than rounding.
STILL = 50
ROUNDINGS = 4.0


@dataclass
class Patience:
    """The best evaluation of the present start; every checkpoint stores it.

    ``best`` and ``best_loss`` are its rank (`Judged`): the validation loss twice, or what follows
    from the metric that judges the run, and the loss.

    A start that has not left the best constant predictor yet is left to the ladder of restarts:
    patience counts once ``counts`` is true.
    """

    begun: int = 0  # the update after which the start began
    best: float = inf
    best_loss: float = inf
    best_step: int = 0
    last: int = 0  # the update of the last evaluation
    counts: bool = False

    def observe(self, step: int, rank: Rank, counts: bool) -> None:
        """Take note of the evaluation after update ``step``."""
        self.last, self.counts = step, counts
        if rank < (self.best, self.best_loss):
            (self.best, self.best_loss), self.best_step = rank, step

    def start_again(self, step: int) -> None:
        """Begin another start after update ``step``."""
        self.begun, self.best_step, self.last = step, step, step
        self.best = self.best_loss = inf
        self.counts = False

    def over(self, factor: float) -> bool:
        """Whether a run with ``training.patience`` = ``factor`` ends with the last evaluation.

        Updates count from the beginning of the start: u >= factor · best + 20.
        """
        end = self.end(factor)
        return end is not None and self.last >= end

    def end(self, factor: float) -> int | None:
        """The update after which the first evaluation ends the run, unless there is a better one
        before; None if the run does not end by patience as things stand.
        """
        if not (factor and self.counts and self.best_loss < inf):
            return None
        return self.begun + ceil(factor * (self.best_step - self.begun)) + GRACE


@dataclass
class Stillness:
    """The updates in a row whose loss is the same up to rounding of the largest loss of the run;
    every checkpoint stores it.

    Batches with other rows have other losses, until none of them is left to lower.
    """

    loss: float = inf
    largest: float = 0.0
    updates: int = 0
    path: float = 0.0  # sum of the norms of their steps
    converged: bool = False

    def observe(self, loss: float, step_norm: float, rounding: float) -> bool:
        """Take note of an update; return whether it is time to ask `conclude`.

        ``rounding`` is the relative precision of the run.
        """
        self.largest = max(self.largest, abs(loss))
        same = abs(loss - self.loss) <= ROUNDINGS * rounding * self.largest
        self.updates = self.updates + 1 if same else 0
        self.path = self.path + step_norm if same else 0.0
        self.loss = loss
        return self.updates >= STILL

    def conclude(self, norm: float, rounding: float) -> None:
        """Decide whether weights of this norm have stood still, and begin to count anew."""
        self.converged = self.path <= self.updates * rounding * norm
        self.updates, self.path = 0, 0.0


@dataclass
class Ends:
    """What is remembered to stop a run by itself."""

    patience: Patience = field(default_factory=Patience)
    stillness: Stillness = field(default_factory=Stillness)
    limit: int = 0  # updates that cross-validation found enough; 0 = not known
    finished: str = ""  # why the method cannot lower the objective any further

    def last_update(self, settings: TrainingSettings) -> int:
        """Return the update at which the run ends, unless a better network comes before."""
        wait = settings.longest_wait
        ends = [self.patience.end(wait), self.limit if wait and self.limit else None]
        return min([settings.updates, *(end for end in ends if end is not None)])


@dataclass(frozen=True)
class Stop:
    """Why a run stops: a word for run.json, and a line for the user."""

    reason: str
    text: str
    early: bool  # before its budget is used up


def _better(judge: str) -> str:
    return "lower validation loss" if judge == OBJECTIVE else f"better validation {judge}"


def stop(ends: Ends, settings: TrainingSettings, step: int, seconds: float) -> Stop | None:
    """Return why a run stops after update ``step``, or None if it goes on.

    ``training.patience`` of 0 leaves the budget alone to decide.
    """
    patience, limit = ends.patience, settings.max_seconds
    wait = settings.longest_wait
    if patience.over(wait):
        return Stop(
            "patience",
            f"update {step}: stopped: no {_better(settings.judge)} since update "
            f"{patience.best_step} (patience {wait:g})",
            True,
        )
    if wait and ends.stillness.converged:
        return Stop(
            "converged",
            f"update {step}: stopped: loss and weights have not changed for {STILL} updates",
            True,
        )
    if wait and ends.finished:
        return Stop("converged", f"update {step}: stopped: {ends.finished}", True)
    if wait and 0 < ends.limit <= step:
        return Stop(
            "cross_validation",
            f"update {step}: stopped: in cross-validation more updates were of no use",
            True,
        )
    if step >= settings.updates:
        return Stop("updates", f"update {step}: all of training.updates are made", False)
    if 0 < limit <= seconds:
        return Stop("max_seconds", f"update {step}: training.max_seconds are over", False)
    return None
