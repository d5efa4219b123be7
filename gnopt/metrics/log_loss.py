"""Log loss: −log of the probability given to the true class, or −Σ_c y_c log p_c of a distribution
y.
"""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Score, number
from gnopt.metrics.means import MeanMetric


class LogLoss(MeanMetric[Classes]):
    """In nats; infinite if a true class was given no probability at all."""

    name = "log_loss"
    summary = "mean of -log of the probability given to the true class, in nats"
    other_names = ("cross_entropy", "neg_log_loss", "logloss")
    kind = Classes

    def values(self, prediction: Classes, truth: np.ndarray) -> np.ndarray:
        log_p = prediction.log_probabilities
        if truth.ndim == 1:
            losses: np.ndarray = -log_p[np.arange(len(truth)), truth]
            return losses
        terms = np.zeros_like(log_p)
        np.multiply(truth, log_p, out=terms, where=truth > 0.0)
        losses = -terms.sum(axis=1)
        return losses

    def score(self, mean: np.ndarray) -> Score:
        return Score(number(mean[0]))


METRIC = LogLoss()
