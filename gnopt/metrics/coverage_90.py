"""Coverage: the share of targets inside the central 90% interval of their normal prediction."""

import numpy as np

from gnopt.engine.predictions import Gaussian
from gnopt.metrics import Score, number, numbers
from gnopt.metrics.means import MeanMetric

LEVEL = 0.9
REACH = 1.6448536269514722  # standard deviations from the mean to the ends of the interval


class Coverage(MeanMetric[Gaussian]):
    """The mean over data points and outputs; the parts are those of each output.

    Less than 0.9 says that the variance is too small, more that it is too large.
    """

    name = "coverage_90"
    summary = "share of targets inside the 90% interval of the prediction; 0.9 is right"
    other_names = ("coverage", "picp")
    kind = Gaussian
    needs_noise = True

    def cost(self, value: float) -> float:
        return abs(value - LEVEL)

    @property
    def best(self) -> str:
        return "best"

    def values(self, prediction: Gaussian, truth: np.ndarray) -> np.ndarray:
        if prediction.variance is None:
            return np.full(prediction.mean.shape, np.nan)
        reach = REACH * np.sqrt(prediction.variance)
        inside: np.ndarray = np.abs(prediction.mean - truth) <= reach
        return inside

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean.mean()), numbers(mean))


METRIC = Coverage()
