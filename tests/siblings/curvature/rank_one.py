"""Every G_l from a single random combination of the data points' gradients: of rank one."""

from __future__ import annotations

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import Factor, Forms, second_moment
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, backpropagate


class RankOne(Curvature):
    """G_l = x xᵀ with x = N^-½ Σ_n s_n δ_{l,n} and random signs s: on average mean(δ_l δ_lᵀ)."""

    name = "rank_one"
    summary = "empirical Fisher from one random combination of gradients"
    from_targets = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        net, ops, rows = sample.net, sample.net.ops, sample.tape.rows
        signs = ops.rademacher(sample.rng, (1, rows), net.dtype)
        delta = sample.loss.gradient(ops, sample.tape.output, sample.y)
        factors: list[Factor] = []
        for _, delta_l in backpropagate(net, sample.W, sample.tape, delta, sample.workspace):
            factors.append(second_moment(ops, signs @ delta_l, 1.0 / rows, Forms(low_rank=True)))
        return factors[::-1]

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.through(net.sizes, rows) + 2.0 * rows * sum(net.sizes[1:])


CURVATURE = RankOne
