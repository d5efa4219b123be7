"""Empirical Fisher: G_l = mean(δ_l δ_lᵀ) of the gradients at the data's own targets."""

from __future__ import annotations

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import Factor
from gnopt.curvature.kfac import moments_of_columns
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network


class EmpiricalFisher(Curvature):
    """Cheapest of the family; no approximation of the Gauss-Newton matrix away from a good fit."""

    name = "empirical_fisher"
    summary = "Kronecker-factored second moment of the training gradients"
    colour = "#B2182B"
    other_names = ("ef", "fisher")
    from_targets = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        return moments_of_columns(
            sample, sample.loss.own_column(sample.net.ops, sample.tape.output, sample.y)
        )

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.column_factors(net.sizes, rows, 1, width=width)


CURVATURE = EmpiricalFisher
