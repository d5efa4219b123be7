"""Diagonal Gauss-Newton: the diagonal of every block, estimated from random columns of the output's
root.

    diag(GN_l) = mean[ā_{l-1}² ⊗ Σ_k C_{l,k}²] ≈ mean[ā_{l-1}² ⊗ (C_l s)²],   E[s sᵀ] = I

One sign vector s per data point makes an unbiased estimate (curvature propagation; Martens,
Sutskever & Swersky 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.curvature.ekfac import squared_products
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network
from gnopt.options import Option


class DiagonalGaussNewton(Curvature):
    """The baseline without any factors: cost of one backward pass on the statistics' rows."""

    name = "diagonal_gn"
    summary = "diagonal of the Gauss-Newton matrix by curvature propagation (Martens et al. 2012)"
    options = (
        Option(
            "columns", 1, "int", "random columns per data point that the estimate averages", low=1
        ),
    )
    basis = "identity"

    def scales(
        self, sample: Sample, bases: Sequence[tuple[Array | None, Array | None]]
    ) -> list[Array]:
        ops, h = sample.net.ops, sample.tape.output
        count = sample.settings.get("columns", 1)
        total: list[Array] = []
        for c in range(count):
            signs = ops.rademacher(
                sample.rng,
                (sample.tape.rows, sample.loss.rank(sample.net.sizes[-1])),
                sample.net.dtype,
            )
            parts = squared_products(
                sample, sample.loss.gn_root_product(ops, h, sample.y, signs), bases
            )
            total = [a + b for a, b in zip(total, parts, strict=True)] if c else parts
        return [S * (1.0 / count) for S in total] if count > 1 else total

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        return settings.get("columns", 1) * 4.0 * rows * net.size


CURVATURE = DiagonalGaussNewton()
