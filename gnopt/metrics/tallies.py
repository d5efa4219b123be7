"""How many data points of each class there are, were predicted, and were predicted rightly."""

from __future__ import annotations

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Accumulator, Metric, Score


def true_labels(truth: np.ndarray) -> np.ndarray:
    """Return the labels (N,) of a truth of labels or of distributions: there the likeliest class,
    the first one of equals.
    """
    labels: np.ndarray = truth if truth.ndim == 1 else truth.argmax(axis=1)
    return labels


class TallyMetric(Metric[Classes]):
    """A function of the weights by class of what is true, predicted and both, (C,) each."""

    kind = Classes

    def score(self, true: np.ndarray, predicted: np.ndarray, both: np.ndarray) -> Score:
        """Return the score by these sums of weights."""
        raise NotImplementedError

    def start(self) -> Tally:
        return Tally(self)


class Tally(Accumulator[Classes]):
    """Sums of weights by class."""

    def __init__(self, metric: TallyMetric) -> None:
        self._metric = metric
        self._sums = np.zeros((3, 0))

    def add(self, prediction: Classes, truth: np.ndarray, weight: np.ndarray) -> None:
        true, predicted = true_labels(truth), prediction.labels
        kinds = prediction.log_probabilities.shape[1]
        both = np.where(true == predicted, weight, 0.0)
        sums = np.array(
            [
                np.bincount(true, weight, kinds),
                np.bincount(predicted, weight, kinds),
                np.bincount(true, both, kinds),
            ]
        )
        self._sums = sums if not self._sums.size else self._sums + sums

    def result(self) -> Score:
        return self._metric.score(*self._sums) if self._sums.any() else Score()
