"""E = Σ_k exp(h_k) − y_k h_k: Poisson counts with log rates h."""

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss, check_range, log_mean_exp
from gnopt.engine.onnx_form import Operator
from gnopt.engine.predictions import Counts, Prediction


class Poisson(Loss):
    """Gradient exp h − y, 𝒢_L = diag exp h, sample Poisson(exp h).

    The exponent is held below a limit far outside any useful rate (40 in float32, 300 in float64)
    and the value continued linearly from there, so that everything stays finite, squares of the
    gradient included.
    """

    name = "poisson"
    summary = "Poisson counts with log rates; 𝒢_L = diag exp h"
    suits = "counts"
    other_names = (
        "poisson_nll",
        "poisson_nll_loss",
        "poisson_loss",
        "poisson_deviance",
        "count:poisson",
        "counts",
    )
    diagonal = True
    onnx = Operator("Exp")

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(len(y), -1)
        check_range(y, 0.0, float(np.finfo(np.float32).max), self.name)
        return y

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        bias: np.ndarray = np.log(np.maximum(mean, 1e-3))
        return bias

    def floor(self, y: np.ndarray) -> np.ndarray:
        from scipy.special import xlogy

        y = np.asarray(y, dtype=np.float64)
        least: np.ndarray = (y - xlogy(y, y)).sum(axis=1)
        return least

    def _rate(self, ops: Backend, h: Array) -> tuple[Array, float]:
        limit = 300.0 if h.dtype == ops.xp.float64 else 40.0
        return ops.xp.exp(ops.xp.minimum(h, limit)), limit

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        rate, limit = self._rate(ops, h)
        return (rate * (1.0 + ops.xp.maximum(h - limit, 0.0)) - y * h).sum(axis=1)

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        return self._rate(ops, h)[0] - y

    def prediction(self, ops: Backend, h: Array) -> Array:
        return self._rate(ops, h)[0]

    def prediction_slope(self, ops: Backend, h: Array) -> Array:
        rate, limit = self._rate(ops, h)
        return rate * (h < limit)

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        """The logarithm of the mean rate."""
        return log_mean_exp(ops, h)

    def error(self, ops: Backend, h: Array, y: Array) -> Array:
        # Far outliers must not turn the mean into infinity in float32.
        difference = ops.xp.minimum(self.prediction(ops, h), 1e15) - y
        return ops.xp.einsum("nk,nk->n", difference, difference)

    def predicts(self, outputs: int) -> type[Prediction]:
        return Counts

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        return Counts(ops.to_host(self.prediction(ops, h)).astype(np.float64))

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        return self._rate(ops, h)[0]

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        return ops.poisson(rng, self._rate(ops, h)[0])


LOSS = Poisson()
