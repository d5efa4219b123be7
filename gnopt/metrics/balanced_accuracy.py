"""Balanced accuracy: the mean over classes of their recall."""

import numpy as np

from gnopt.metrics import Score, number, numbers
from gnopt.metrics.tallies import TallyMetric


class BalancedAccuracy(TallyMetric):
    """Classes without data points are left out. The parts are the recalls."""

    name = "balanced_accuracy"
    summary = "mean over classes of the share of their rows that is found"
    other_names = ("balanced_accuracy_score", "bac")
    higher = True

    def score(self, true: np.ndarray, predicted: np.ndarray, both: np.ndarray) -> Score:
        recall = np.where(true > 0.0, both / np.where(true > 0.0, true, 1.0), np.nan)
        return Score(number(np.nanmean(recall)), numbers(recall))


METRIC = BalancedAccuracy()
