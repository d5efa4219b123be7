"""Adam (Kingma & Ba 2014), bias-corrected: δ = −ε m̂ / (√v̂ + 10⁻⁸)."""

from dataclasses import dataclass

from gnopt.engine.arrays import Array, Backend
from gnopt.optimizers.first_order import FirstOrder, FirstOrderSettings, rate
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class AdamSettings(FirstOrderSettings):
    """Decays of the two moments."""

    learning_rate: float = rate(0.001)
    beta1: float = option(0.9, "decay of the first moment", low=0.0, high=1.0, open_high=True)
    beta2: float = option(0.999, "decay of the second moment", low=0.0, high=1.0, open_high=True)
    epsilon: float = option(1e-8, "added to the root of the second moment", low=0.0, open_low=True)


class Adam(FirstOrder):
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²."""

    name = "adam"
    summary = "adaptive moments (Kingma & Ba 2014)"
    colour = "#E69F00"
    other_names = ("adam_w", "nadam", "amsgrad")
    Settings = AdamSettings
    settings: AdamSettings
    moments = 2

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        m, v = moments
        # √v̂ + ε = (√v + ε √c₂) / √c₂ with the bias corrections c₁ = 1 − β₁ᵏ, c₂ = 1 − β₂ᵏ folded
        # into the rate.
        root_c2 = (1.0 - beta2**step) ** 0.5
        self.problem.net.ops.in_place(
            _update,
            (g, m, v),
            beta1,
            beta2,
            self.settings.epsilon * root_c2,
            -rate * root_c2 / (1.0 - beta1**step),
            workspace=self.workspace,
        )
        return g


def _update(
    ops: Backend,
    g: Array,
    m: Array,
    v: Array,
    beta1: float,
    beta2: float,
    shift: float,
    rate: float,
    scratch: Array,
) -> None:
    """m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², g ← rate · m / (√v + shift)."""
    xp = ops.xp
    m *= beta1
    m += xp.multiply(g, 1.0 - beta1, out=scratch)
    v *= beta2
    xp.multiply(g, g, out=scratch)
    scratch *= 1.0 - beta2
    v += scratch
    xp.sqrt(v, out=scratch)
    scratch += shift
    xp.divide(m, scratch, out=g)
    g *= rate


OPTIMIZER = Adam
