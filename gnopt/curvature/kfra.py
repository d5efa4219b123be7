"""KFRA: the mean of the pre-activation Gauss-Newton matrices, passed back recursively (Botev et al.
2017, 4.2).

    G_L = mean(𝒢_L)
    G_l = (weight_{l+1}ᵀ G_{l+1} weight_{l+1}) ⊙ (1/N) Σ_n f'(h_{l,n}) f'(h_{l,n})ᵀ

Cost per layer: N d_l² for the second moment of f' (syrk) and 2 d_{l+1} d_l (d_{l+1} + d_l) for the
congruence, or d_{l+1} d_l² where G_{l+1} is diagonal. Independent of the number of outputs: the
method for wide output layers.
"""

from __future__ import annotations

from dataclasses import replace

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import (
    Blocks,
    Factor,
    Full,
    from_blocks,
    of_array,
    pieces,
    second_moment,
)
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, slope


class KFRA(Curvature):
    """Recursive approximation: the average commutes with the recursion."""

    name = "kfra"
    summary = "Kronecker-factored recursive approximation (Botev et al. 2017)"
    colour = "#0072B2"
    exact_output = True
    exact_at_one_point = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        """Return (1/N) Σ_n f'(h_{l,n}) f'(h_{l,n})ᵀ of the hidden layers, and mean(𝒢_L)."""
        net, ops, width = sample.net, sample.net.ops, sample.forms.width
        forms = replace(sample.forms, low_rank=False)  # the recursion multiplies element by element
        means: list[Factor] = []
        for l in range(1, net.layers):
            f1 = sample.counted(slope(net, sample.tape, l, sample.workspace))
            means.append(second_moment(ops, f1, 1.0 / sample.tape.rows, forms))
        G = sample.loss.gn_mean(ops, sample.tape.output, sample.y)
        if G.ndim == 2 and 0 < width < len(G):
            return [*means, from_blocks(ops, [G[r, r] for r in pieces(len(G), width)], len(G))]
        return [*means, of_array(G)]

    def finish(self, means: list[Factor], sample: CurvatureSample) -> list[Factor]:
        """Return the recursion down from the mean of 𝒢_L.

        The average of a batch is passed on, not that of its parts.
        """
        ops = sample.net.ops
        for l in range(sample.net.layers - 1, 0, -1):
            weight, slopes = sample.W[l][:, :-1], means[l - 1]
            assert isinstance(slopes, (Full, Blocks))
            for r, block in slopes.pieces():
                block *= means[l].congruence(ops, weight[:, r])
        return means

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.kfra_factors(net.sizes, rows, loss.diagonal, width)


CURVATURE = KFRA
