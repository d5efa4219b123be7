"""Deviance of Poisson counts: 2 Σ_k y_k log(y_k / rate_k) − (y_k − rate_k)."""

import numpy as np

from gnopt.engine.predictions import Counts
from gnopt.metrics import Score, number, numbers
from gnopt.metrics.means import MeanMetric


class Deviance(MeanMetric[Counts]):
    """Twice the distance of the objective from its floor, summed over outputs; parts by output."""

    name = "deviance"
    summary = "Poisson deviance: twice the log likelihood lost against perfect rates"
    other_names = ("poisson_deviance", "mean_poisson_deviance")
    usual = True
    kind = Counts

    def values(self, prediction: Counts, truth: np.ndarray) -> np.ndarray:
        from scipy.special import kl_div  # y log(y/rate) − y + rate

        deviance: np.ndarray = 2.0 * kl_div(np.asarray(truth, dtype=np.float64), prediction.mean)
        return deviance

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean.sum()), numbers(mean))


METRIC = Deviance()
