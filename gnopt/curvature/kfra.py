"""KFRA: the mean of the pre-activation Gauss-Newton matrices, passed back recursively (Botev et al.
2017, 4.2).

    G_L = mean(𝒢_L)
    G_l = (weight_{l+1}ᵀ G_{l+1} weight_{l+1}) ⊙ (1/N) Σ_n f'(h_{l,n}) f'(h_{l,n})ᵀ

Cost per layer: N d_l² for the second moment of f' (syrk) and 2 d_{l+1} d_l (d_{l+1} + d_l) for the
congruence, or d_{l+1} d_l² where G_{l+1} is diagonal. Independent of the number of outputs: the
method for wide output layers.
"""

from __future__ import annotations

from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.curvature.kron import Factor, diagonal_blocks, pieces, stack
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, slope


def _congruence(ops: Any, G: Factor, weight: Array) -> Array:
    """weightᵀ G weight for a diagonal, full or block-diagonal G."""
    if G.ndim == 1:
        return ops.gram(ops.xp.sqrt(G)[:, None] * weight, 1.0)
    total = None
    for r, block in diagonal_blocks(G, len(weight)):
        part = weight[r].T @ (block @ weight[r])
        total = part if total is None else total + part
    return total


class KFRA(Curvature):
    """Recursive approximation: the average commutes with the recursion."""

    name = "kfra"
    summary = "Kronecker-factored recursive approximation (Botev et al. 2017)"
    exact_output = True

    def means(self, sample: Sample) -> list[Factor]:
        """(1/N) Σ_n f'(h_{l,n}) f'(h_{l,n})ᵀ of the hidden layers, and mean(𝒢_L)."""
        net, ops = sample.net, sample.net.ops
        width = sample.settings.get("factor_width", 0)
        found: list[Factor] = []
        for l in range(1, net.layers):
            f1 = slope(net, sample.tape, l, sample.workspace)
            blocks = [
                ops.gram(f1[:, r], 1.0 / sample.tape.rows) for r in pieces(net.sizes[l], width)
            ]
            found.append(blocks[0] if len(blocks) == 1 else stack(ops, blocks))
        G: Factor = sample.loss.gn_mean(ops, sample.tape.output, sample.y)
        if G.ndim == 2 and 0 < width < len(G):
            G = stack(ops, [G[r, r] for r in pieces(len(G), width)])
        return [*found, G]

    def finish(self, means: list[Factor], sample: Sample) -> list[Factor]:
        """The recursion, down from the mean of 𝒢_L: the average of a batch is passed on, not that
        of its parts.
        """
        for l in range(sample.net.layers - 1, 0, -1):
            weight = sample.W[l][:, :-1]
            for r, block in diagonal_blocks(means[l - 1], sample.net.sizes[l]):
                block *= _congruence(sample.net.ops, means[l], weight[:, r])
        return means

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        total = 0.0
        for l in range(net.layers - 1, 0, -1):
            below, above = net.sizes[l], net.sizes[l + 1]
            diagonal = loss.diagonal and l == net.layers - 1
            total += rows * below**2 + (
                above * below**2 if diagonal else 2 * above * below * (above + below)
            )
        return total


CURVATURE = KFRA()
