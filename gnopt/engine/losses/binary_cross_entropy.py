"""E = Σ_k softplus(h_k) − y_k h_k: independent Bernoulli outputs with logits h and any y in [0,
1].
"""

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss, check_range, log_mean_exp
from gnopt.engine.onnx_form import Operator
from gnopt.engine.predictions import Classes, Numbers, Prediction


class BinaryCrossEntropy(Loss):
    """Gradient p − y with p = σ(h), 𝒢_L = diag p(1 − p), sample Bernoulli(p)."""

    name = "binary_cross_entropy"
    summary = "independent Bernoulli outputs with logits, grey targets allowed; 𝒢_L = diag p(1-p)"
    suits = "two classes"
    other_names = (
        "bce",
        "bce_loss",
        "bce_with_logits",
        "bce_with_logits_loss",
        "binary_crossentropy",
        "binary_cross_entropy_with_logits",
        "sigmoid_cross_entropy",
        "bernoulli",
        "binary_logloss",
        "binary:logistic",
    )
    diagonal = True
    most_classes = 2
    onnx = Operator("Sigmoid")

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(len(y), -1)
        check_range(y, 0.0, 1.0, self.name)
        return y

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        p = np.clip(mean, 1e-3, 1.0 - 1e-3)
        bias: np.ndarray = np.log(p / (1.0 - p))
        return bias

    def floor(self, y: np.ndarray) -> np.ndarray:
        from scipy.special import entr

        y = np.asarray(y, dtype=np.float64)
        entropy: np.ndarray = (entr(y) + entr(1.0 - y)).sum(axis=1)
        return entropy

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        value = ops.softplus(h)
        value -= y * h
        return value.sum(axis=1)

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        p = ops.sigmoid(h)
        p -= y
        return p

    def value_and_gradient(self, ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
        value, gradient = ops.elementwise(_value_and_gradient, h, y)
        return value.sum(axis=1), gradient

    def prediction(self, ops: Backend, h: Array) -> Array:
        return ops.sigmoid(h)

    def prediction_slope(self, ops: Backend, h: Array) -> Array:
        return _variance(ops, h)

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        """The log-odds of the mean: log mean σ(h) − log mean (1 − σ(h))."""
        on = log_mean_exp(ops, [-ops.softplus(-one) for one in h])
        return on - log_mean_exp(ops, [-ops.softplus(one) for one in h])

    def predicts(self, outputs: int) -> type[Prediction]:
        """One output tells two classes apart; several, such as pixels, are numbers in [0, 1]."""
        return Classes if outputs == 1 else Numbers

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        if h.shape[1] > 1:
            return super().predicted(ops, h)
        logits = ops.to_host(h).astype(np.float64)
        return Classes(-np.logaddexp(0.0, np.hstack([logits, -logits])))

    def truth(self, y: np.ndarray) -> np.ndarray:
        return y if y.shape[1] > 1 else np.hstack([1.0 - y, y])

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        return ops.elementwise(_variance, h)

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        return (ops.uniform(rng, h.shape, h.dtype) < ops.sigmoid(h)).astype(h.dtype)


def _value_and_gradient(ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
    """Return softplus(h) − y h and σ(h) − y, which share one exponential e = exp(−|h|).

    softplus(h) = max(h, 0) + log(1 + e); σ(|h|) = 1 / (1 + e), and σ(h) = e σ(|h|) for h < 0.
    """
    xp = ops.xp
    e = xp.abs(h)
    xp.negative(e, out=e)
    xp.exp(e, out=e)
    p = e + 1.0
    value = xp.log1p(e) if e.dtype == xp.float64 else xp.log(p)  # log is faster (see softplus)
    xp.reciprocal(p, out=p)
    negative = h < 0.0
    e -= 1.0
    e *= negative
    e += 1.0
    p *= e
    xp.maximum(h, 0.0, out=e)
    value += e
    xp.multiply(y, h, out=e)
    value -= e
    p -= y
    return value, p


def _variance(ops: Backend, h: Array) -> Array:
    """Return σ(h)(1 − σ(h))."""
    p = ops.sigmoid(h)
    p -= p * p
    return p


LOSS = BinaryCrossEntropy()
