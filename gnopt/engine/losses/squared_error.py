"""E = ½ ‖h − y‖²: Gaussian with unit variance."""

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.engine.onnx_form import Operator
from gnopt.engine.predictions import Gaussian, Prediction


class SquaredError(Loss):
    """Gradient h − y, 𝒢_L = I, sample N(h, I)."""

    name = "squared_error"
    summary = "half the squared distance; 𝒢_L = I"
    suits = "numbers"
    other_names = (
        "mse",
        "mse_loss",
        "mean_squared_error",
        "least_squares",
        "l2_loss",
        "quadratic",
        "gaussian",
        "reg:squarederror",
    )
    diagonal = True
    unit_curvature = True
    linear = True
    gaussian = True
    onnx = Operator("Identity")

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        difference = h - y
        return 0.5 * ops.xp.einsum("nk,nk->n", difference, difference)

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        return h - y

    def value_and_gradient(self, ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
        difference = h - y
        return 0.5 * ops.xp.einsum("nk,nk->n", difference, difference), difference

    def predicts(self, outputs: int) -> type[Prediction]:
        return Gaussian  # of a variance that is chosen by the residuals

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        return Gaussian(ops.to_host(h).astype(np.float64))

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        return ops.xp.ones_like(h)

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        return h + ops.normal(rng, h.shape, h.dtype)


LOSS = SquaredError()
