"""Accuracy: the share of data points whose most probable class is the true one."""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Score, number
from gnopt.metrics.means import MeanMetric
from gnopt.metrics.tallies import true_labels


class Accuracy(MeanMetric[Classes]):
    """1 − the classification error."""

    name = "accuracy"
    summary = "share of rows whose most probable class is the true one"
    other_names = ("acc", "accuracy_score", "categorical_accuracy")
    usual = True
    kind = Classes
    higher = True

    def values(self, prediction: Classes, truth: np.ndarray) -> np.ndarray:
        right: np.ndarray = prediction.labels == true_labels(truth)
        return right

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean[0]))


METRIC = Accuracy()
