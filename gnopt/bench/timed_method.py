"""A method in the middle of a run, whose updates are timed one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gnopt.optimizers.base import Optimizer
from gnopt.optimizers.timing import Stopwatch
from gnopt.training.batches import Batches
from gnopt.training.setup import Experiment

FIRST = 100  # the update at which timing begins: every period is in force by then
SETTLING = 3  # real updates before, so that every direction and average exists


@dataclass(frozen=True)
class TimedUpdate:
    """Seconds of one update and of its phases.

    ``place`` is the update's place in the period of the method. ``rejected`` tells that a step was
    undone, which costs more than other updates do.
    """

    place: int
    seconds: float
    phases: dict[str, float]
    rejected: bool


class TimedMethod:
    """``name`` with its own weights and state, on the data, network and loss of an experiment."""

    def __init__(
        self,
        name: str,
        optimizer: Optimizer[Any],
        experiment: Experiment,
        batches: Batches,
        read: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name, self.optimizer = name, optimizer
        self.rows = optimizer.usual_batch(experiment.config.training.batch_size)
        self._ops, self._batches, self._read = experiment.ops, batches, read
        self._watch = Stopwatch(self._ops.synchronize, read)
        self._theta = experiment.initial_weights()
        self._state = optimizer.init(self._theta)
        self._made = 0

    def settle(self) -> None:
        """Make the first updates, which are not timed; raises Diverged."""
        for step in range(1, SETTLING + 1):
            x, y = self._batches.take(step * self.rows, self.rows)
            self.optimizer.update(self._theta, self._state, x, y, step)
        self.optimizer.timer = self._watch

    def measure(self) -> TimedUpdate:
        """Make the next update and time it, without the reading of its batch; raises Diverged."""
        step = FIRST + self._made
        self._made += 1
        self.optimizer.skip_to(self._state, step - 1)
        x, y = self._batches.take(step * self.rows, self.rows)
        self._watch.reset()
        self._ops.synchronize()
        start = self._read()
        stats = self.optimizer.update(self._theta, self._state, x, y, step)
        self._ops.synchronize()
        seconds = self._read() - start
        rejected = stats.get("rejected", 0.0) > 0.0
        place = step % self.optimizer.period()
        return TimedUpdate(place, seconds, self._watch.seconds, rejected)
