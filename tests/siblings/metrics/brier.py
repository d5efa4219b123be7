"""Brier score: Σ_c (p_c − [c is the true class])² (Brier 1950)."""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Score, number
from gnopt.metrics.means import MeanMetric
from gnopt.metrics.tallies import true_labels


class Brier(MeanMetric[Classes]):
    """From 0, certain and right, to 2, certain and wrong."""

    name = "brier"
    summary = "squared distance of the probabilities from the true class"
    kind = Classes

    def values(self, prediction: Classes, truth: np.ndarray) -> np.ndarray:
        p = prediction.probabilities
        right = np.arange(p.shape[1]) == true_labels(truth)[:, None]
        squares: np.ndarray = np.square(p - right).sum(axis=1)
        return squares

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean[0]))


METRIC = Brier()
