"""Metrics that are a function of a weighted mean over data points."""

from __future__ import annotations

import numpy as np

from gnopt.metrics import Accumulator, Metric, P, Score


class MeanMetric(Metric[P]):
    """The mean of ``values``, turned into a score by ``score``."""

    def values(self, prediction: P, truth: np.ndarray) -> np.ndarray:
        """Return the numbers to average: one for each data point, (N,), or K of them, (N, K)."""
        raise NotImplementedError

    def score(self, mean: np.ndarray) -> Score:
        """Return the score by the means of ``values``, (1,) or (K,)."""
        raise NotImplementedError

    def start(self) -> WeightedMean[P]:
        return WeightedMean(self)


class WeightedMean(Accumulator[P]):
    """The weighted sums of a metric's values."""

    def __init__(self, metric: MeanMetric[P]) -> None:
        self._metric = metric
        self._sum, self._weight = np.zeros(1), 0.0

    def add(self, prediction: P, truth: np.ndarray, weight: np.ndarray) -> None:
        values = np.asarray(self._metric.values(prediction, truth), dtype=np.float64)
        self._sum = self._sum + weight @ (values if values.ndim == 2 else values[:, None])
        self._weight += float(weight.sum())

    def result(self) -> Score:
        return self._metric.score(self._sum / self._weight) if self._weight > 0.0 else Score()
