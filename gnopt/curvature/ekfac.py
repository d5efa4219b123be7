"""EKFAC (George et al. 2018): KFAC's eigenbases with the diagonal re-estimated in them.

    S_l = mean[(Q_Gᵀ δ̂_l)² ((Q_Aᵀ ā_{l-1})²)ᵀ],   block ≈ (Q_A ⊗ Q_G) diag(vec S) (Q_A ⊗ Q_G)ᵀ

for sampled gradients δ̂: the closest diagonal in that basis, at the price of two more rotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnopt.curvature import Sample
from gnopt.curvature.kfac import KFAC, column_flops
from gnopt.curvature.kron import to_basis
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, backpropagate


def squared_products(
    sample: Sample, delta: Array, bases: Sequence[tuple[Array | None, Array | None]]
) -> list[Array]:
    """(1/N) Σ_n (Q_Gᵀ δ_n)² ((Q_Aᵀ ā_n)²)ᵀ of every layer for a backpropagated column, (d_l,
    d_{l-1} + 1).
    """
    ops, xp = sample.net.ops, sample.net.ops.xp
    found: list[Array] = []
    for l, delta_l in backpropagate(sample.net, sample.W, sample.tape, delta, sample.workspace):
        Q_G, Q_A = bases[l - 1]
        abar = sample.tape.abar[l - 1]
        left = delta_l if Q_G is None else to_basis(ops, delta_l, Q_G)
        right = abar if Q_A is None else to_basis(ops, abar, Q_A)
        found.append(xp.matmul((left * left).T, right * right) * (1.0 / sample.tape.rows))
    return found[::-1]


class EKFAC(KFAC):
    """KFAC with a corrected diagonal."""

    name = "ekfac"
    summary = "KFAC with the diagonal re-estimated in its eigenbases (George et al. 2018)"
    basis = "eigen"

    def scales(
        self, sample: Sample, bases: Sequence[tuple[Array | None, Array | None]]
    ) -> list[Array]:
        count = sample.settings.get("samples", 1)
        total: list[Array] = []
        for s in range(count):
            delta = sample.loss.sampled_gradient(sample.net.ops, sample.tape.output, sample.rng)
            parts = squared_products(sample, delta, bases)
            total = [a + b for a, b in zip(total, parts, strict=True)] if s else parts
        return [S * (1.0 / count) for S in total] if count > 1 else total

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        rotations = sum(2.0 * rows * (o * o + i * i + o * i) for o, i in net.shapes)
        return super().flops(net, loss, rows, settings) + settings.get("samples", 1) * (
            column_flops(net, rows) + rotations
        )


CURVATURE = EKFAC()
