"""KFRA: the mean of the pre-activation Gauss-Newton matrices, passed back recursively (Botev et al. 2017, 4.2).

    G_L = mean(𝒢_L),   G_l = (weight_{l+1}ᵀ G_{l+1} weight_{l+1}) ⊙ (1/N) Σ_n f'(h_{l,n}) f'(h_{l,n})ᵀ

Cost per layer: N d_l² for the second moment of f' (syrk) and 2 d_{l+1} d_l (d_{l+1} + d_l) for the congruence, or
d_{l+1} d_l² where G_{l+1} is diagonal. Independent of the number of outputs: the method for wide output layers.
"""

from __future__ import annotations

from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.engine.backend import Array
from gnopt.engine.network import Network, slope


class KFRA(Curvature):
    """Recursive approximation: the average commutes with the recursion."""

    name = "kfra"
    summary = "Kronecker-factored recursive approximation (Botev et al. 2017)"

    def output_factors(self, sample: Sample) -> list[Array]:
        net, ops, xp = sample.net, sample.net.ops, sample.net.ops.xp
        G = sample.loss.gn_mean(ops, sample.tape.output, sample.y)
        factors = [G]
        for l in range(net.layers - 1, 0, -1):  # noqa: E741
            weight = sample.W[l][:, :-1]
            if G.ndim == 1:
                G_below = ops.gram(xp.sqrt(G)[:, None] * weight, 1.0)
            else:
                G_below = weight.T @ (G @ weight)
            f1 = slope(net, sample.tape, l, sample.workspace)
            G_below *= ops.gram(f1, 1.0 / sample.tape.rows)
            G = G_below
            factors.append(G)
        return factors[::-1]

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        total = 0.0
        for l in range(net.layers - 1, 0, -1):  # noqa: E741
            below, above = net.sizes[l], net.sizes[l + 1]
            diagonal = loss.diagonal and l == net.layers - 1
            total += rows * below**2 + (above * below**2 if diagonal else 2 * above * below * (above + below))
        return total


CURVATURE = KFRA()
