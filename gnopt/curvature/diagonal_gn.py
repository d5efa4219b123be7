"""Diagonal Gauss-Newton: the diagonal of every block, estimated from random columns of the output's
root.

    diag(GN_l) = mean[ā_{l-1}² ⊗ Σ_k C_{l,k}²] ≈ mean[ā_{l-1}² ⊗ (C_l s)²],   E[s sᵀ] = I

One sign vector s per data point makes an unbiased estimate (curvature propagation; Martens,
Sutskever & Swersky 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gnopt.curvature import Curvature, CurvatureSample, CurvatureSettings, cost
from gnopt.curvature.blocks import Bases, DiagonalBlock
from gnopt.curvature.ekfac import mean_products
from gnopt.curvature.kflr import sketch_columns
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class DiagonalSettings(CurvatureSettings):
    """How many columns are averaged."""

    columns: int = option(1, "random columns per data point that the estimate averages", low=1)


class DiagonalGaussNewton(Curvature):
    """The baseline without any factors: cost of one backward pass on the statistics' rows."""

    name = "diagonal_gn"
    summary = "diagonal of the Gauss-Newton matrix by curvature propagation (Martens et al. 2012)"
    colour = "#6A3D9A"
    other_names = ("diagonal", "diag_ggn")
    Settings = DiagonalSettings
    settings: DiagonalSettings
    block = DiagonalBlock
    estimates_scales = True

    def scales(self, sample: CurvatureSample, bases: Sequence[Bases]) -> list[Array]:
        count = self.settings.columns
        return mean_products(sample, sketch_columns(sample, count), count, bases)

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.scales(net.sizes, rows, self.settings.columns, rotated=False)


CURVATURE = DiagonalGaussNewton
