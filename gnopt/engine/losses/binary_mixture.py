"""Mixture of two binary classifiers (Botev, Ritter, Barber 2017, section 5.2): three logits, y in
{0, 1}.

p = P(y = 1 | h) = σ₁σ₂ + (1 − σ₁)σ₃ with σ_i = σ(h_i), E = −y log p − (1 − y) log(1 − p). E is
convex in p, p is not linear in h: the Hessian is indefinite, and 𝒢_L keeps the curvature of E in p:
(y/p² + (1−y)/(1−p)²) u uᵀ with u = ∇p, of rank one. All is computed from log-probabilities and from
the responsibilities of the gate's two sides, so that nothing divides by a small p:

    r = σ₁σ₂ / p,                 ∇log p      = (r − σ₁, r(1 − σ₂), (1 − r)(1 − σ₃))
    q = σ₁(1 − σ₂) / (1 − p),     ∇log(1 − p) = (q − σ₁, −q σ₂, −(1 − q) σ₃)
"""

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss, log_mean_exp
from gnopt.engine.onnx_form import OnnxGraph
from gnopt.engine.predictions import Classes, Prediction
from gnopt.engine.source_form import Coupled
from gnopt.errors import DataError

# y = σ₁σ₂ + τ₁σ₃ with σ_i = σ(h_i) and τ_i = 1 − σ_i,
# J = (σ₁τ₁(σ₂ − σ₃), σ₁σ₂τ₂, τ₁σ₃τ₃).
_C = """
const double s1 = 1.0 / (1.0 + exp(-h[0])), t1 = 1.0 / (1.0 + exp(h[0]));
const double s2 = 1.0 / (1.0 + exp(-h[1])), s3 = 1.0 / (1.0 + exp(-h[2]));
"""
_C_SLOPE = """
const double j0 = s1 * t1 * (s2 - s3);
const double j1 = s1 * s2 / (1.0 + exp(h[1])), j2 = t1 * s3 / (1.0 + exp(h[2]));
"""
_FORTRAN = """
real(real64) :: s(3), t(3)
s = 1.0_real64 / (1.0_real64 + exp(-h))
t = 1.0_real64 / (1.0_real64 + exp(h))
"""
_FORTRAN_SLOPE = "[s(1) * t(1) * (s(2) - s(3)), s(1) * s(2) * t(2), t(1) * s(3) * t(3)]"
SOURCE = {
    "c": Coupled(
        f"{_C}y[0] = s1 * s2 + t1 * s3;",
        f"{_C}{_C_SLOPE}dy[0] = j0 * dh[0] + j1 * dh[1] + j2 * dh[2];",
        f"{_C}{_C_SLOPE}dh[0] = j0 * dy[0];\ndh[1] = j1 * dy[0];\ndh[2] = j2 * dy[0];",
    ),
    "fortran": Coupled(
        f"{_FORTRAN}y(1) = s(1) * s(2) + t(1) * s(3)",
        f"{_FORTRAN}dy(1) = dot_product({_FORTRAN_SLOPE}, dh)",
        f"{_FORTRAN}dh = dy(1) * {_FORTRAN_SLOPE}",
    ),
}


class BinaryMixture(Loss):
    """E = −log P(y | h) of a gated pair of binary classifiers."""

    name = "binary_mixture"
    summary = (
        "mixture of two binary classifiers, three logits; not an exponential family, "
        "indefinite Hessian"
    )
    convex = False
    most_classes = 2
    source = SOURCE
    error_name = "classification error"

    def convert_targets(self, y: np.ndarray) -> np.ndarray:
        y = y.reshape(len(y), -1)
        if y.shape[1] != 1:
            raise DataError(
                f"loss {self.name}: targets of shape (rows, {y.shape[1]}): expected one 0/1 "
                "value per row"
            )
        bad = (y != 0) & (y != 1)
        if bad.any():
            row = int(np.argmax(bad[:, 0]))
            raise DataError(
                f"loss {self.name}: target {y[row, 0]:g} in row {row} of the batch: expected 0 or 1"
            )
        return y

    def outputs(self, y: np.ndarray) -> int:
        return 3

    def initial_bias(self, mean: np.ndarray) -> np.ndarray:
        p = float(np.clip(mean[0], 1e-3, 1.0 - 1e-3))
        logit = np.log(p / (1.0 - p))
        return np.array([0.0, logit, logit])

    def _facts(self, ops: Backend, h: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
        """log p, log(1 − p), (r, dz/dh₂, dz/dh₃) and (q, ...) with r, q the responsibilities, and
        the σ_i.
        """
        xp = ops.xp
        plus, minus = -ops.softplus(-h), -ops.softplus(h)  # log σ, log(1 − σ)
        on_1, off_1 = plus[:, 0] + plus[:, 1], minus[:, 0] + plus[:, 2]
        on_0, off_0 = plus[:, 0] + minus[:, 1], minus[:, 0] + minus[:, 2]
        log_p = xp.maximum(on_1, off_1) + ops.softplus(-xp.abs(on_1 - off_1))
        log_q = xp.maximum(on_0, off_0) + ops.softplus(-xp.abs(on_0 - off_0))
        return (
            log_p,
            log_q,
            ops.sigmoid(on_1 - off_1),
            ops.sigmoid(on_0 - off_0),
            ops.sigmoid(h),
            ops.sigmoid(-h),
        )

    def _log_gradients(self, ops: Backend, h: Array) -> tuple[Array, Array]:
        """∇log p and ∇log(1 − p), each (N, 3)."""
        xp = ops.xp
        _, _, r, q, s, t = self._facts(ops, h)
        one = xp.stack([r - s[:, 0], r * t[:, 1], (1.0 - r) * t[:, 2]], axis=1)
        zero = xp.stack([q - s[:, 0], -q * s[:, 1], -(1.0 - q) * s[:, 2]], axis=1)
        return one, zero

    def value(self, ops: Backend, h: Array, y: Array) -> Array:
        log_p, log_q = self._facts(ops, h)[:2]
        return -y[:, 0] * log_p - (1.0 - y[:, 0]) * log_q

    def gradient(self, ops: Backend, h: Array, y: Array) -> Array:
        one, zero = self._log_gradients(ops, h)
        return -y * one - (1.0 - y) * zero

    def prediction(self, ops: Backend, h: Array) -> Array:
        return ops.xp.exp(self._facts(ops, h)[0])[:, None]

    def prediction_product(self, ops: Backend, h: Array, v: Array) -> Array:
        """J = (σ₁τ₁(σ₂ − σ₃), σ₁σ₂τ₂, τ₁σ₃τ₃) with τ_i = 1 − σ_i."""
        s, t = ops.sigmoid(h).T, ops.sigmoid(-h).T
        rows = [s[0] * t[0] * (s[1] - s[2]), s[0] * s[1] * t[1], t[0] * s[2] * t[2]]
        return (ops.xp.stack(rows, axis=1) * v).sum(axis=-1, keepdims=True)

    def mixture(self, ops: Backend, h: Sequence[Array]) -> Array:
        """Both sides of the gate have the log-odds of the mean probability."""
        logs = [self._facts(ops, one)[:2] for one in h]
        on, off = (log_mean_exp(ops, part) for part in zip(*logs, strict=True))
        odds = on - off
        return ops.xp.stack([ops.xp.zeros_like(odds), odds, odds], axis=1)

    def error(self, ops: Backend, h: Array, y: Array) -> Array:
        return ((self.prediction(ops, h)[:, 0] > 0.5) != (y[:, 0] > 0.5)).astype(h.dtype)

    def onnx(self, graph: OnnxGraph, logits: str, output: str) -> None:
        """p = σ₃ + σ₁(σ₂ − σ₃); columns of σ(h) are taken by products with constants."""
        s = graph.node("Sigmoid", [logits], f"{output}_sigmoid")
        gate, third, apart = (
            graph.node("MatMul", [s, graph.constant(f"mixture_{name}", column)], f"{output}_{name}")
            for name, column in (
                ("gate", np.array([[1.0], [0.0], [0.0]])),
                ("third", np.array([[0.0], [0.0], [1.0]])),
                ("apart", np.array([[0.0], [1.0], [-1.0]])),
            )
        )
        graph.node("Add", [third, graph.node("Mul", [gate, apart], f"{output}_gated")], output)

    def predicts(self, outputs: int) -> type[Prediction]:
        return Classes

    def predicted(self, ops: Backend, h: Array) -> Prediction:
        log_p, log_q = self._facts(ops, h)[:2]
        return Classes(ops.to_host(ops.xp.stack([log_q, log_p], axis=1)).astype(np.float64))

    def truth(self, y: np.ndarray) -> np.ndarray:
        return y[:, 0].astype(np.int64)

    def rank(self, outputs: int) -> int:
        return 1

    def _root(self, ops: Backend, h: Array, y: Array) -> Array:
        # For y in {0, 1} the root of (y/p² + (1−y)/(1−p)²) u uᵀ is the gradient of log P(y), up to
        # sign.
        one, zero = self._log_gradients(ops, h)
        return y * one - (1.0 - y) * zero

    def root_residual(self, ops: Backend, h: Array, y: Array) -> Array:
        # The one column of C_L is the gradient, up to sign.
        return 1.0 - 2.0 * y

    def gn_root(self, ops: Backend, h: Array, y: Array) -> Array:
        return self._root(ops, h, y)[None]

    def gn_root_product(self, ops: Backend, h: Array, y: Array, s: Array) -> Array:
        return self._root(ops, h, y) * s

    def gn_matrix(self, ops: Backend, h: Array, y: Array) -> Array:
        root = self._root(ops, h, y)
        return root[:, :, None] * root[:, None, :]

    def gn_mean(self, ops: Backend, h: Array, y: Array, weight: Array | None = None) -> Array:
        root = self._root(ops, h, y)
        if weight is not None:
            root *= ops.xp.sqrt(weight)[:, None]
        return ops.gram(root, 1.0 / len(h))

    def gn_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        root = self._root(ops, h, y)
        return root * (root * v).sum(axis=-1, keepdims=True)

    def expected_gn_product(self, ops: Backend, h: Array, y: Array, v: Array) -> Array:
        # E[𝒢_L] = u uᵀ / (p (1 − p)), the Gauss-Newton matrix of E in the log-odds of p. 𝒢_L of a
        # data point that is nearly fitted is smaller by the probability that is left, as the
        # Hessian is not: steps chosen by 𝒢_L are too long there.
        one, zero = self._log_gradients(ops, h)
        return one * -(zero * v).sum(axis=-1, keepdims=True)

    def hessian_matrix(self, ops: Backend, h: Array, y: Array) -> Array:
        xp = ops.xp
        _, _, r, q, s, t = self._facts(ops, h)
        ones = xp.ones_like(r)

        def log_hessian(w: Array, dz: Array, second: Array, third: Array) -> Array:
            # ∇² log of a two-term mixture: w(1−w) ∇z ∇zᵀ + diag, z the log-odds of the two terms.
            matrix = (w * (1.0 - w))[:, None, None] * dz[:, :, None] * dz[:, None, :]
            matrix[:, 0, 0] -= s[:, 0] * t[:, 0]
            matrix[:, 1, 1] -= second * s[:, 1] * t[:, 1]
            matrix[:, 2, 2] -= third * s[:, 2] * t[:, 2]
            return matrix

        h1 = log_hessian(r, xp.stack([ones, t[:, 1], -t[:, 2]], axis=1), r, 1.0 - r)
        h0 = log_hessian(q, xp.stack([ones, -s[:, 1], s[:, 2]], axis=1), q, 1.0 - q)
        weight = y[:, :, None]
        return -weight * h1 - (1.0 - weight) * h0

    def sample(self, ops: Backend, h: Array, rng: np.random.Generator) -> Array:
        return (ops.uniform(rng, (len(h), 1), h.dtype) < self.prediction(ops, h)).astype(h.dtype)


LOSS = BinaryMixture()
