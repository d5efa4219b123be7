"""E = Σ_k softplus(h_k) − y_k h_k: independent Bernoulli outputs with logits h and any y in [0,
1].
"""

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss, check_range
from gnopt.engine.onnx_form import Operator


class BinaryCrossEntropy(Loss):
    """Gradient p − y with p = σ(h), 𝒢_L = diag p(1 − p), sample Bernoulli(p)."""

    name = "binary_cross_entropy"
    summary = "independent Bernoulli outputs with logits, grey targets allowed; 𝒢_L = diag p(1-p)"
    diagonal = True
    onnx = Operator("Sigmoid")

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(len(y), -1)
        check_range(y, 0.0, 1.0, self.name)
        return y

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        p = np.clip(mean, 1e-3, 1.0 - 1e-3)
        return np.log(p / (1.0 - p))

    def floor(self, y: np.ndarray) -> np.ndarray:
        from scipy.special import entr

        y = np.asarray(y, dtype=np.float64)
        return (entr(y) + entr(1.0 - y)).sum(axis=1)

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        value = ops.softplus(h)
        value -= y * h
        return value.sum(axis=1)

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        p = ops.sigmoid(h)
        p -= y
        return p

    def value_and_gradient(self, ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
        # One exp serves both: e = exp(−|h|), softplus = max(h, 0) + log(1 + e), p = 1/(1 + e)
        # mirrored for h < 0.
        return ops.bernoulli(h, y)

    def prediction(self, ops: Backend, h: Array) -> Array:
        return ops.sigmoid(h)

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        return ops.bernoulli_variance(h)

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        return (ops.uniform(rng, h.shape, h.dtype) < ops.sigmoid(h)).astype(h.dtype)


LOSS = BinaryCrossEntropy()
