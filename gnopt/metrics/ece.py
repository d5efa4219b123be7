"""Expected calibration error (Naeini et al. 2015; Guo et al. 2017), of the most probable class.

Data points are sorted into 15 bins of equal width by the probability of their most probable class:
ECE = Σ_b n_b/n |accuracy in bin b − mean probability in bin b|.
"""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Accumulator, Metric, Score
from gnopt.metrics.tallies import true_labels

BINS = 15
EDGES = np.linspace(0.0, 1.0, BINS + 1)[1:-1]  # bin b holds the probabilities in (e_b, e_{b+1}]


class CalibrationError(Metric[Classes]):
    """0 where a class said to be right with probability p is right in a share p of all cases."""

    name = "ece"
    summary = "expected calibration error of the top probability, 15 bins of equal width"
    other_names = ("calibration_error", "expected_calibration_error")
    kind = Classes

    def start(self) -> Accumulator[Classes]:
        return _Bins()


class _Bins(Accumulator[Classes]):
    """The weighted sum of (right − probability) in each bin, and the weight of all."""

    def __init__(self) -> None:
        self._gap, self._weight = np.zeros(BINS), 0.0

    def add(self, prediction: Classes, truth: np.ndarray, weight: np.ndarray) -> None:
        top = np.exp(prediction.log_probabilities.max(axis=1))
        right = prediction.labels == true_labels(truth)
        place = np.searchsorted(EDGES, top)
        self._gap = self._gap + np.bincount(place, weight * (right - top), BINS)
        self._weight += float(weight.sum())

    def result(self) -> Score:
        return Score(float(np.abs(self._gap).sum()) / self._weight) if self._weight else Score()


METRIC = CalibrationError()
