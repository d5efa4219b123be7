"""Root mean squared error: √ of the mean of (prediction − y)² over data points and outputs."""

import numpy as np

from gnopt.engine.predictions import Numbers
from gnopt.metrics import Score, number, numbers
from gnopt.metrics.means import MeanMetric


class RootMeanSquaredError(MeanMetric[Numbers]):
    """In the units of the targets; the parts are those of each output."""

    name = "rmse"
    summary = "root mean squared error over rows and outputs, in units of the targets"
    other_names = (
        "root_mean_squared_error",
        "neg_root_mean_squared_error",
        "mse",
        "mean_squared_error",
    )
    usual = True
    kind = Numbers

    def values(self, prediction: Numbers, truth: np.ndarray) -> np.ndarray:
        squares: np.ndarray = np.square(prediction.mean - truth)
        return squares

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(np.sqrt(mean.mean())), numbers(np.sqrt(mean)))


METRIC = RootMeanSquaredError()
