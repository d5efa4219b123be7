"""KFAC: Monte-Carlo Fisher (Martens & Grosse 2015): G_l = mean(δ̂_l δ̂_lᵀ) for targets drawn from the model."""

from __future__ import annotations

from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.engine.backend import Array
from gnopt.engine.network import Network, backpropagate
from gnopt.options import Option


def moments_of_columns(sample: Sample, delta: Array) -> list[Array]:
    """G_l = (1/N) Σ_n δ_{l,n} δ_{l,n}ᵀ for one backpropagated column δ_L, (N, K)."""
    factors = []
    for _, delta_l in backpropagate(sample.net, sample.W, sample.tape, delta, sample.workspace):
        factors.append(sample.net.ops.gram(delta_l, 1.0 / sample.tape.rows))
    return factors[::-1]


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

    def output_factors(self, sample: Sample) -> list[Array]:
        factors: list[Array] = []
        count = sample.settings.get("samples", 1)
        for s in range(count):
            delta = sample.loss.sampled_gradient(sample.net.ops, sample.tape.output, sample.rng)
            moments = moments_of_columns(sample, delta)
            factors = [a + b for a, b in zip(factors, moments, strict=True)] if s else moments
        return [G * (1.0 / count) for G in factors] if count > 1 else factors

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        return settings.get("samples", 1) * column_flops(net, rows)


CURVATURE = KFAC()
