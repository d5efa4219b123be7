"""EKFAC (George et al. 2018): KFAC's eigenbases with the diagonal re-estimated in them.

    S_l = mean[(Q_Gᵀ δ̂_l)² ((Q_Aᵀ ā_{l-1})²)ᵀ],   block ≈ (Q_A ⊗ Q_G) diag(vec S) (Q_A ⊗ Q_G)ᵀ

for sampled gradients δ̂: the closest diagonal in that basis, at the price of two more rotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gnopt.curvature import CurvatureSample, cost
from gnopt.curvature.blocks import Bases, EigenBlock
from gnopt.curvature.factors import to_basis
from gnopt.curvature.kfac import KFAC
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, backpropagate


def squared_products(sample: CurvatureSample, delta: Array, bases: Sequence[Bases]) -> list[Array]:
    """Return (1/N) Σ_n (Q_Gᵀ δ_n)² ((Q_Aᵀ ā_n)²)ᵀ of every layer, (d_l, d_{l-1} + 1).

    ``delta`` is one column δ_L (N, K), which is backpropagated.
    """
    ops, xp = sample.net.ops, sample.net.ops.xp
    products: list[Array] = []
    for l, delta_l in backpropagate(sample.net, sample.W, sample.tape, delta, sample.workspace):
        Q_G, Q_A = bases[l - 1]
        abar = sample.tape.abar[l - 1]
        left = delta_l if Q_G is None else to_basis(ops, delta_l, Q_G)
        right = abar if Q_A is None else to_basis(ops, abar, Q_A)
        products.append(xp.matmul((left * left).T, right * right) * (1.0 / sample.tape.rows))
    return products[::-1]


def mean_products(
    sample: CurvatureSample, columns: Iterable[Array], count: int, bases: Sequence[Bases]
) -> list[Array]:
    """Return the average of `squared_products` over ``count`` ≥ 1 columns."""
    total: list[Array] = []
    for i, delta in enumerate(columns):
        parts = squared_products(sample, delta, bases)
        total = [a + b for a, b in zip(total, parts, strict=True)] if i else parts
    return [S * (1.0 / count) for S in total] if count > 1 else total


class EKFAC(KFAC):
    """KFAC with a corrected diagonal."""

    name = "ekfac"
    summary = "KFAC with the diagonal re-estimated in its eigenbases (George et al. 2018)"
    colour = "#CC79A7"
    other_names = ("e_kfac", "eigenvalue_corrected_kfac")
    block = EigenBlock
    estimates_scales = True

    def scales(self, sample: CurvatureSample, bases: Sequence[Bases]) -> list[Array]:
        ops, h, y, count = sample.net.ops, sample.tape.output, sample.y, self.settings.samples
        draws = (sample.loss.drawn_column(ops, h, y, sample.rng) for _ in range(count))
        return mean_products(sample, draws, count, bases)

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return super().flops(net, loss, rows, width) + cost.scales(
            net.sizes, rows, self.settings.samples, rotated=True, width=width
        )


CURVATURE = EKFAC
