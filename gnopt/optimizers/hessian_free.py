"""Hessian-free optimisation (Martens 2010): truncated conjugate gradients with a warm start and
backtracking.

Stops when the model's relative progress over the last k = max(10, 0.1 i) iterations is below k ·
progress; starts from the decayed previous solution; steps to the earliest kept iterate after which
the objective gets no better.
"""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.engine.arrays import Array
from gnopt.optimizers.conjugate_gradient import CGSettings, CGState, GaussNewtonCG
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class HessianFreeSettings(CGSettings):
    """When conjugate gradients stop, and where they start."""

    iterations: int = option(100, "most iterations of conjugate gradients", low=1)
    progress: float = option(
        5e-4,
        "relative progress of the model per iteration below which it stops",
        low=0.0,
        open_low=True,
    )
    warm_start: float = option(
        0.95, "share of the previous solution to start from", low=0.0, high=1.0
    )


class HessianFree(GaussNewtonCG):
    """Martens's stopping rule, warm start and choice of iterate."""

    name = "hessian_free"
    summary = "truncated conjugate gradients on the exact Gauss-Newton system (Martens 2010)"
    colour = "#56B4E9"
    other_names = ("hf", "newton_cg", "truncated_newton")
    Settings = HessianFreeSettings
    settings: HessianFreeSettings
    keep = 1.3

    def start(self, state: CGState) -> Array:
        return state.solution * self.settings.warm_start

    def stop(self, i: int, residual: Array, models: list[Array]) -> Array:
        k = max(10, i // 10)
        if i < k:
            return residual == 0.0
        last, before = models[-1], models[-1 - k]  # negative where it has got anywhere
        return (residual == 0.0) | (last < 0.0) & (
            last - before > k * self.settings.progress * last
        )


OPTIMIZER = HessianFree
