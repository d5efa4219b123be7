"""Exact Gauss-Newton: (GN + λ I) Δ = −∇ solved by conjugate gradients to a tolerance, from zero."""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.engine.arrays import Array
from gnopt.optimizers.conjugate_gradient import CGSettings, CGState, GaussNewtonCG
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class GaussNewtonSettings(CGSettings):
    """When conjugate gradients stop."""

    tolerance: float = option(
        1e-3, "relative residual at which conjugate gradients stop", low=0.0, open_low=True
    )


class GaussNewton(GaussNewtonCG):
    """The reference direction; dear, for small problems and comparisons."""

    name = "gauss_newton"
    summary = "exact Gauss-Newton by conjugate gradients to a tolerance"
    colour = "#000000"
    other_names = ("gn", "ggn")
    Settings = GaussNewtonSettings
    settings: GaussNewtonSettings

    def start(self, state: CGState) -> Array:
        return self.problem.net.ops.xp.zeros_like(state.solution)

    def stop(self, i: int, residual: Array, models: list[Array]) -> Array:
        return residual <= self.settings.tolerance


OPTIMIZER = GaussNewton
