"""Exact Gauss-Newton: (GN + λ I) Δ = −∇ solved by conjugate gradients to a tolerance, from zero."""

from __future__ import annotations

from gnopt.engine.arrays import Array
from gnopt.optimizers.base import State
from gnopt.optimizers.conjugate_gradient import OPTIONS, GaussNewtonCG
from gnopt.options import Option


class GaussNewton(GaussNewtonCG):
    """The reference direction; dear, for small problems and comparisons."""

    name = "gauss_newton"
    summary = "exact Gauss-Newton by conjugate gradients to a tolerance"
    options = (
        *OPTIONS,
        Option(
            "tolerance",
            1e-3,
            "float",
            "relative residual at which conjugate gradients stop",
            low=0.0,
            open_low=True,
        ),
        Option("iterations", 250, "int", "most iterations of conjugate gradients", low=1),
    )

    def start(self, state: State) -> Array:
        return self.problem.net.ops.xp.zeros_like(state["solution"])

    def stop(self, i: int, residual: Array, models: list[Array]) -> Array:
        return residual <= self.settings["tolerance"]


OPTIMIZER = GaussNewton
