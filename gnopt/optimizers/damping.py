"""How much to add to the factors of a layer, and how that amount adapts.

relative   Â = A + c_A mean(diag A) I, Ĝ = G + c_G mean(diag G) I: no tuning, the scale of the loss
           drops out
fixed      factored Tikhonov damping of a constant λ (Martens & Grosse 2015, 6.3):
           Â = A + π √λ I, Ĝ = G + (√λ / π) I with π² = (tr A / dim A) / (tr G / dim G), λ with
           weight decay
lm         the same with λ adapted by Levenberg and Marquardt's rule on the reduction ratio
           ρ = (obj(θ + δ) − obj(θ)) / (q(δ) − q(0)): ρ > ¾ → ω λ, ρ < ¼ → λ / ω

Inputs of very different scales, or with means far beyond their deviations, would lose most of their
number to one amount for all. There the relative rule damps each in units of its own variance
(``own_units``).

With exact damping of the Kronecker product the block is A ⊗ G + λ I; for relative damping λ = c_A
c_G mean(diag A) mean(diag G), the same shift of the smallest eigenvalues.
"""

from __future__ import annotations

from typing import Any

from gnopt.curvature.kron import Factor, mean_diagonal, pi
from gnopt.engine.arrays import Array, Backend
from gnopt.options import Option

OPTIONS = (
    Option(
        "damping_rule",
        "relative",
        "str",
        "relative: in units of each factor's mean diagonal; fixed: constant λ; "
        "lm: λ by Levenberg-Marquardt on the reduction ratio (for large or full batches)",
        choices=("relative", "fixed", "lm"),
    ),
    Option(
        "damping_split",
        "factored",
        "str",
        "factored: damp A and G apart; exact: damp their Kronecker product "
        "through two eigendecompositions",
        choices=("factored", "exact"),
    ),
    Option(
        "damping_a",
        0.08,
        "float",
        "relative rule: c_A, damping of input factors",
        low=0.0,
        open_low=True,
    ),
    Option(
        "damping_g",
        1.5,
        "float",
        "relative rule: c_G, damping of output factors",
        low=0.0,
        open_low=True,
    ),
    Option(
        "damping",
        1.0,
        "float",
        "fixed and lm rules: (initial) λ; it scales with the loss",
        low=0.0,
        open_low=True,
    ),
    Option("damping_min", 1e-4, "float", "lm rule: lowest λ", low=0.0, open_low=True),
    Option("damping_max", 1e6, "float", "lm rule: highest λ", low=0.0, open_low=True),
    Option("damping_period", 5, "int", "lm rule: updates between adaptations", low=1),
    Option(
        "damping_decay",
        0.95,
        "float",
        "lm rule: ω = damping_decay^damping_period",
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    ),
)

SWALLOWED = 10.0  # damping at so many times an input's variance leaves nothing of it
# A variance below this share of the second moment is rounding, or too little to invert in float32.
NOISE = 1e-4


def factor_damping(
    ops: Backend, settings: dict[str, Any], A: Array, G: Array, lam: float, boost: float
) -> tuple[Any, Any]:
    """The amounts added to A and to G (0-d, on the device); ``boost`` ≥ 1 multiplies λ after
    rejected steps.
    """
    if settings["damping_rule"] == "relative":
        share = boost**0.5
        return (
            share * settings["damping_a"] * mean_diagonal(ops, A),
            share * settings["damping_g"] * mean_diagonal(ops, G),
        )
    root = (boost * lam + settings["weight_decay"]) ** 0.5
    ratio = pi(ops, A, G)
    return ratio * root, root / ratio


def own_units(ops: Backend, A: Factor, amount: Any, share: float) -> tuple[Factor, Any]:
    """The inputs' second moment and what is to be added to its diagonal, so that damping leaves
    most inputs alive.

    Where ``amount`` is SWALLOWED times the variance of at least half of the inputs that vary, the
    relative rule is applied as if inputs were standardised: with v the variances and m the mean of
    (x, 1), the last column of A,

        Â = A + share (diag v + m mᵀ) = T⁻¹ (T A Tᵀ + share I) T⁻ᵀ,   T x = (x − mean) / deviation.

    Elsewhere A and ``amount`` come back as they are; the choice is made on the device, without a
    fetch. Factors that are not full, of wide or of few rows, are left alone. Cost: 3 d² flops.
    """
    if isinstance(A, dict) or A.ndim != 2:
        return A, amount
    xp = ops.xp
    diagonal, m = A.reshape(-1)[:: len(A) + 1], A[:, -1]
    v = diagonal - m * m
    varies = v > NOISE * diagonal
    swallowed = varies & (SWALLOWED * v < amount)
    counts = swallowed.sum(dtype=A.dtype), varies.sum(dtype=A.dtype)
    wild = (2.0 * counts[0] >= xp.maximum(counts[1], 1.0)).astype(A.dtype)
    c = share * wild
    # An input that is always zero gets a unit of its own, one that is constant a little: A is
    # singular without.
    v = xp.where(diagonal > 0.0, xp.maximum(v, NOISE * diagonal), 1.0)
    v[-1] = 0.0  # the unit of the bias is in m mᵀ
    raised = A + xp.outer(c * m, m)
    raised.reshape(-1)[:: len(A) + 1] += c * v
    return raised, amount * (1.0 - wild)


def product_damping(
    ops: Backend, settings: dict[str, Any], A: Array, G: Array, lam: float, boost: float
) -> Any:
    """λ in A ⊗ G + λ I where the product is damped exactly."""
    if settings["damping_rule"] == "relative":
        scale = mean_diagonal(ops, A) * mean_diagonal(ops, G)
        return boost * settings["damping_a"] * settings["damping_g"] * scale
    return boost * lam + settings["weight_decay"]


def diagonal_damping(
    ops: Backend, settings: dict[str, Any], diagonal: Array, lam: float, boost: float
) -> Any:
    """What is added to a diagonal of a block, (o, i): relative to its mean as the product of the
    factors' shares.
    """
    if settings["damping_rule"] == "relative":
        return (
            boost
            * settings["damping_a"]
            * settings["damping_g"]
            * ops.xp.maximum(diagonal.mean(), 1e-30)
        )
    return boost * lam + settings["weight_decay"]


def adapt(settings: dict[str, Any], lam: float, rho: float) -> float:
    """Levenberg-Marquardt: the next λ; a ρ that is not a number counts as a bad step."""
    omega = settings["damping_decay"] ** settings["damping_period"]
    if rho > 0.75:
        lam *= omega
    elif not rho >= 0.25:
        lam /= omega
    return min(max(lam, settings["damping_min"]), settings["damping_max"])
