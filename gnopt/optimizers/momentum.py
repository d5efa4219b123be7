"""Heavy-ball momentum (Polyak 1964): m ← μ m − ε g, δ = m."""

from dataclasses import dataclass

from gnopt.engine.arrays import Array
from gnopt.optimizers.first_order import FirstOrder, FirstOrderSettings
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class MomentumSettings(FirstOrderSettings):
    """The share of the previous update that goes on."""

    momentum: float = option(
        0.9, "μ, the share of the previous update that goes on", low=0.0, high=1.0, open_high=True
    )


class Momentum(FirstOrder):
    """m ← μ m − ε g, δ = m."""

    name = "momentum"
    summary = "gradient descent with heavy-ball momentum (Polyak 1964)"
    colour = "#8C8C00"
    other_names = ("sgd_momentum", "heavy_ball")
    Settings = MomentumSettings
    settings: MomentumSettings
    moments = 1

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        (m,) = moments
        m *= self.settings.momentum
        g *= rate
        m -= g
        return m


OPTIMIZER = Momentum
