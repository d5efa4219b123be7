"""Losses of the output h = h_L, one file each: value, gradient, Gauss-Newton matrix 𝒢_L and its
root, sampling. Nothing here knows a method.

E(h, y) is the loss of one data point, summed over outputs; the objective is its mean over data
points. A new file that defines ``LOSS`` is found by itself. A loss, also a plug-in class
``"module:Class"``, defines ``value``, ``gradient`` and either ``gn_diagonal`` (with ``diagonal =
True``) or ``gn_matrix``; everything else has a default. A loss knows no weights of rows: where
rows have weights, `gnopt.engine.weighted` multiplies what the loss returns for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import OnnxForm
from gnopt.engine.predictions import Numbers, Prediction
from gnopt.engine.source_form import Coupled
from gnopt.errors import ConfigError, TargetRangeError
from gnopt.registry import discover, lookup

LEAST_CURVATURE = 1e-12


class Loss:
    """One loss. Methods take the backend ``ops``, outputs h (N, K) and targets y, in the form that
    ``convert_targets`` gives them.

    𝒢_L is ∂²E/∂h² where the loss is convex in h. Where it is not, E(h) = ℓ(m(h)) with a convex ℓ,
    and 𝒢_L = J_mᵀ ℓ'' J_m keeps the curvature of ℓ alone, so that it is positive semi-definite. C_L
    is a root of it: 𝒢_L = C_L C_Lᵀ.
    """

    name: str = ""
    summary: str = ""
    other_names: tuple[str, ...] = ()  # what other programs call it; a hint names ours
    # The targets that it is chosen for where the user names no loss: "two classes", "classes",
    # "counts" or "numbers"; "" = for none.
    suits: str = ""
    # 𝒢_L of a data point is diagonal: gn_diagonal defines it, and the other methods follow.
    diagonal: bool = False
    unit_curvature: bool = False  # 𝒢_L = I, or the weight of the data point times I
    likelihood: bool = True  # E = −log p(y | h) + const: y can be sampled from the model
    gaussian: bool = False  # the likelihood is normal with a noise σ² that E does not hold
    convex: bool = True  # E is convex in h: 𝒢_L is ∂²E/∂h²
    linear: bool = False  # h is in the units of the targets, which may be any
    # How many classes a column of labels may have; 0: targets are numbers, also whole ones.
    most_classes: float = 0
    error_name: str = "squared error"
    onnx: OnnxForm | None = None  # appends `prediction` to an ONNX graph; None: it is traced
    # `prediction` in C and others, by language, where predictions depend on several outputs each
    source: ClassVar[Mapping[str, Coupled]] = {}

    # ---- targets (host arrays) -------------------------------------------------------------------

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        """Check targets and return them in the form that the other methods take.

        Raises DataError, which names the first bad entry.
        """
        return y.reshape(len(y), -1)

    def outputs(self, y: np.ndarray) -> int:
        """Return the width of the output layer that these (converted) targets need."""
        return int(y.shape[1])

    def target_sum(
        self, y: np.ndarray, outputs: int, weight: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the sum of the targets over data points, (K,) float64: ``initial_bias`` is given
        the mean.

        With ``weight``, (N,), each data point counts by its weight.
        """
        if weight is not None:
            weighted: np.ndarray = weight.astype(np.float64) @ y
            return weighted
        total: np.ndarray = y.sum(axis=0, dtype=np.float64)
        return total

    # ---- weights of data points: `engine.weighted` overrides these -----------------------------

    def weight(self, y: Array) -> Array | None:
        """Return the weight of each data point in the objective, (N,); None: all count the same."""
        return None

    def weight_in_metrics(self, y: Array) -> Array | None:
        """Return the weight of each data point in ``error`` and in metrics, (N,); None: all count
        the same.
        """
        return None

    def unweighted(self, y: Array) -> tuple[Loss, Array]:
        """Return the loss and the targets without weights."""
        return self, y

    def totals(self, y: Array) -> tuple[float, float]:
        """Return the sum of the weights in the objective, and of the weights in ``error``; each is
        N without weights.
        """
        return float(len(y)), float(len(y))

    def on_device(self, y: Array, put: Callable[[np.ndarray], Array]) -> Array:
        """Return converted targets on a device; ``put`` copies an array there."""
        return put(y)

    def even(self, ops: Backend, y: Array) -> Array:
        """Return targets whose weights are in units of their mean over these very data points."""
        return y

    def part(self, ops: Backend, y: Array, rows: slice) -> Array:
        """Return the targets of a range of a batch that stands for all of it: with weights of the
        same mean.
        """
        return y[rows]

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        """Return the output bias with which the network predicts the mean target (inverse link)."""
        return mean

    def floor(self, y: np.ndarray) -> np.ndarray:
        """Return a lower bound of E at these targets, (N,) float64: the entropy of soft targets,
        zero for hard ones.
        """
        return np.zeros(len(y))

    # ---- value, gradient, prediction -------------------------------------------------------------

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return E of each data point, (N,)."""
        raise ConfigError(f"loss {type(self).__name__} does not define value(ops, h, y)")

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return ∂E/∂h, (N, K), as a new array."""
        raise ConfigError(f"loss {type(self).__name__} does not define gradient(ops, h, y)")

    def value_and_gradient(self, ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
        """Return value and gradient; a loss overrides this where they share work."""
        return self.value(ops, h, y), self.gradient(ops, h, y)

    def prediction(self, ops: Backend, h: Array) -> Array:
        """Return the mean of y under the model, (N, K)."""
        return h

    def prediction_slope(self, ops: Backend, h: Array) -> Array:
        """Return ∂prediction_k/∂h_k, (N, K), where each prediction is a function of one output.

        `prediction_product` needs this unless a loss overrides it; exported C and Fortran need
        this, or ``source``. Raises ConfigError if only ``prediction`` is overridden.
        """
        if type(self).prediction is not Loss.prediction:
            raise ConfigError(
                f"loss {self.name or type(self).__name__} does not define prediction_slope(ops, h)"
            )
        return ops.xp.ones_like(h)

    def prediction_product(self, ops: Backend, h: Array, v: Array) -> Array:
        """Return J v with J = ∂prediction/∂h, for v (N, K) or for a stack of them (..., N, K).

        A loss whose predictions depend on several outputs each overrides this. Raises ConfigError
        where neither this nor `prediction_slope` is defined.
        """
        return self.prediction_slope(ops, h) * v

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        """Return outputs, (N, K), that predict the mean of what several networks predict by their
        outputs ``h``.

        Raises ConfigError if only ``prediction`` is overridden: then it is not known which do.
        """
        if type(self).prediction is not Loss.prediction:
            raise ConfigError(
                f"loss {self.name or type(self).__name__} does not define mixture(ops, h): "
                "predictions of several networks cannot be averaged"
            )
        return sum(h[1:], start=h[0]) / len(h)

    def error(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return the error of each data point for the log, (N,): ‖prediction − y‖², or 0 and 1 for
        classifiers.
        """
        difference = self.prediction(ops, h) - y
        return ops.xp.einsum("nk,nk->n", difference, difference)

    # ---- what metrics score ----------------------------------------------------------------------

    def predicts(self, outputs: int) -> type[Prediction]:
        """Return the kind of record that `predicted` returns for a network of so many outputs."""
        return Numbers

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        """Return the prediction as metrics take it, float64 on the host."""
        return Numbers(ops.to_host(self.prediction(ops, h)).astype(np.float64))

    def truth(self, y: np.ndarray) -> np.ndarray:
        """Return what `predicted` is compared with, from converted targets on the host: numbers
        (N, K), or labels (N,) or distributions (N, C) of classes.
        """
        return y

    # ---- Gauss-Newton matrix of the output -------------------------------------------------------

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return the diagonal of 𝒢_L, (N, K): all of it for losses with ``diagonal``."""
        return ops.xp.einsum("nkk->nk", self.gn_matrix(ops, h, y))

    def gn_matrix(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return 𝒢_L of each data point, (N, K, K)."""
        if not self.diagonal:
            raise ConfigError(
                f"loss {type(self).__name__} defines neither gn_diagonal nor gn_matrix"
            )
        return _as_matrices(ops, self.gn_diagonal(ops, h, y))

    def gn_mean(self, ops: Backend, h: Array, y: Array, weight: Array | None = None) -> Array:
        """Return the mean of 𝒢_L over data points: (K,) for a diagonal loss, else (K, K).

        With ``weight``, (N,), it is the mean of weight · 𝒢_L.
        """
        each = self.gn_diagonal(ops, h, y) if self.diagonal else self.gn_matrix(ops, h, y)
        if weight is None:
            return each.mean(axis=0)
        return ops.xp.tensordot(weight, each, axes=1) * (1.0 / len(h))

    def gn_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        """Return 𝒢_L v for v (N, K) or for a stack of them (..., N, K)."""
        if self.diagonal:
            return self.gn_diagonal(ops, h, y) * v
        return ops.xp.einsum("nij,...nj->...ni", self.gn_matrix(ops, h, y), v)

    def expected_gn_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        """Return E[𝒢_L] v for v (..., N, K), the mean over targets drawn from the model.

        Step sizes are chosen by E[𝒢_L], which is the Fisher matrix of a likelihood. 𝒢_L itself
        serves wherever it does not depend on the target.
        """
        return self.gn_product(ops, h, y, v)

    def rank(self, outputs: int) -> int:
        """Number of columns of C_L: no less than the rank of 𝒢_L."""
        return outputs

    def gn_root(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return C_L column by column, (R, N, K): entry [r, n] is column r at data point n.

        For diagonal losses the square root of ``gn_diagonal``, (N, K), says the same in
        less memory.
        """
        xp = ops.xp
        if self.diagonal:
            return _as_matrices(ops, xp.sqrt(self.gn_diagonal(ops, h, y))).transpose(1, 0, 2)
        values, vectors = ops.eigh_stack(self.gn_matrix(ops, h, y))
        return (vectors * xp.sqrt(xp.maximum(values, 0.0))[:, None, :]).transpose(2, 0, 1)

    def gn_root_product(self, ops: Backend, h: Array, y: Array, s: Array) -> Array:
        """Return C_L s, (N, K), for s (N, R): a random s with E[s sᵀ] = I sketches the root."""
        if self.diagonal:
            root = ops.xp.sqrt(self.gn_diagonal(ops, h, y))
            root *= s
            return root
        return ops.xp.einsum("rnk,nr->nk", self.gn_root(ops, h, y), s)

    def has_root_residual(self) -> bool:
        """Whether ``root_residual`` is defined: by the loss itself, or as 𝒢_L is diagonal and the
        loss convex, so that a gradient without curvature is one of zero.
        """
        own = type(self).root_residual is not Loss.root_residual
        return own or (self.diagonal and self.convex)

    def root_residual(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return u, (N, R), with C_L u = ∂E/∂h: the residuals of the least-squares problem whose
        Jacobian is C_Lᵀ J. For losses with ``has_root_residual``.

        Curvatures are held at ``LEAST_CURVATURE``, below which u would be a quotient of rounding.
        """
        xp = ops.xp
        curvature = xp.maximum(self.gn_diagonal(ops, h, y), LEAST_CURVATURE)
        return self.gradient(ops, h, y) / xp.sqrt(curvature)

    # ---- true Hessian of the output --------------------------------------------------------------

    def hessian_matrix(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return ∂²E/∂h² of each data point, (N, K, K); 𝒢_L where the loss is convex in h."""
        if not self.convex:
            raise ConfigError(
                f"loss {type(self).__name__} is not convex and does not define hessian_matrix"
            )
        return self.gn_matrix(ops, h, y)

    def hessian_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        """Return ∂²E/∂h² v for v (N, K)."""
        if self.convex:
            return self.gn_product(ops, h, y, v)
        return ops.xp.einsum("nij,...nj->...ni", self.hessian_matrix(ops, h, y), v)

    # ---- sampling --------------------------------------------------------------------------------

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        """Return targets drawn from the model's predictive distribution, in the form of converted
        targets.
        """
        raise ConfigError(
            f"loss '{self.name or type(self).__name__}' is not a likelihood: it cannot be sampled"
        )

    def sampled_gradient(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        """Return ∂E/∂h at targets drawn from the model, (N, K): its second moment is the Fisher
        matrix.
        """
        return self.gradient(ops, h, self.sample(ops, h, rng))

    # ---- columns whose second moment is a Fisher matrix ------------------------------------------

    def drawn_column(self, ops: Backend, h: Array, y: Array, rng: np.random.Generator) -> Array:
        """Return c, (N, K), with E[c cᵀ] the Fisher matrix of each data point: gradients at drawn
        targets. Of ``y`` only weights matter.
        """
        return self.sampled_gradient(ops, h, rng)

    def own_column(self, ops: Backend, h: Array, y: Array) -> Array:
        """Return c, (N, K), with c cᵀ the empirical Fisher matrix of each data point: gradients at
        the data's own targets.
        """
        return self.gradient(ops, h, y)


def log_mean_exp(ops: Backend, logarithms: Sequence[Array]) -> Array:
    """Return the logarithm of the mean of numbers that are given by their logarithms."""
    xp = ops.xp
    every = xp.stack(logarithms)
    largest = every.max(axis=0)
    return xp.log(xp.exp(every - largest).mean(axis=0)) + largest


def _as_matrices(ops: Backend, diagonal: Array) -> Array:
    """Return matrices (N, K, K) with the rows of ``diagonal``, (N, K), on their diagonals."""
    rows, width = diagonal.shape
    matrices = ops.xp.zeros((rows, width * width), dtype=diagonal.dtype)
    matrices[:, :: width + 1] = diagonal
    return matrices.reshape(rows, width, width)


def check_range(y: np.ndarray, low: float, high: float, loss: str) -> None:
    """Raise TargetRangeError naming the first target outside [low, high]."""
    bad = ~((y >= low) & (y <= high))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise TargetRangeError(
            f"loss {loss}: target {y[row, column]:g} in row {row}, column {column} of the batch: "
            f"expected values in [{low:g}, {high:g}]"
        )


def all_losses() -> dict[str, Loss]:
    """Return every loss in this folder, by name."""
    return discover(__name__, "LOSS")


def loss_for(kind: str) -> Loss:
    """Return the loss that suits this kind of targets; `Loss.suits` lists the kinds."""
    return next(loss for loss in all_losses().values() if loss.suits == kind)


def get_loss(name: str) -> Loss:
    """Return the loss called ``name``, or an instance of the plug-in class ``"module:Class"``;
    ConfigError if there is none.
    """
    found = lookup(__name__, "LOSS", name, "loss")
    loss: Loss = found() if isinstance(found, type) else found
    if not getattr(loss, "name", ""):
        loss.name = name
    return loss
