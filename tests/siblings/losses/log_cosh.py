"""E = Σ_k log cosh(h_k − y_k): squared error near zero, absolute error far out."""

from math import log

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.engine.onnx_form import Operator


class LogCosh(Loss):
    """Gradient tanh r, 𝒢_L = diag 1 − tanh² r with r = h − y; not the likelihood of a model."""

    name = "log_cosh"
    summary = "logarithm of the hyperbolic cosine of the difference; robust, not a likelihood"
    diagonal = True
    likelihood = False
    onnx = Operator("Identity")

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        size = ops.xp.abs(h - y)
        return (size + ops.xp.log1p(ops.xp.exp(-2.0 * size)) - log(2.0)).sum(axis=1)

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        return ops.xp.tanh(h - y)

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        slope = ops.xp.tanh(h - y)
        return 1.0 - slope * slope


LOSS = LogCosh()
