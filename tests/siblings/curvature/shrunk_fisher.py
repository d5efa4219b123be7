"""The empirical Fisher with every G_l drawn half way to a multiple of I (Ledoit & Wolf 2004)."""

from __future__ import annotations

from dataclasses import replace

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import Blocks, Factor, Full
from gnopt.curvature.kfac import moments_of_columns
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network


class ShrunkFisher(Curvature):
    """G_l = ½ mean(δ_l δ_lᵀ) + ½ (tr / d_l) I: full matrices, or blocks of them."""

    name = "shrunk_fisher"
    summary = "empirical Fisher, shrunk towards its mean eigenvalue"
    from_targets = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        whole = replace(sample, forms=replace(sample.forms, low_rank=False))
        delta = sample.loss.gradient(sample.net.ops, sample.tape.output, sample.y)
        return moments_of_columns(whole, delta)

    def finish(self, means: list[Factor], sample: CurvatureSample) -> list[Factor]:
        ops = sample.net.ops
        for G in means:
            assert isinstance(G, (Full, Blocks))
            share = 0.5 * G.mean_diagonal(ops)
            for _, block in G.pieces():
                i = ops.xp.arange(len(block))
                block *= 0.5
                block[i, i] += share
        return means

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.column_factors(net.sizes, rows, 1, width=width)


CURVATURE = ShrunkFisher
