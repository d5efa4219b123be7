"""The empirical Fisher with every G_l drawn half way to a multiple of I (Ledoit & Wolf 2004)."""

from __future__ import annotations

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import Factor, Full
from gnopt.curvature.kfac import moments_of_columns
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network


class ShrunkFisher(Curvature):
    """G_l = ½ mean(δ_l δ_lᵀ) + ½ (tr / d_l) I: full matrices."""

    name = "shrunk_fisher"
    summary = "empirical Fisher, shrunk towards its mean eigenvalue"
    from_targets = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        ops = sample.net.ops
        return moments_of_columns(sample, sample.loss.gradient(ops, sample.tape.output, sample.y))

    def finish(self, means: list[Factor], sample: CurvatureSample) -> list[Factor]:
        ops = sample.net.ops
        shrunk: list[Factor] = []
        for M in means:
            G = 0.5 * M.dense(ops)
            G.reshape(-1)[:: len(G) + 1] += 0.5 * M.mean_diagonal(ops)
            shrunk.append(Full(G))
        return shrunk

    def flops(self, net: Network, loss: Loss, rows: float) -> float:
        return cost.column_factors(net.sizes, rows, 1)


CURVATURE = ShrunkFisher
