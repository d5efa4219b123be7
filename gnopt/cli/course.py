"""How far a run is, while it trains: what is left of it, and the best network so far."""

from __future__ import annotations

from math import inf

from gnopt.formatting import ABSENT, digits, duration
from gnopt.training import checkpoint
from gnopt.training.judge import Judged
from gnopt.training.loop import Counters, beats
from gnopt.training.measured import Measured
from gnopt.training.rundir import RunDirectory
from gnopt.training.setup import Experiment
from gnopt.training.stopping import Ends


class Course:
    """How far a run is: its pace, the time that is left, and the best evaluation so far."""

    def __init__(
        self, experiment: Experiment, run: RunDirectory, counters: Counters, ends: Ends
    ) -> None:
        self.settings, self.ends = experiment.config.training, ends
        self._before, self._wall = counters.step, counters.wall
        self._pace: float | None = None  # seconds an update, with evaluations: a moving average
        self.best_step = counters.best_step
        self.best: Judged | None = None
        if counters.step:
            path = checkpoint.pointed(run.checkpoints, "best")
            self.best = checkpoint.load_network(path).judged if path else None

    def update(self, counters: Counters) -> None:
        """Take note of an update."""
        steps = counters.step - self._before
        pace = (counters.wall - self._wall) / max(1, steps)
        self._pace = pace if self._pace is None else self._pace + (pace - self._pace) / 10.0
        self._before, self._wall = counters.step, counters.wall

    def evaluated(self, counters: Counters, measured: Measured) -> None:
        """Take note of an evaluation."""
        if self.best is None or beats(measured.judged.rank, self.best.rank, self.best_step):
            self.best, self.best_step = measured.judged, counters.step

    def left(self, counters: Counters) -> tuple[float, float] | None:
        """Return the seconds that are left if nothing better comes, and at most; None while that is
        not known.
        """
        limit = self.settings.max_seconds
        by_clock = limit - counters.seconds if limit else inf
        least, most = (
            max(0.0, min(by_clock, self._until(counters, last)))
            for last in (self.ends.last_update(self.settings), self.settings.updates)
        )
        return (least, most) if most < inf else None

    def _until(self, counters: Counters, step: int) -> float:
        """Return the seconds until update ``step``, infinite before there was an update."""
        return inf if self._pace is None else self._pace * (step - counters.step)

    def at_most_left(self, counters: Counters) -> str:
        """Return the most time that is left, in words."""
        left = self.left(counters)
        return duration(left[1]) if left else ABSENT

    def range_left(self, counters: Counters) -> str:
        """Return the time that is left, in words; empty where nothing tells."""
        left = self.left(counters)
        if left is None:
            return ""
        least, most = map(duration, left)
        return f"about {most} left" if least == most else f"{least} to {most} left"

    def share(self, counters: Counters) -> float:
        """Return how much of the run is done, from 0 to 1."""
        limit = self.settings.max_seconds
        by_time = counters.seconds / limit if limit else 0.0
        last = self.ends.last_update(self.settings)
        return min(1.0, max(by_time, counters.step / last if last else 1.0))

    def best_so_far(self) -> str:
        """Return the best evaluation so far in words."""
        if self.best is None or self.best.cost == inf:
            return ""
        value = digits(self.best.value)
        return f"best so far: {self.best.quantity} {value} at update {self.best_step:,}"
