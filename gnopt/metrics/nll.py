"""Negative log likelihood of normal targets: Σ_k ½ log(2π σ_k²) + (prediction_k − y_k)² / (2 σ_k²).

The variance σ² is that of the prediction: the noise that was chosen (`Noise`) and, for several
networks, their spread.
"""

import numpy as np

from gnopt.engine.predictions import Gaussian
from gnopt.metrics import Score, number, numbers
from gnopt.metrics.means import MeanMetric


class NegativeLogLikelihood(MeanMetric[Gaussian]):
    """In nats, summed over outputs; the parts are those of each output."""

    name = "nll"
    summary = "negative log likelihood with the noise chosen, in nats, summed over outputs"
    other_names = ("negative_log_likelihood", "log_likelihood")
    kind = Gaussian
    needs_noise = True

    def values(self, prediction: Gaussian, truth: np.ndarray) -> np.ndarray:
        if prediction.variance is None:
            return np.full(prediction.mean.shape, np.nan)
        variance = prediction.variance
        squares = np.square(prediction.mean - truth)
        nll: np.ndarray = 0.5 * (np.log(2.0 * np.pi * variance) + squares / variance)
        return nll

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean.sum()), numbers(mean))


METRIC = NegativeLogLikelihood()
