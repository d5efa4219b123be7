"""Confusion table: entry [i, j] is the weight of the data points of class i predicted as j."""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Accumulator, Metric, Score
from gnopt.metrics.tallies import true_labels

MOST = 1000  # classes; a larger table helps nobody


class Confusion(Metric[Classes]):
    """A table without a single number; none for more than ``MOST`` classes."""

    name = "confusion"
    summary = "rows of each true class (down) by predicted class (across)"
    kind = Classes
    scalar = False

    def start(self) -> Accumulator[Classes]:
        return _Table()


class _Table(Accumulator[Classes]):
    def __init__(self) -> None:
        self._table: np.ndarray = np.zeros((0, 0))

    def add(self, prediction: Classes, truth: np.ndarray, weight: np.ndarray) -> None:
        kinds = prediction.log_probabilities.shape[1]
        if kinds > MOST:
            return
        cells = true_labels(truth) * kinds + prediction.labels
        table: np.ndarray = np.bincount(cells, weight, kinds * kinds).reshape(kinds, kinds)
        self._table = self._table + table if self._table.size else table

    def result(self) -> Score:
        return Score(table=self._table if self._table.size else None)


METRIC = Confusion()
