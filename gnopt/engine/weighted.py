"""Rows that count by their weights: the objective is Σ w_n E_n / Σ w_n.

A weight of 2 is the same as the row twice, a weight of 0 the same as no such row. Weights are in
units of their mean over the training rows, so that the mean of w_n E_n over a batch drawn at random
is an unbiased estimate of the objective.

`Weighted` is the one place that multiplies by weights: the value, the gradient, 𝒢_L and the Hessian
of each row by w_n, columns such as those of C_L by √w_n. Methods and passes take it for a loss like
any other. The statistics that are not made of the loss, such as mean(ā āᵀ), ask for the weights by
``Loss.weight``; see `gnopt.curvature.CurvatureSample`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.engine.predictions import Prediction
from gnopt.errors import DataError
from gnopt.weighting import WeightedTargets

TINY = 1e-30  # least mean of weights to divide by


class Weighted(Loss):
    """A loss whose targets are `WeightedTargets`.

    ``classes`` holds a factor for each class, (C,), or None. The weight of a row is its own weight
    times the factor of its class times ``scale``.
    """

    def __init__(
        self,
        loss: Loss,
        dtype: str | np.dtype[Any],
        classes: np.ndarray | None = None,
        scale: float = 1.0,
    ) -> None:
        self.loss, self._dtype = loss, np.dtype(dtype)
        self._classes, self._scale = classes, scale
        for fact in Loss.__annotations__:
            setattr(self, fact, getattr(loss, fact))

    # ---- targets ---------------------------------------------------------------------------------

    def convert_targets(self, y: Any) -> Any:
        """Check targets, with or without weights of their own, and give each row its weight."""
        given = WeightedTargets.of(y, self._dtype)
        values, own = self.loss.convert_targets(given.values), given.own.astype(self._dtype)
        weight = own.astype(np.float64) * self._scale
        if self._classes is not None:
            weight *= self._classes[self._known_labels(values, len(self._classes))]
        return WeightedTargets(values, own, weight.astype(self._dtype))

    def _known_labels(self, values: np.ndarray, classes: int) -> np.ndarray:
        labels = labels_of(self.loss, values)
        if labels is None:
            raise DataError(
                f"loss {self.name}: class weights: found targets that are not of one class each; "
                "expected labels"
            )
        if len(labels) and labels.max() >= classes:
            row = int(labels.argmax())
            raise DataError(
                f"loss {self.name}: label {labels[row]} in row {row} of the batch has no class "
                f"weight: expected 0 to {classes - 1}"
            )
        return labels

    def outputs(self, y: Any) -> int:
        return self.loss.outputs(y.values)

    def target_sum(self, y: Any, outputs: int, weight: np.ndarray | None = None) -> np.ndarray:
        return self.loss.target_sum(y.values, outputs, y.weight)

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        return self.loss.initial_bias(mean)

    def floor(self, y: Any) -> np.ndarray:
        floor: np.ndarray = y.weight.astype(np.float64) * self.loss.floor(y.values)
        return floor

    # ---- weights ---------------------------------------------------------------------------------

    def weight(self, y: Any) -> Array | None:
        return y.weight

    def weight_in_metrics(self, y: Any) -> Array | None:
        return y.own

    def unweighted(self, y: Any) -> tuple[Loss, Array]:
        return self.loss, y.values

    def totals(self, y: Any) -> tuple[float, float]:
        return float(y.weight.sum(dtype=np.float64)), float(y.own.sum(dtype=np.float64))

    def on_device(self, y: Any, put: Callable[[np.ndarray], Array]) -> Array:
        return y.on_device(put)

    def even(self, ops: Backend, y: Any) -> Array:
        return replace(y, weight=y.weight / ops.xp.maximum(y.weight.mean(), TINY))

    def part(self, ops: Backend, y: Any, rows: slice) -> Array:
        some = y[rows]
        if len(some) == len(y):
            return some
        factor = y.weight.mean() / ops.xp.maximum(some.weight.mean(), TINY)
        return replace(some, weight=some.weight * factor)

    # ---- value, gradient, prediction -------------------------------------------------------------

    def value(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.value(ops, h, y.values) * y.weight

    def gradient(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.gradient(ops, h, y.values) * y.weight[:, None]

    def value_and_gradient(self, ops: Backend, h: Array, y: Any) -> tuple[Array, Array]:
        value, gradient = self.loss.value_and_gradient(ops, h, y.values)
        return value * y.weight, gradient * y.weight[:, None]

    def prediction(self, ops: Backend, h: Array) -> Array:
        return self.loss.prediction(ops, h)

    def prediction_slope(self, ops: Backend, h: Array) -> Array:
        return self.loss.prediction_slope(ops, h)

    def prediction_product(self, ops: Backend, h: Array, v: Array) -> Array:
        return self.loss.prediction_product(ops, h, v)

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        return self.loss.mixture(ops, h)

    def error(self, ops: Backend, h: Array, y: Any) -> Array:
        """Return the error of each row times its own weight: class weights count in the objective
        alone.
        """
        return self.loss.error(ops, h, y.values) * y.own

    def predicts(self, outputs: int) -> type[Prediction]:
        return self.loss.predicts(outputs)

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        return self.loss.predicted(ops, h)

    def truth(self, y: Any) -> np.ndarray:
        return self.loss.truth(y.values)

    # ---- curvature of the output -----------------------------------------------------------------

    def gn_diagonal(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.gn_diagonal(ops, h, y.values) * y.weight[:, None]

    def gn_matrix(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.gn_matrix(ops, h, y.values) * y.weight[:, None, None]

    def gn_mean(self, ops: Backend, h: Array, y: Any, weight: Array | None = None) -> Array:
        return self.loss.gn_mean(ops, h, y.values, y.weight)

    def gn_product(self, ops: Backend, h: Array, y: Any, v: Array) -> Array:
        return self.loss.gn_product(ops, h, y.values, v) * y.weight[:, None]

    def expected_gn_product(self, ops: Backend, h: Array, y: Any, v: Array) -> Array:
        return self.loss.expected_gn_product(ops, h, y.values, v) * y.weight[:, None]

    def rank(self, outputs: int) -> int:
        return self.loss.rank(outputs)

    def gn_root(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.gn_root(ops, h, y.values) * _root(ops, y)

    def gn_root_product(self, ops: Backend, h: Array, y: Any, s: Array) -> Array:
        return self.loss.gn_root_product(ops, h, y.values, s) * _root(ops, y)

    def has_root_residual(self) -> bool:
        return self.loss.has_root_residual()

    def root_residual(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.root_residual(ops, h, y.values) * _root(ops, y)

    def hessian_matrix(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.hessian_matrix(ops, h, y.values) * y.weight[:, None, None]

    def hessian_product(self, ops: Backend, h: Array, y: Any, v: Array) -> Array:
        return self.loss.hessian_product(ops, h, y.values, v) * y.weight[:, None]

    # ---- sampling: draws do not depend on weights ------------------------------------------------

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        """Return targets drawn from the model, without weights."""
        return self.loss.sample(ops, h, rng)

    def sampled_gradient(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        """Return gradients at targets drawn from the model, without weights."""
        return self.loss.sampled_gradient(ops, h, rng)

    def drawn_column(self, ops: Backend, h: Array, y: Any, rng: np.random.Generator) -> Array:
        return self.loss.drawn_column(ops, h, y.values, rng) * _root(ops, y)

    def own_column(self, ops: Backend, h: Array, y: Any) -> Array:
        return self.loss.own_column(ops, h, y.values) * _root(ops, y)


def labels_of(loss: Loss, values: np.ndarray) -> np.ndarray | None:
    """Return the class of each row, (N,), by converted targets of a loss that predicts classes.

    None where some targets are distributions over several classes.
    """
    truth = loss.truth(values)
    if truth.ndim == 1:
        return truth
    return truth.argmax(axis=1) if bool(((truth == 0.0) | (truth == 1.0)).all()) else None


def _root(ops: Backend, y: WeightedTargets) -> Array:
    """Return √w_n as a column, (N, 1)."""
    return ops.xp.sqrt(y.weight)[:, None]
