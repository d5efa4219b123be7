"""KFAC: Monte-Carlo Fisher (Martens & Grosse 2015): G_l = mean(δ̂_l δ̂_lᵀ) for targets drawn from
the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.curvature.kron import Factor, join, second_moment
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, backpropagate
from gnopt.options import Option


def moments_of_columns(sample: Sample, delta: Array, output: bool = True) -> list[Factor]:
    """G_l = (1/N) Σ_n δ_{l,n} δ_{l,n}ᵀ for one backpropagated column δ_L, (N, K); without G_L
    unless ``output``.
    """
    factors = []
    for l, delta_l in backpropagate(sample.net, sample.W, sample.tape, delta, sample.workspace):
        if output or l < sample.net.layers:
            factors.append(
                second_moment(sample.net.ops, delta_l, 1.0 / sample.tape.rows, sample.settings)
            )
    return factors[::-1]


def mean_moments(
    sample: Sample, columns: Iterable[Array], count: int, output: bool = True
) -> list[Factor]:
    """The average of ``moments_of_columns`` over ``count`` columns."""
    factors: list[Factor | None] = [None] * (sample.net.layers if output else sample.net.layers - 1)
    for i, delta in enumerate(columns):
        for l, G in enumerate(moments_of_columns(sample, delta, output)):
            factors[l] = join(sample.net.ops, factors[l], G, 1.0 if i else 0.0, 1.0 / count)
    return factors


def column_flops(net: Network, rows: int) -> float:
    """Flops of one backpropagated column and its second moments."""
    backward = sum(2.0 * rows * i * o for i, o in zip(net.sizes[1:-1], net.sizes[2:], strict=True))
    return backward + sum(rows * float(d) ** 2 for d in net.sizes[1:])


class KFAC(Curvature):
    """Backpropagates sampled gradients; S samples average."""

    name = "kfac"
    summary = "Kronecker-factored Monte-Carlo Fisher (Martens & Grosse 2015)"
    options = (Option("samples", 1, "int", "targets drawn from the model per data point", low=1),)
    needs_likelihood = True

    def means(self, sample: Sample) -> list[Factor]:
        ops, h = sample.net.ops, sample.tape.output
        count = sample.settings.get("samples", 1)
        draws = (sample.loss.sampled_gradient(ops, h, sample.rng) for _ in range(count))
        return mean_moments(sample, draws, count)

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        return settings.get("samples", 1) * column_flops(net, rows)


CURVATURE = KFAC()
