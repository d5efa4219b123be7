"""Empirical Fisher: G_l = mean(δ_l δ_lᵀ) of the gradients at the data's own targets."""

from __future__ import annotations

from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.curvature.kfac import column_flops, moments_of_columns
from gnopt.curvature.kron import Factor
from gnopt.engine.network import Network


class EmpiricalFisher(Curvature):
    """Cheapest of the family; not an approximation of the Gauss-Newton matrix away from a good
    fit.
    """

    name = "empirical_fisher"
    summary = "Kronecker-factored second moment of the training gradients"

    def means(self, sample: Sample) -> list[Factor]:
        return moments_of_columns(
            sample, sample.loss.gradient(sample.net.ops, sample.tape.output, sample.y)
        )

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        return column_flops(net, rows)


CURVATURE = EmpiricalFisher()
