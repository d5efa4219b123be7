"""How much to add to the curvature of a layer before it is inverted, and how that amount adapts.

relative   Â = A + c_A mean(diag A) I, Ĝ = G + c_G mean(diag G) I: nothing to tune, since the scale
           of the loss drops out
fixed      factored Tikhonov damping of a constant λ (Martens & Grosse 2015, 6.3):
           Â = A + π √λ I, Ĝ = G + (√λ / π) I with π² = (tr A / dim A) / (tr G / dim G), λ with
           weight decay
lm         the same with λ adapted by Levenberg and Marquardt's rule on the reduction ratio
           ρ = (obj(θ + δ) − obj(θ)) / (q(δ) − q(0)): ρ > ¾ → ω λ, ρ < ¼ → λ / ω

Damping follows the scale of the objective: too little lets a step leave the region in which the
quadratic model holds, too much turns the step into a short gradient step. Inputs of very different
scales are damped in units of their own variance under the relative rule
(`Factor.in_own_units`).

With exact damping of the Kronecker product the block is A ⊗ G + λ I; for the relative rule
λ = c_A c_G mean(diag A) mean(diag G), the same shift of the smallest eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gnopt.curvature.factors import TINY, Factor
from gnopt.engine.arrays import Array, Backend
from gnopt.options import Settings, option


@dataclass(frozen=True, kw_only=True)
class AdaptiveDampingSettings(Settings):
    """A λ that is constant, or adapted by Levenberg and Marquardt's rule."""

    damping_rule: str = option(
        "lm",
        "lm: λ by Levenberg-Marquardt; fixed: constant",
        choices=("lm", "fixed"),
    )
    damping: float = option(
        1.0, "fixed and lm rules: (initial) λ; it scales with the loss", low=0.0, open_low=True
    )
    damping_min: float = option(1e-4, "lm rule: lowest λ", low=0.0, open_low=True)
    damping_max: float = option(1e6, "lm rule: highest λ", low=0.0, open_low=True)
    damping_period: int = option(5, "lm rule: updates between adaptations", low=1)
    damping_decay: float = option(
        0.95,
        "lm rule: ω = damping_decay^damping_period",
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    )


@dataclass(frozen=True, kw_only=True)
class DampingSettings(AdaptiveDampingSettings):
    """The three rules."""

    damping_rule: str = option(
        "relative",
        "relative: in units of each factor's mean diagonal; fixed: constant λ; "
        "lm: λ by Levenberg-Marquardt on the reduction ratio (for large or full batches)",
        choices=("relative", "fixed", "lm"),
    )
    damping_a: float = option(
        0.08, "relative rule: c_A, damping of input factors", low=0.0, open_low=True
    )
    damping_g: float = option(
        1.5, "relative rule: c_G, damping of output factors", low=0.0, open_low=True
    )


@dataclass(frozen=True)
class Damping:
    """The damping of one update: the rule, the weight decay η, λ, and the boost.

    ``boost`` ≥ 1 multiplies λ after rejected steps.
    """

    settings: DampingSettings
    weight_decay: Any  # η: a number, or an array with one for each layer or of one layer (0-d)
    lam: float
    boost: float = 1.0

    @property
    def relative(self) -> bool:
        """Whether amounts are in units of the curvature itself, so that λ is not read."""
        return self.settings.damping_rule == "relative"

    @property
    def share_of_inputs(self) -> float:
        """The relative rule's c_A under the boost."""
        return float(self.boost**0.5 * self.settings.damping_a)

    def of_layer(self, number: int) -> Damping:
        """Return the damping of layer ``number`` = 1..L, where each has its own weight decay."""
        each = getattr(self.weight_decay, "ndim", 0) == 1
        return replace(self, weight_decay=self.weight_decay[number - 1]) if each else self

    def of_factors(self, ops: Backend, A: Factor, G: Factor) -> tuple[Any, Any]:
        """Return what is added to the diagonals of A and of G (0-d, on the device)."""
        if self.relative:
            share = self.boost**0.5
            return (
                share * self.settings.damping_a * A.mean_diagonal(ops),
                share * self.settings.damping_g * G.mean_diagonal(ops),
            )
        root = (self.boost * self.lam + self.weight_decay) ** 0.5
        ratio = pi(ops, A, G)
        return ratio * root, root / ratio

    def of_product(self, ops: Backend, A: Factor, G: Factor) -> Any:
        """Return λ in A ⊗ G + λ I, where the product is damped exactly."""
        if self.relative:
            scale = A.mean_diagonal(ops) * G.mean_diagonal(ops)
            return self.boost * self.settings.damping_a * self.settings.damping_g * scale
        return self.boost * self.lam + self.weight_decay

    def of_diagonal(self, ops: Backend, diagonal: Array) -> Any:
        """Return what is added to the diagonal (o, i) of a block.

        Under the relative rule that is the product of the factors' shares of the diagonal's mean.
        """
        if self.relative:
            share = self.boost * self.settings.damping_a * self.settings.damping_g
            return share * ops.xp.maximum(diagonal.mean(), TINY)
        return self.boost * self.lam + self.weight_decay


def fixed(lam: float) -> Damping:
    """Return the damping of a constant λ, for comparisons of curvatures under equal terms."""
    return Damping(DampingSettings(damping_rule="fixed"), 0.0, lam)


def pi(ops: Backend, A: Factor, G: Factor) -> Array:
    """π = √[(tr A / dim A) / (tr G / dim G)] (Martens & Grosse 2015, 6.3), 0-d on the device."""
    return (A.mean_diagonal(ops) / G.mean_diagonal(ops)) ** 0.5


def adapt(settings: AdaptiveDampingSettings, lam: float, rho: float) -> float:
    """Return the next λ by Levenberg and Marquardt's rule; a ρ that is NaN counts as a bad step."""
    omega = settings.damping_decay**settings.damping_period
    if rho > 0.75:
        lam *= omega
    elif not rho >= 0.25:
        lam /= omega
    return min(max(lam, settings.damping_min), settings.damping_max)
