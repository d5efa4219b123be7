"""Mean absolute error: the mean of |prediction − y| over data points and outputs."""

import numpy as np

from gnopt.engine.predictions import Numbers
from gnopt.metrics import Score, number, numbers
from gnopt.metrics.means import MeanMetric


class MeanAbsoluteError(MeanMetric[Numbers]):
    """In the units of the targets; the parts are those of each output."""

    name = "mae"
    summary = "mean absolute error over rows and outputs, in units of the targets"
    other_names = ("mean_absolute_error", "neg_mean_absolute_error", "l1")
    kind = Numbers

    def values(self, prediction: Numbers, truth: np.ndarray) -> np.ndarray:
        distances: np.ndarray = np.abs(prediction.mean - truth)
        return distances

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean.mean()), numbers(mean))


METRIC = MeanAbsoluteError()
