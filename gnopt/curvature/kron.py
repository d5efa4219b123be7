"""The pair (A, G) of a Kronecker-factored block: statistics, averaging, damping, inverses, solves.

A factor is an array: (d, d), or (d,) for a diagonal one. Factors are never changed by damping: what a solve needs
is prepared apart from them (kfac users have lost weeks to factors damped in place).
"""

from __future__ import annotations

from typing import Any

from gnopt.engine.backend import Array, Backend
from gnopt.engine.network import Network, Tape


def input_factor(net: Network, tape: Tape, layer: int) -> Array:
    """A_{l-1} = (1/N) ā_{l-1}ᵀ ā_{l-1} of layer l = 1..L, (d + 1, d + 1): N d² flops by syrk."""
    return net.ops.gram(tape.abar[layer - 1], 1.0 / tape.rows)


def input_factors(net: Network, tape: Tape) -> list[Array]:
    """A_0..A_{L-1} over the tape's rows."""
    return [input_factor(net, tape, l) for l in range(1, net.layers + 1)]  # noqa: E741


def mix(old: Array | None, new: Array, weight_old: float, weight_new: float) -> Array:
    """Return weight_old · old + weight_new · new, written into ``old`` where there is one."""
    if old is None:
        new *= weight_new
        return new
    old *= weight_old
    new *= weight_new
    old += new
    return old


def trace(ops: Backend, M: Array) -> Array:
    """tr M of a full or diagonal factor (0-d, on the device)."""
    return M.sum() if M.ndim == 1 else ops.xp.trace(M)


def mean_diagonal(ops: Backend, M: Array) -> float:
    """tr M / dim M, floored at a tiny positive value so that a dead layer keeps finite damping."""
    (value,) = ops.scalars(trace(ops, M))
    return max(value / M.shape[0], 1e-30)


def pi(ops: Backend, A: Array, G: Array) -> float:
    """π = √[(tr A / dim A) / (tr G / dim G)] (Martens & Grosse 2015, 6.3)."""
    return (mean_diagonal(ops, A) / mean_diagonal(ops, G)) ** 0.5


def damped_inverse(ops: Backend, M: Array, damping: float, what: str) -> Array:
    """(M + damping · I)⁻¹ as a new array: n³ flops, or n for a diagonal factor."""
    if M.ndim == 1:
        return 1.0 / (M + damping)
    damped = M.copy()
    damped.reshape(-1)[:: M.shape[0] + 1] += damping
    return ops.spd_inverse(damped, what)


def apply_inverses(ops: Backend, G_inverse: Array, gradient: Array, A_inverse: Array, out: Array, scratch: Any) -> None:
    """Write G⁻¹ g A⁻¹ into ``out``: 2 o i (o + i) flops for g (o, i), less where G is diagonal."""
    half = scratch(gradient.shape)
    left(ops, G_inverse, gradient, half)
    ops.xp.matmul(half, A_inverse, out=out)


def left(ops: Backend, G: Array, B: Array, out: Array) -> Array:
    """Write G B into ``out`` for a full or diagonal G."""
    if G.ndim == 1:
        return ops.xp.multiply(G[:, None], B, out=out)
    return ops.xp.matmul(G, B, out=out)


def eigenbasis(ops: Backend, M: Array, what: str) -> tuple[Array, Array | None]:
    """Eigenvalues (floored at zero) and eigenvectors of a factor; vectors None for a diagonal one."""
    if M.ndim == 1:
        return ops.xp.maximum(M, 0.0), None
    values, vectors = ops.eigh(M, what)
    return ops.xp.maximum(values, 0.0), vectors


def rotate(ops: Backend, Q_G: Array | None, M: Array, Q_A: Array | None, back: bool = False) -> Array:
    """Q_Gᵀ M Q_A, or Q_G M Q_Aᵀ with ``back``; None stands for the identity."""
    if Q_G is not None:
        M = (Q_G if back else Q_G.T) @ M
    if Q_A is not None:
        M = M @ (Q_A.T if back else Q_A)
    return M


def dense(ops: Backend, M: Array) -> Array:
    """A factor as a full matrix."""
    return ops.xp.diag(M) if M.ndim == 1 else M
