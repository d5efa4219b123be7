"""Alignment of each method's update with the exact Gauss-Newton update (Botev et al. 2017).

The exact update solves (GN + λ I) Δ = −∇ on the same rows, by conjugate gradients to a tight
tolerance. Every method's update uses the same gradient and the same λ, so that only the curvature
differs: Kronecker factors are damped as

    Â = A + π √λ I,   Ĝ = G + (√λ / π) I

and diagonals as diagonal + λ. Cosines are taken in the Euclidean inner product and in that of the
Gauss-Newton matrix, ⟨u, v⟩ = uᵀ GN v, for the whole network and layer by layer, with the layer's
own block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from gnopt.engine.arrays import Array
from gnopt.engine.network import times_slope
from gnopt.inspection.blocks import InspectedBlock
from gnopt.inspection.dense import loss_gradient
from gnopt.inspection.density import product_with
from gnopt.inspection.factors import Factors, Note
from gnopt.inspection.subject import Snapshot
from gnopt.optimizers.solver import conjugate_gradients

GRADIENT = "gradient"  # the plain gradient, shown beside the methods
COLUMNS = (
    "run",
    "step",
    "method",
    "layer",
    "damping",
    "cosine",
    "gn_cosine",
    "iterations",
    "residual",
    "loss",
)


@dataclass(frozen=True)
class Solve:
    """How to find the exact update."""

    dampings: tuple[float, ...]  # every λ to compare at; empty for `natural_damping`
    tolerance: float  # relative residual
    iterations: int  # of conjugate gradients, at most


@dataclass(frozen=True)
class Alignment:
    """The cosines of one method's update with the exact update."""

    run: str
    step: int
    method: str
    layer: int  # 0 is the whole network
    damping: float
    cosine: float
    gn_cosine: float
    iterations: int
    residual: float
    loss: float

    def row(self) -> dict[str, float | int | str]:
        """Return the row of alignment.csv; layer 0 is written as ``all``."""
        return {name: getattr(self, name) for name in COLUMNS} | {"layer": self.layer or "all"}


def natural_damping(snapshot: Snapshot, factors: Factors) -> float:
    """Return the λ to use if none is given.

    Under the rules "fixed" and "lm" it is the configured λ, or the λ that the run adapted. Under
    the relative rule it is c_A c_G times the mean eigenvalue of the block-diagonal Gauss-Newton
    matrix, Σ_l tr(A_{l-1}) tr(G_l) / P.
    """
    values = snapshot.subject.config.optimizer.values()
    if values.get("damping_rule") in ("fixed", "lm"):
        adapted = snapshot.weights.damping if values["damping_rule"] == "lm" else None
        return float(adapted or values["damping"])
    reference = factors.reference()
    settings = reference.settings
    total = sum(block.trace() for block in reference.blocks)
    return max(settings.damping_a * settings.damping_g * total / snapshot.net.size, 1e-12)


def align(snapshot: Snapshot, factors: Factors, solve: Solve, note: Note) -> list[Alignment]:
    """Return the cosines of every method at one set of weights, for each λ of ``solve``."""
    loss, g = loss_gradient(snapshot)
    decayed = snapshot.weights.theta.copy()
    decayed[snapshot.net.ops.asarray(snapshot.net.bias_positions())] = 0.0
    g += snapshot.weights.eta * decayed
    alignments = []
    for lam in solve.dampings or (natural_damping(snapshot, factors),):
        alignments += _align(snapshot, factors, g, loss, lam, solve, note)
    return alignments


def _align(
    snapshot: Snapshot,
    factors: Factors,
    g: Array,
    loss: float,
    lam: float,
    solve: Solve,
    note: Note,
) -> list[Alignment]:
    exact, iterations, residual = _exact_update(snapshot, factors, g, lam, solve)
    note(
        f"exact update at step {snapshot.weights.step}: λ = {lam:.3g}, {iterations} iterations of "
        "conjugate gradients, "
        f"relative residual {residual:.1e}"
    )
    names = [*factors.methods, GRADIENT]
    updates = [
        exact,
        *(_update(snapshot, method.blocks, g, lam) for method in factors.methods.values()),
        -g,
    ]
    euclid, gauss_newton = _grams(snapshot, updates)
    return [
        Alignment(
            snapshot.subject.name,
            snapshot.weights.step,
            name,
            l,
            lam,
            _cosine(euclid[l], m),
            _cosine(gauss_newton[l], m),
            iterations,
            residual,
            loss,
        )
        for m, name in enumerate(names, start=1)
        for l in range(snapshot.net.layers + 1)
    ]


def _exact_update(
    snapshot: Snapshot, factors: Factors, g: Array, lam: float, solve: Solve
) -> tuple[Array, int, float]:
    net, ops = snapshot.net, snapshot.net.ops
    product, preconditioner = product_with(snapshot, "gauss_newton"), factors.reference()
    inverse = [block.prepare(lam) for block in preconditioner.blocks]

    def damped(v: Array) -> Array:
        out = product(v)
        ops.axpy(lam, v, out)
        return out

    def precondition(r: Array) -> Array:
        out = ops.xp.empty_like(r)
        for solve_layer, r_l, out_l in zip(inverse, net.views(r), net.views(out), strict=True):
            out_l[...] = solve_layer(r_l)
        return out

    solution = conjugate_gradients(
        damped,
        -g,
        ops.xp.zeros_like(g),
        precondition,
        ops,
        lambda i, residual, models: residual <= solve.tolerance,
        solve.iterations,
    )
    return solution.x, solution.iterations, solution.residual


def _update(snapshot: Snapshot, blocks: Sequence[InspectedBlock], g: Array, lam: float) -> Array:
    """Return −(block + damping)⁻¹ ∇ of all layers as one vector, (P,)."""
    out = snapshot.net.ops.xp.empty_like(g)
    for block, g_l, out_l in zip(
        blocks, snapshot.net.views(g), snapshot.net.views(out), strict=True
    ):
        out_l[...] = block.prepare(lam)(g_l)
    out *= -1.0
    return out


def _grams(snapshot: Snapshot, updates: Sequence[Array]) -> tuple[np.ndarray, np.ndarray]:
    """Return the inner products of all updates, Euclidean and Gauss-Newton, (L + 1, k, k) each.

    Index 0 is the whole network, index l is layer l. For a vector that is zero outside layer l, J v
    starts at layer l; the sum over layers is J v of the whole vector. Cost: 2 N k flops for each
    parameter of layer l and of the layers above.
    """
    net, ops, xp = snapshot.net, snapshot.net.ops, snapshot.net.ops.xp
    k, rows = len(updates), snapshot.tape.rows
    views = [net.views(u) for u in updates]
    euclid = np.zeros((net.layers + 1, k, k))
    curved = np.zeros((net.layers + 1, k, k))
    total: Array | None = None
    for l in range(1, net.layers + 1):
        V = xp.stack([view[l - 1].reshape(-1) for view in views])
        euclid[l] = ops.to_host(V @ V.T)
        rh = xp.stack([snapshot.tape.abar[l - 1] @ view[l - 1].T for view in views])
        for above in range(l, net.layers):
            times_slope(net, snapshot.tape, above, rh, snapshot.workspace)
            rh = (rh.reshape(k * rows, -1) @ snapshot.W[above][:, :-1].T).reshape(k, rows, -1)
        curved[l] = _gram(snapshot, rh)
        total = rh if total is None else total + rh
    euclid[0], curved[0] = euclid[1:].sum(axis=0), _gram(snapshot, total)
    return euclid, curved


def _gram(snapshot: Snapshot, Jv: Array) -> np.ndarray:
    ops = snapshot.net.ops
    HJv = snapshot.subject.loss.gn_product(ops, snapshot.tape.output, snapshot.subject.y, Jv)
    return (
        ops.to_host(Jv.reshape(len(Jv), -1) @ HJv.reshape(len(Jv), -1).T).astype(np.float64)
        / snapshot.tape.rows
    )


def _cosine(gram: np.ndarray, m: int) -> float:
    """Return the cosine of update m and update 0, the exact one."""
    size = gram[0, 0] * gram[m, m]
    return float(gram[0, m] / size**0.5) if size > 0.0 else nan
