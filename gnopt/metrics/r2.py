"""Coefficient of determination: R² = 1 − Σ (prediction − y)² / Σ (y − mean y)²."""

import numpy as np

from gnopt.engine.predictions import Numbers
from gnopt.metrics import Accumulator, Metric, Score, numbers


class Determination(Metric[Numbers]):
    """The mean over outputs; one whose targets are all alike is left out. Parts by output."""

    name = "r2"
    summary = "share of the targets' variance that is explained, mean over outputs"
    other_names = ("r2_score", "r_squared", "coefficient_of_determination")
    usual = True
    kind = Numbers
    higher = True

    def start(self) -> Accumulator[Numbers]:
        return _Sums()


class _Sums(Accumulator[Numbers]):
    """Squared residuals, and mean and squared deviations of the targets, by output.

    Chunks are combined by the update of Chan, Golub & LeVeque (1983): no digits are lost where the
    mean is far from 0.
    """

    def __init__(self) -> None:
        self._residual, self._mean, self._deviation = np.zeros(1), np.zeros(1), np.zeros(1)
        self._weight = 0.0

    def add(self, prediction: Numbers, truth: np.ndarray, weight: np.ndarray) -> None:
        added = float(weight.sum())
        if added == 0.0:
            return
        y = np.asarray(truth, dtype=np.float64)
        mean = weight @ y / added
        total = self._weight + added
        delta = mean - self._mean
        self._residual = self._residual + weight @ np.square(prediction.mean - y)
        self._deviation = (
            self._deviation
            + weight @ np.square(y - mean)
            + delta**2 * (self._weight * added / total)
        )
        self._mean = self._mean + delta * (added / total)
        self._weight = total

    def result(self) -> Score:
        if self._weight == 0.0:
            return Score()
        rounding = self._weight * (4.0 * np.finfo(np.float64).eps * np.abs(self._mean)) ** 2
        varies = self._deviation > rounding
        safe = np.where(varies, self._deviation, 1.0)
        r2 = np.where(varies, 1.0 - self._residual / safe, np.nan)
        return Score(float(r2[varies].mean()) if varies.any() else None, numbers(r2))


METRIC = Determination()
