"""When a run is evaluated: early, then at growing intervals that a share of its work pays for.

The schedule is decided by counted flops and never by measured time, so that a resumed run and one
on another machine are evaluated after the same updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from gnopt.curvature import cost
from gnopt.training.setup import Experiment

# Updates whose share is spent before they are made; it pays for the first evaluations.
AHEAD = 20
LEAST_ROWS = 1000  # training rows that an evaluation may always use


class Cadence:
    """The updates of a start, counted from 1, after which a run is evaluated.

    They are 1, 2, 5, then each a fifth later than the one before, and no more than ``every`` later
    (0 = none at all). The k-th comes after k ``price`` − ``AHEAD`` updates at the earliest, where
    one evaluation costs the share of ``price`` updates.
    """

    def __init__(self, every: int, price: float) -> None:
        self.every, self.price = every, price
        self._rest, self._next, self._asked = self.updates(), 0, 0

    @classmethod
    def of(cls, experiment: Experiment) -> Cadence:
        """Return the cadence of a run by what its evaluations and updates cost."""
        settings, data = experiment.config.training, experiment.data
        limit = rows_of_training(experiment)
        rows = min(data.train.rows, limit or data.train.rows)
        decide = data.validation.rows if data.validation else rows
        rows += data.validation.rows if data.validation else 0
        rows += decide if any(metric.needs_noise for metric in experiment.metrics) else 0
        optimizer = experiment.optimizer
        update = optimizer.cost(optimizer.first_batch(settings.batch_size)).flops
        share = settings.evaluate_share * update
        price = cost.forward(experiment.net.sizes, rows) / share if share else 0.0
        return cls(settings.evaluate_every, price)

    def updates(self) -> Iterator[int]:
        """Yield the updates in their order; without end unless ``every`` is 0."""
        last, number = 0, 0
        while self.every:
            number += 1
            wanted = _after(last)
            paid = ceil(number * self.price) - AHEAD
            last = max(last + 1, min(wanted, last + self.every), paid)
            yield last

    def due(self, update: int) -> bool:
        """Whether a run is evaluated after this update of its present start."""
        if update < self._asked:  # another start
            self._rest, self._next = self.updates(), 0
        self._asked = update
        while self._next < update and self.every:
            self._next = next(self._rest)
        return self._next == update > 0


def _after(last: int) -> int:
    """Return the update at which an evaluation is wanted after the one at ``last``."""
    return last + 1 if last < 2 else max(5, last + ceil(last / 5))


def rows_of_training(experiment: Experiment) -> int:
    """Return how many training rows an evaluation between start and end uses; 0 = all.

    Where there are validation rows, these decide, and the training rows are there to compare: as
    many as there are validation rows are enough, or ``LEAST_ROWS``.
    """
    limit, validation = experiment.config.training.evaluate_rows, experiment.data.validation
    if validation is None:
        return limit
    enough = max(LEAST_ROWS, validation.rows)
    return min(limit, enough) if limit else enough
