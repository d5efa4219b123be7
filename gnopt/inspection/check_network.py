"""Checks of the network with its loss: passes, gradient, curvature products, and curvatures.

Directions have in every layer the norm of that layer's weights. At one data point, A ⊗ G of KFLR,
of KFRA, and of any curvature that says so, is the exact Gauss-Newton block (Botev et al. 2017).
This tests the whole chain from the loss to the factors on the user's network.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gnopt.curvature import Curvature, all_curvatures
from gnopt.curvature.exact import pre_activation_matrices
from gnopt.engine.arrays import Array
from gnopt.engine.network import r_forward
from gnopt.inspection.definite import signs
from gnopt.inspection.dense import loss_gradient
from gnopt.inspection.density import product_with
from gnopt.inspection.differences import Check, Skip, mismatch
from gnopt.inspection.subject import Snapshot, Weights, take_snapshot

ROWS = 8
TOLERANCE = 1e-6
TIGHT = 1e-9


class NetworkProbe:
    """The network on a few rows, with two random directions u and v in its parameters."""

    def __init__(self, whole: Snapshot, rows: int) -> None:
        subject = whole.subject
        y = subject.loss.even(subject.net.ops, subject.y[:rows])
        self.subject = replace(subject, x=subject.x[:rows], y=y)
        self.snapshot = take_snapshot(self.subject, whole.weights)
        self.net, self.ops = self.snapshot.net, self.snapshot.net.ops
        self.u, self.v = (self._direction(purpose) for purpose in ("check u", "check v"))

    def _direction(self, purpose: str) -> Array:
        ops = self.ops
        u = ops.normal(self.snapshot.sample(purpose).rng, (self.net.size,), self.net.dtype)
        for u_l, W_l in zip(self.net.views(u), self.snapshot.W, strict=True):
            length, norm = ops.scalars((u_l * u_l).sum(), (W_l * W_l).sum())
            u_l *= ((norm or 1.0) / length) ** 0.5
        return u

    def moved(self, t: float) -> Snapshot:
        """Return the network at θ + t u."""
        return take_snapshot(self.subject, Weights(self.snapshot.weights.theta + t * self.u, 0))

    def dot(self, a: Array, b: Array) -> float:
        """Return aᵀ b."""
        return self.ops.scalars(self.ops.xp.vdot(a, b))[0]

    def J(self, v: Array) -> Array:
        """Return J v of every row, (N, K)."""
        return r_forward(self.net, self.snapshot.W, self.snapshot.tape, [self.net.views(v)])[0]

    def outputs(self, t: float) -> np.ndarray:
        """Return h_L at θ + t u, (N, K)."""
        return self.ops.to_host(self.moved(t).tape.output)

    def of_layer(self, v: Array, layer: int) -> Array:
        """Return v with all layers but one set to zero."""
        out = self.ops.xp.zeros_like(v)
        self.net.views(out)[layer - 1][...] = self.net.views(v)[layer - 1]
        return out


def checks(whole: Snapshot) -> list[Check]:
    """Return the checks of the network."""
    # The first row alone counts, whatever its weight.
    loss, y = whole.subject.loss.unweighted(whole.subject.y)
    plain = replace(whole, subject=replace(whole.subject, loss=loss, y=y))
    several, one = NetworkProbe(whole, min(ROWS, whole.tape.rows)), NetworkProbe(plain, 1)
    tests: list[Check] = [
        (
            "R-forward pass = d outputs",
            TOLERANCE,
            lambda: mismatch(several.outputs, several.ops.to_host(several.J(several.u))),
        ),
        ("gradient = d objective", TOLERANCE, lambda: _gradient(several)),
        ("Hessian-vector product = d gradient", 1e-5, lambda: _hessian(several)),
        ("Gauss-Newton-vector product = Jᵀ 𝒢_L J", TIGHT, lambda: _gauss_newton(several)),
        (
            "block Hessian recursion = Hessian-vector product",
            TIGHT,
            lambda: _recursion(one, hessian=True),
        ),
        (
            "block Gauss-Newton recursion = Gauss-Newton-vector product",
            TIGHT,
            lambda: _recursion(one, hessian=False),
        ),
        ("theorem: block Hessians positive semi-definite", TIGHT, lambda: _theorem(one)),
    ]
    tests[-1:-1] = [
        (f"{name.upper()} at one data point = exact block", TIGHT, partial(_kronecker, one, kind))
        for name, kind in all_curvatures().items()
        if kind.exact_at_one_point
    ]
    return tests


def _gradient(p: NetworkProbe) -> float:
    _, g = loss_gradient(p.snapshot)
    return mismatch(lambda t: np.array([loss_gradient(p.moved(t))[0]]), np.array([p.dot(g, p.u)]))


def _hessian(p: NetworkProbe) -> float:
    expected = product_with(p.snapshot, "hessian")(p.u)
    return mismatch(lambda t: p.ops.to_host(loss_gradient(p.moved(t))[1]), p.ops.to_host(expected))


def _gauss_newton(p: NetworkProbe) -> float:
    product = product_with(p.snapshot, "gauss_newton")(p.u)
    pairs = []
    for v in (p.u, p.v):
        HJv = p.subject.loss.gn_product(p.ops, p.snapshot.tape.output, p.subject.y, p.J(v))
        pairs.append((p.dot(v, product), p.dot(p.J(p.u), HJv) / p.snapshot.tape.rows))
    return _worst(pairs)


def _recursion(p: NetworkProbe, hessian: bool) -> float:
    product = product_with(p.snapshot, "hessian" if hessian else "gauss_newton")
    pairs = []
    for l, M in pre_activation_matrices(p.snapshot.sample(), hessian):
        part = p.of_layer(p.u, l)
        moved = p.snapshot.tape.abar[l - 1] @ p.net.views(p.u)[l - 1].T
        pairs.append((p.ops.scalars((moved @ M[0] * moved).sum())[0], p.dot(part, product(part))))
    return _worst(pairs)


def _kronecker(p: NetworkProbe, kind: type[Curvature]) -> float:
    outputs = kind().output_factors(p.snapshot.sample(kind.name))
    product = product_with(p.snapshot, "gauss_newton")
    pairs = []
    for l, G in enumerate(outputs, start=1):
        A = p.snapshot.sample().input_factor(l).dense(p.ops)
        part, u_l = p.of_layer(p.u, l), p.net.views(p.u)[l - 1]
        pairs.append((p.dot(u_l, G.dense(p.ops) @ u_l @ A), p.dot(part, product(part))))
    return _worst(pairs)


def _theorem(p: NetworkProbe) -> float:
    result = signs(p.snapshot, 1)
    if not result.premise:
        raise Skip("it holds for piecewise-linear activations and a positive semi-definite 𝓗_L")
    return max(max(-layer.lowest, 0.0) / max(layer.highest, 1e-300) for layer in result.layers)


def _worst(pairs: list[tuple[float, float]]) -> float:
    """Return the largest difference over the largest number of all pairs.

    The common scale keeps rounding errors of layers with tiny numbers from failing a check.
    """
    scale = max(max(abs(a), abs(b)) for a, b in pairs)
    return max(abs(a - b) for a, b in pairs) / max(scale, 1e-300)
