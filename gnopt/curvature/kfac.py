"""KFAC: Monte-Carlo Fisher (Martens & Grosse 2015).

G_l = mean(δ̂_l δ̂_lᵀ) for targets drawn from the model
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gnopt.curvature import Curvature, CurvatureSample, CurvatureSettings, cost
from gnopt.curvature.factors import Factor, mix_each, second_moment
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, backpropagate
from gnopt.options import option


def moments_of_columns(sample: CurvatureSample, delta: Array, output: bool = True) -> list[Factor]:
    """Return G_l = (1/N) Σ_n δ_{l,n} δ_{l,n}ᵀ for one backpropagated column δ_L, (N, K).

    G_L is left out unless ``output``.
    """
    factors: list[Factor] = []
    for l, delta_l in backpropagate(sample.net, sample.W, sample.tape, delta, sample.workspace):
        if output or l < sample.net.layers:
            factors.append(
                second_moment(sample.net.ops, delta_l, 1.0 / sample.tape.rows, sample.forms)
            )
    return factors[::-1]


def mean_moments(
    sample: CurvatureSample, columns: Iterable[Array], count: int, output: bool = True
) -> list[Factor]:
    """Return the average of `moments_of_columns` over ``count`` ≥ 1 columns."""
    factors: list[Factor] = []
    for delta in columns:
        parts = moments_of_columns(sample, delta, output)
        factors = mix_each(sample.net.ops, factors, parts, 1.0, 1.0 / count)
    return factors


@dataclass(frozen=True, kw_only=True)
class KFACSettings(CurvatureSettings):
    """How many targets are drawn."""

    samples: int = option(1, "targets drawn from the model per data point", low=1)


class KFAC(Curvature):
    """Backpropagates sampled gradients; S samples average."""

    name = "kfac"
    summary = "Kronecker-factored Monte-Carlo Fisher (Martens & Grosse 2015)"
    colour = "#D55E00"
    other_names = ("kfac_mc", "natural_gradient")
    Settings = KFACSettings
    settings: KFACSettings
    needs_likelihood = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        ops, h, y, count = sample.net.ops, sample.tape.output, sample.y, self.settings.samples
        draws = (sample.loss.drawn_column(ops, h, y, sample.rng) for _ in range(count))
        return mean_moments(sample, draws, count)

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.column_factors(net.sizes, rows, self.settings.samples, width=width)


CURVATURE = KFAC
