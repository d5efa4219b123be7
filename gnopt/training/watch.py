"""Notice a run that stands still, from numbers that its updates leave anyway.

An effort is ``EFFORT`` updates of a method of its order and at least two passes over the training
rows (or ``ENOUGH`` rows, where there are more). After each effort the loss, averaged over the rows
of its second half, is held against the loss of the best constant predictor. A run that is not
clearly below it is evaluated once. It stands still if the constant is no worse, unless it is still
well above the constant and came nearer by half of the way since the first half of the effort. A
method of second order also stands still if its step sizes have collapsed, whatever it has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from gnopt.training.constant import ConstantLoss

EFFORT = {1: 1000, 2: 50}  # updates, by the order of the method
PASSES, ENOUGH = 2, 100_000  # an effort has seen so many passes over the rows, or so many rows
CLEAR = 0.05  # share of the way to the floor at which an average needs no evaluation
PROGRESS = 0.5  # share of the way to the constant that a run must have come nearer to it
MOVED = 1e-5  # a path of this share of the norm of θ is no movement
REJECTED = 0.9  # share of rejected steps at which a run is held up by its damping
FLAT = 1e-2  # share of its first norm to which a gradient falls where a run has converged


@dataclass
class Window:
    """Sum of the loss over the rows of some updates."""

    total: float = 0.0
    rows: int = 0

    def add(self, loss: float, rows: int) -> None:
        """Count a batch."""
        self.total += loss * rows
        self.rows += rows

    @property
    def mean(self) -> float:
        """Mean loss of a row; infinite before there is one."""
        return self.total / self.rows if self.rows else inf


@dataclass
class Watch:
    """What was noticed so far; every checkpoint stores it, so that a resumed run notices the same.

    The halves of an effort begin with the first update after a look.
    """

    begun: int = 0  # the update after which the present start began
    begun_examples: int = 0  # and the examples seen until then
    # Loss of its first weights, which may be below the constant by chance; infinite for the first.
    origin: float = inf
    starts: int = 0  # other starts made so far
    renewals: int = 0  # times that the method was begun anew at the weights that it had
    given_up: bool = False
    dead: float = 0.0  # units that were dead when layers were last searched for them
    dead_layers: list[int] = field(default_factory=list)  # those that were spoken of
    since: int = 0  # the update of the last look
    first_gradient: float = 0.0  # norm, at the first update of this start
    gradient: float = 0.0  # norm, at the last update
    loss: float = inf  # of the last batch
    left: bool = False  # a look has found this start below the constant
    path: float = 0.0  # sum of the norms of the steps since the last look
    rejected: int = 0  # updates since then whose step was rejected
    halves: list[Window] = field(default_factory=lambda: [Window(), Window()])

    def observe(self, effort: Effort, step: int, rows: int, row: dict[str, float]) -> None:
        """Take note of update ``step``, made on a batch of so many rows; ``row`` is its log."""
        first, second = self.halves
        updates = step - self.since
        early = 2 * updates <= effort.updates or 2 * first.rows < effort.rows
        (first if early and not second.rows else second).add(row["loss"], rows)
        self.loss, self.gradient = row["loss"], row["grad_norm"]
        self.first_gradient = self.first_gradient or self.gradient
        self.path += row["step_norm"]
        self.rejected += row.get("rejected", 0.0) > 0.0

    def due(self, effort: Effort, step: int) -> bool:
        """Whether an effort is over after update ``step``."""
        rows = sum(half.rows for half in self.halves)
        return step - self.since >= effort.updates and rows >= effort.rows

    def look_again(self, step: int) -> None:
        """Begin another effort after update ``step``."""
        self.since, self.path, self.rejected = step, 0.0, 0
        self.halves = [Window(), Window()]

    def start_again(self, step: int, examples: int, loss: float) -> None:
        """Count another start, made after update ``step`` from weights with this loss."""
        self.begun_examples, self.origin = examples, loss
        self.begun, self.starts, self.first_gradient = step, self.starts + 1, 0.0
        self.loss, self.left, self.dead, self.dead_layers = inf, False, 0.0, []
        self.look_again(step)

    def suspicious(self, constant: ConstantLoss) -> bool:
        """Whether the average of the second half leaves it open if the run beats the constant."""
        return not self.halves[1].mean < constant.loss - CLEAR * constant.gap

    def progresses(self, constant: ConstantLoss) -> bool:
        """Whether the average is above the constant and has come nearer since the first half."""
        first, second = (half.mean for half in self.halves)
        above = second > constant.loss + CLEAR * constant.gap
        return above and first - second > PROGRESS * (first - constant.loss)

    def beats(self, constant: ConstantLoss) -> bool:
        """Whether this start has been below the constant, by a look or by the last batch."""
        return self.left or self.loss < constant.loss - CLEAR * constant.gap

    def collapsed(self, effort: Effort, step: int, norm: float) -> bool:
        """Whether steps are too short to move weights of this norm, or are rejected, though the
        gradient has not vanished.
        """
        held = self.rejected >= REJECTED * (step - self.since) or self.path <= MOVED * norm
        return effort.order > 1 and held and self.gradient > FLAT * self.first_gradient


@dataclass(frozen=True)
class Effort:
    """Updates and rows after which a run is looked at."""

    order: int
    updates: int
    rows: int

    @classmethod
    def of(cls, order: int, rows: int) -> Effort:
        """Return the effort of a method of this order on so many training rows."""
        return cls(order, EFFORT[order], min(PASSES * rows, ENOUGH))
