"""Nesterov's accelerated gradient in the form of Sutskever et al. (2013): m ← μ m − ε g, δ = μ m −
ε g.

θ is the look-ahead point, where the gradient is taken. ``warmup`` switches the momentum to their
schedule μ_k = min(1 − 2^(−1 − log2(⌊k/250⌋ + 1)), momentum).
"""

from dataclasses import dataclass
from math import log2

from gnopt.engine.arrays import Array
from gnopt.optimizers.first_order import FirstOrder
from gnopt.optimizers.momentum import MomentumSettings
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class NesterovSettings(MomentumSettings):
    """Momentum with a schedule."""

    warmup: bool = option(
        False, "momentum rises to its value by the schedule of Sutskever et al. 2013"
    )


class Nesterov(FirstOrder):
    """m ← μ m − ε g, δ = μ m − ε g."""

    name = "nesterov"
    summary = "Nesterov's accelerated gradient (Sutskever et al. 2013)"
    colour = "#8B5A2B"
    other_names = ("nag", "sgd_nesterov", "accelerated_gradient")
    Settings = NesterovSettings
    settings: NesterovSettings
    moments = 1

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        (m,) = moments
        mu = self.settings.momentum
        if self.settings.warmup:
            mu = min(1.0 - 2.0 ** (-1.0 - log2((step - 1) // 250 + 1)), mu)
        g *= -rate
        m *= mu
        m += g
        g += mu * m
        return g


OPTIMIZER = Nesterov
