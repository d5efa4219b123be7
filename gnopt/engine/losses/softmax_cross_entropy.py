"""E = logsumexp(h) − yᵀh: one of K classes, y an integer label or a distribution."""

import math
from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import LEAST_CURVATURE, Loss, check_range, log_mean_exp
from gnopt.engine.onnx_form import Operator
from gnopt.engine.predictions import Classes, Prediction
from gnopt.engine.source_form import Coupled
from gnopt.errors import DataError

# y = softmax(h), J = diag y − y yᵀ.
SOURCE = {
    "c": Coupled(
        """
double largest = h[0], total = 0.0;
for (int i = 1; i < n; i++) if (h[i] > largest) largest = h[i];
for (int i = 0; i < n; i++) total += y[i] = exp(h[i] - largest);
for (int i = 0; i < n; i++) y[i] /= total;
""",
        """
double mean = 0.0;
for (int i = 0; i < n; i++) mean += y[i] * dh[i];
for (int i = 0; i < n; i++) dy[i] = y[i] * (dh[i] - mean);
""",
        """
double mean = 0.0;
for (int i = 0; i < n; i++) mean += y[i] * dy[i];
for (int i = 0; i < n; i++) dh[i] = y[i] * (dy[i] - mean);
""",
    ),
    "fortran": Coupled(
        """
y = exp(h - maxval(h))
y = y / sum(y)
""",
        """
dy = y * (dh - dot_product(y, dh))
""",
        """
dh = y * (dy - dot_product(y, dy))
""",
    ),
}


class SoftmaxCrossEntropy(Loss):
    """Gradient p − y, 𝒢_L = diag p − p pᵀ, C_L = diag √p − p √pᵀ, sample Categorical(p)."""

    name = "softmax_cross_entropy"
    summary = "one of K classes; y an integer label or a distribution; 𝒢_L = diag p - p pᵀ"
    suits = "classes"
    other_names = (
        "cross_entropy",
        "cross_entropy_loss",
        "crossentropy",
        "ce",
        "categorical_crossentropy",
        "categorical_cross_entropy",
        "sparse_categorical_crossentropy",
        "nll_loss",
        "log_loss",
        "softmax",
        "multinomial",
        "multi:softprob",
    )
    error_name = "classification error"
    most_classes = math.inf
    onnx = Operator("Softmax")
    source = SOURCE

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(len(y), -1)
        if y.shape[1] == 1:
            labels = y[:, 0]
            bad = ~(
                (labels >= 0) & (labels < 2**31) & (labels == np.floor(labels))
            )  # NaN compares false
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"loss {self.name}: label {labels[row]:g} in row {row} of the batch: "
                    "expected whole numbers from 0"
                )
            return labels.astype(np.int64)
        check_range(y, 0.0, 1.0, self.name)
        sums = y.sum(axis=1, dtype=np.float64)
        if np.abs(sums - 1.0).max(initial=0.0) > 1e-3:
            row = int(np.argmax(np.abs(sums - 1.0)))
            raise DataError(
                f"loss {self.name}: the targets of row {row} of the batch sum to {sums[row]:g}: "
                "expected a distribution over the classes, or one integer label"
            )
        return y

    def outputs(self, y: np.ndarray) -> int:
        return max(int(y.max(initial=0)) + 1, 2) if y.ndim == 1 else y.shape[1]

    def target_sum(
        self, y: np.ndarray, outputs: int, weight: np.ndarray | None = None
    ) -> np.ndarray:
        if y.ndim == 1:
            return np.bincount(y, weight, minlength=outputs).astype(np.float64)
        return super().target_sum(y, outputs, weight)

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        bias: np.ndarray = np.log(np.clip(mean, 1e-3, 1.0))
        return bias

    def floor(self, y: np.ndarray) -> np.ndarray:
        from scipy.special import entr

        return (
            np.zeros(len(y)) if y.ndim == 1 else entr(np.asarray(y, dtype=np.float64)).sum(axis=1)
        )

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        return self.value_and_gradient(ops, h, y)[0]

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        return self.value_and_gradient(ops, h, y)[1]

    def value_and_gradient(self, ops: Backend, h: Array, y: Array) -> tuple[Array, Array]:
        xp = ops.xp
        shifted = h - h.max(axis=1, keepdims=True)
        p = xp.exp(shifted)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        value = xp.log(total[:, 0])
        if y.ndim == 1:
            rows = xp.arange(len(y))
            value -= shifted[rows, y]
            p[rows, y] -= 1.0
        else:
            value -= xp.einsum("nk,nk->n", shifted, y)
            p -= y
        return value, p

    def prediction(self, ops: Backend, h: Array) -> Array:
        p = ops.xp.exp(h - h.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p

    def prediction_product(self, ops: Backend, h: Array, v: Array) -> Array:
        """J = diag p − p pᵀ, which is 𝒢_L too."""
        p = self.prediction(ops, h)
        pv = p * v
        return pv - p * pv.sum(axis=-1, keepdims=True)

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        """The logarithm of the mean probabilities."""
        xp = ops.xp
        shifted = [one - one.max(axis=1, keepdims=True) for one in h]
        return log_mean_exp(
            ops, [one - xp.log(xp.exp(one).sum(axis=1, keepdims=True)) for one in shifted]
        )

    def error(self, ops: Backend, h: Array, y: Array) -> Array:
        truth = y if y.ndim == 1 else y.argmax(axis=1)
        return (h.argmax(axis=1) != truth).astype(h.dtype)

    def predicts(self, outputs: int) -> type[Prediction]:
        return Classes

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        from scipy.special import log_softmax

        return Classes(log_softmax(ops.to_host(h).astype(np.float64), axis=1))

    def gn_diagonal(self, ops: Backend, h: Array, y: Array) -> Array:
        p = self.prediction(ops, h)
        return p - p * p

    def gn_matrix(self, ops: Backend, h: Array, y: Array) -> Array:
        p = self.prediction(ops, h)
        matrices = -p[:, :, None] * p[:, None, :]
        rows, width = p.shape
        matrices.reshape(rows, width * width)[:, :: width + 1] += p
        return matrices

    def gn_mean(self, ops: Backend, h: Array, y: Array, weight: Array | None = None) -> Array:
        p = self.prediction(ops, h)
        if weight is None:
            diagonal, columns = p.mean(axis=0), p
        else:
            diagonal = weight @ p * (1.0 / len(p))
            columns = p * ops.xp.sqrt(weight)[:, None]
        mean = ops.gram(columns, -1.0 / len(p))
        mean.reshape(-1)[:: p.shape[1] + 1] += diagonal
        return mean

    def gn_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        return self.prediction_product(ops, h, v)

    def gn_root(self, ops: Backend, h: Array, y: Array) -> Array:
        xp = ops.xp
        p = self.prediction(ops, h)
        root = xp.sqrt(p)
        columns = -root.T[:, :, None] * p[None, :, :]  # column k of data point n: √p_k (e_k − p)
        classes = xp.arange(p.shape[1])
        columns[classes, :, classes] += root.T
        return columns

    def gn_root_product(self, ops: Backend, h: Array, y: Array, s: Array) -> Array:
        p = self.prediction(ops, h)
        rs = ops.xp.sqrt(p) * s
        return rs - p * rs.sum(axis=1, keepdims=True)

    def root_residual(self, ops: Backend, h: Array, y: Array) -> Array:
        # C_L (−y / √p) = −y + p Σ y = p − y.
        xp = ops.xp
        root = xp.sqrt(xp.maximum(self.prediction(ops, h), LEAST_CURVATURE))
        if y.ndim == 1:
            u = xp.zeros_like(root)
            rows = xp.arange(len(y))
            u[rows, y] = -1.0
            return u / root
        return -y / root

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        # The Gumbel trick: argmax(h + noise) is a draw from softmax(h).
        u = ops.uniform(rng, h.shape, h.dtype)
        tiny = 1e-30
        noise = -ops.xp.log(-ops.xp.log(ops.xp.maximum(u, tiny)) + tiny)
        return (h + noise).argmax(axis=1)


LOSS = SoftmaxCrossEntropy()
