"""Lion (Chen et al. 2023): δ = −ε sign(β₁ m + (1 − β₁) g)."""

from dataclasses import dataclass

from gnopt.engine.arrays import Array
from gnopt.optimizers.first_order import FirstOrder, FirstOrderSettings, rate
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class LionSettings(FirstOrderSettings):
    """Shares of the momentum."""

    learning_rate: float = rate(0.0003)
    beta1: float = option(0.9, "share of the momentum in a step", low=0.0, high=1.0)
    beta2: float = option(0.99, "decay of the momentum", low=0.0, high=1.0)


class Lion(FirstOrder):
    """Steps of equal size in every coordinate; afterwards m ← β₂ m + (1 − β₂) g."""

    name = "lion"
    summary = "sign of a momentum (Chen et al. 2023)"
    Settings = LionSettings
    settings: LionSettings
    moments = 1

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        (m,), xp = moments, self.problem.net.ops.xp
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        delta = xp.sign(beta1 * m + (1.0 - beta1) * g)
        delta *= -rate
        m *= beta2
        g *= 1.0 - beta2
        m += g
        return delta


OPTIMIZER = Lion
