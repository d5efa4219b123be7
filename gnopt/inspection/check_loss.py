"""Checks of a loss, at real and random outputs: gradient, Hessian, 𝒢_L with its root, sampling.

For a loss that is convex in its outputs, 𝒢_L must be the Hessian. For another loss, 𝒢_L is a part
of the Hessian, and no general rule says which part. But at outputs that minimise E the other part
vanishes, so 𝒢_L and the Hessian are compared there.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gnopt import rng
from gnopt.inspection.differences import Check, Skip, elementwise_mismatch, relative
from gnopt.inspection.subject import Snapshot

TOLERANCE = 1e-6
ROWS = 20
WIDE = 200  # with more outputs K, fewer rows N are used, so that (N, K, K) stays small
DRAWS = 4000


class LossProbe:
    """The loss at outputs h (N, K) with targets y.

    Half of the outputs are the network's own; the other half are the same, moved at random.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.ops = snapshot.net.ops
        self.loss, targets = snapshot.subject.loss.unweighted(snapshot.subject.y)
        self.rng = rng.generator(snapshot.subject.seed, "check loss")
        K = snapshot.net.sizes[-1]
        rows = min(snapshot.tape.rows, max(2, ROWS * WIDE // max(K, WIDE)))
        real = self.ops.to_host(snapshot.tape.output[:rows]).astype(np.float64)
        self.h = np.concatenate([real, real + self.rng.standard_normal(real.shape)])
        y = self.ops.to_host(targets[:rows])
        self.y = np.concatenate([y, y])
        self.v = self.rng.standard_normal(self.h.shape)

    def call(self, name: str, *arrays: np.ndarray) -> np.ndarray:
        """Call a method of the loss with host arrays."""
        return self.ops.to_host(
            getattr(self.loss, name)(self.ops, *(self.ops.asarray(a) for a in arrays))
        )

    def at(self, name: str, t: float) -> np.ndarray:
        """Call a method of (h, y) with h moved by t along v."""
        return self.call(name, self.h + t * self.v, self.y)

    @cached_property
    def gn(self) -> np.ndarray:
        """𝒢_L, (N, K, K)."""
        return self.call("gn_matrix", self.h, self.y)


def checks(snapshot: Snapshot) -> list[Check]:
    """Return the checks of the loss."""
    p = LossProbe(snapshot)
    return [
        ("shapes of value and gradient", 0.0, lambda: _shapes(p)),
        ("gradient = dE/dh", TOLERANCE, lambda: _gradient(p)),
        ("value_and_gradient = both", TOLERANCE, lambda: _both(p)),
        ("hessian_matrix = d gradient / dh", TOLERANCE, lambda: _hessian(p)),
        ("hessian_product = hessian_matrix v", TOLERANCE, lambda: _hessian_product(p)),
        ("gn_matrix symmetric, positive semi-definite", TOLERANCE, lambda: _definite(p)),
        ("gn_matrix against the Hessian", 1e-5, lambda: _gauss_newton(p)),
        (
            "gn_product = gn_matrix v",
            TOLERANCE,
            lambda: relative(
                p.call("gn_product", p.h, p.y, p.v), np.einsum("nij,nj->ni", p.gn, p.v)
            ),
        ),
        ("gn_mean = mean of gn_matrix", TOLERANCE, lambda: _mean(p)),
        ("gn_root · gn_rootᵀ = gn_matrix", TOLERANCE, lambda: _root(p)),
        ("gn_root_product = gn_root s", TOLERANCE, lambda: _root_product(p)),
        ("finite up to |h| = 1e4", 0.0, lambda: _finite(p)),
        (
            "sampled gradients: mean 0, second moment = mean Hessian (5 standard errors)",
            5.0,
            lambda: _sampling(p),
        ),
    ]


def _shapes(p: LossProbe) -> float:
    value, gradient = p.call("value", p.h, p.y), p.call("gradient", p.h, p.y)
    return 0.0 if value.shape == (len(p.h),) and gradient.shape == p.h.shape else np.inf


def _gradient(p: LossProbe) -> float:
    expected = (p.call("gradient", p.h, p.y) * p.v).sum(axis=1)
    return float(elementwise_mismatch(lambda t: p.at("value", t), expected).max())


def _both(p: LossProbe) -> float:
    value, gradient = p.loss.value_and_gradient(p.ops, p.ops.asarray(p.h), p.ops.asarray(p.y))
    return max(
        relative(p.ops.to_host(value), p.call("value", p.h, p.y)),
        relative(p.ops.to_host(gradient), p.call("gradient", p.h, p.y)),
    )


def _hessian(p: LossProbe) -> float:
    expected = np.einsum("nij,nj->ni", p.call("hessian_matrix", p.h, p.y), p.v)
    return float(elementwise_mismatch(lambda t: p.at("gradient", t), expected).max())


def _hessian_product(p: LossProbe) -> float:
    expected = np.einsum("nij,nj->ni", p.call("hessian_matrix", p.h, p.y), p.v)
    return relative(p.call("hessian_product", p.h, p.y, p.v), expected)


def _definite(p: LossProbe) -> float:
    top = np.abs(p.gn).max(axis=(1, 2)) + 1e-300
    asymmetry = (np.abs(p.gn - p.gn.transpose(0, 2, 1)).max(axis=(1, 2)) / top).max()
    lowest = p.ops.to_host(p.ops.eigh_stack(p.ops.asarray(p.gn))[0])[:, 0]
    return float(max(asymmetry, (-lowest / top).max(), 0.0))


def _gauss_newton(p: LossProbe) -> float:
    if p.loss.convex:
        expected = np.einsum("nij,nj->ni", p.gn, p.v)
        return float(elementwise_mismatch(lambda t: p.at("gradient", t), expected).max())
    return _at_least(p)


def _at_least(p: LossProbe) -> float:
    """Compare 𝒢_L with the Hessian at the outputs that minimise E, for a few data points."""
    from scipy.optimize import minimize

    errors = []
    for n in range(min(6, len(p.h))):
        y = p.y[n : n + 1]

        def objective(h: np.ndarray, y: np.ndarray = y) -> tuple[float, np.ndarray]:
            return float(p.call("value", h[None], y)[0]), p.call("gradient", h[None], y)[0]

        minimum = minimize(
            objective, p.h[n], jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500}
        )
        h = minimum.x[None]
        gn, exact = p.call("gn_matrix", h, y), p.call("hessian_matrix", h, y)
        slope = np.abs(p.call("gradient", h, y)).max()
        # A minimum at infinity has no curvature left to compare.
        if (
            slope < 1e-6 * (1.0 + np.abs(exact).max())
            and np.abs(h).max() < 1e3
            and np.abs(exact).max() > 1e-3
        ):
            errors.append(relative(gn, exact))
    if not errors:
        raise Skip("not convex, and no minimum over the outputs was found to compare at")
    return max(errors)


def _mean(p: LossProbe) -> float:
    mean, expected = p.call("gn_mean", p.h, p.y), p.gn.mean(axis=0)
    return relative(np.diag(mean) if mean.ndim == 1 else mean, expected)


def _root(p: LossProbe) -> float:
    root = p.call("gn_root", p.h, p.y)
    if root.shape[0] != p.loss.rank(p.h.shape[1]):
        return np.inf
    return relative(np.einsum("rni,rnj->nij", root, root), p.gn)


def _root_product(p: LossProbe) -> float:
    s = p.rng.standard_normal((len(p.h), p.loss.rank(p.h.shape[1])))
    return relative(
        p.call("gn_root_product", p.h, p.y, s),
        np.einsum("rnk,nr->nk", p.call("gn_root", p.h, p.y), s),
    )


def _finite(p: LossProbe) -> float:
    """Return 0 if value, gradient and 𝒢_L are finite at outputs up to 1e4, else infinity."""
    for dtype in (np.float64, np.float32):
        h = np.clip(p.h * 1e4, -1e4, 1e4).astype(dtype)
        y = p.y if p.y.dtype.kind in "iu" else p.y.astype(dtype)
        arrays = [
            p.call("value", h, y),
            p.call("gradient", h, y),
            p.call("gn_product", h, y, np.ones_like(h)),
        ]
        if not all(np.isfinite(array).all() for array in arrays):
            return np.inf
    return 0.0


def _sampling(p: LossProbe) -> float:
    """Return the largest z-score of two means over drawn targets that must be 0.

    With s = Σ_k ∂E/∂h_k v_k, they are the means of s and of s² − vᵀ (Hessian) v.
    """
    if not p.loss.likelihood:
        raise Skip("not a likelihood")
    rows = min(4, len(p.h) // 2)
    draws = max(200, min(DRAWS, 10**6 // p.h.shape[1]))
    # Moderate outputs: if one target were nearly certain, the rare others that balance its gradient
    # would not be drawn.
    h = np.repeat(0.7 * p.rng.standard_normal((rows, p.h.shape[1])), draws, axis=0)
    v = np.repeat(p.v[:rows], draws, axis=0)
    device = p.ops.asarray(h)
    y = p.ops.to_host(p.loss.sample(p.ops, device, p.rng))
    slope = (p.call("gradient", h, y) * v).sum(axis=1).reshape(rows, draws)
    curved = (p.call("hessian_product", h, y, v) * v).sum(axis=1).reshape(rows, draws)
    scores = []
    for terms in (slope, slope**2 - curved):
        error = terms.std(axis=1) / np.sqrt(draws)
        scores.append(
            (
                np.abs(terms.mean(axis=1)) / np.maximum(error, 1e-12 * (1.0 + np.abs(curved).max()))
            ).max()
        )
    return float(max(scores))
