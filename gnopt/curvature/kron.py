"""The pair (A, G) of a Kronecker-factored block: statistics, averaging, damping, inverses, solves.

A factor of dimension d takes one of four forms, so that cost and memory stay bounded in wide
layers:

==============  ==================  ===============================================================
form            stored as           used where
==============  ==================  ===============================================================
full            array (d, d)        by default
diagonal        array (d,)          a method or loss knows it to be diagonal
block-diagonal  array (m, b, b)     d is above ``factor_width``; the last block is padded with zeros
low rank        {"rows": (n, d)}    rowsᵀ rows, n < d / 2, nothing to average: solved by Woodbury
==============  ==================  ===============================================================

Factors are never changed by damping: what a solve needs is prepared apart from them, because a
factor damped in place is damped again by the next solve.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.network import Network, Tape

Factor = Any  # one of the four forms above


def pieces(d: int, width: int) -> list[slice]:
    """Nearly equal index ranges of at most ``width`` (0 = no limit) that cover 0..d."""
    count = 1 if width <= 0 else -(-d // width)
    step = -(-d // count)
    return [slice(start, min(start + step, d)) for start in range(0, d, step)]


def second_moment(ops: Backend, X: Array, scale: float, settings: dict[str, Any]) -> Factor:
    """scale · Xᵀ X for X (N, d) in the form that the settings ask for: N d² flops, N d b in blocks
    of width b.
    """
    n, d = X.shape
    if settings.get("curvature_decay", 1.0) == 0.0 and 2 * n < d:
        return {"rows": X * scale**0.5}
    ranges = pieces(d, settings.get("factor_width", 0))
    if len(ranges) == 1:
        return ops.gram(X, scale)
    return stack(ops, [ops.gram(X[:, r], scale) for r in ranges])


def stack(ops: Backend, blocks: list[Array]) -> Array:
    """Diagonal blocks, all but the last of the same size, as one (m, b, b) array."""
    b = len(blocks[0])
    stacked = ops.xp.zeros((len(blocks), b, b), dtype=blocks[0].dtype)
    for slot, block in zip(stacked, blocks, strict=True):
        slot[: len(block), : len(block)] = block
    return stacked


def diagonal_blocks(M: Factor, d: int) -> Iterator[tuple[slice, Array]]:
    """(index range, block) of a full or block-diagonal factor of dimension d."""
    if M.ndim == 2:
        yield slice(0, d), M
        return
    b = M.shape[1]
    for i, block in enumerate(M):
        size = min(b, d - i * b)
        yield slice(i * b, i * b + size), block[:size, :size]


def input_factor(
    net: Network, tape: Tape, layer: int, settings: dict[str, Any] | None = None
) -> Factor:
    """A_{l-1} = (1/N) ā_{l-1}ᵀ ā_{l-1} of layer l = 1..L, of dimension d_{l-1} + 1."""
    return second_moment(net.ops, tape.abar[layer - 1], 1.0 / tape.rows, settings or {})


def input_factors(net: Network, tape: Tape) -> list[Array]:
    """A_0..A_{L-1} over the tape's rows, in full."""
    return [input_factor(net, tape, l) for l in range(1, net.layers + 1)]


def mix(
    ops: Backend, old: Factor | None, new: Factor, weight_old: float, weight_new: float
) -> Factor:
    """Return weight_old · old + weight_new · new, written into ``new``: who holds ``old`` can go
    back to it.
    """
    if weight_new != 1.0:
        new *= weight_new
    if old is None:
        return new
    flat = new.reshape(-1)
    ops.axpy(weight_old, old.reshape(-1), flat)
    return flat.reshape(new.shape)


def join(
    ops: Backend, old: Factor | None, new: Factor, weight_old: float, weight_new: float
) -> Factor:
    """``mix`` for any form: rows of low-rank factors are put together, or replaced where the old
    weigh nothing.
    """
    if not isinstance(new, dict):
        return mix(ops, None if isinstance(old, dict) else old, new, weight_old, weight_new)
    rows = new["rows"] * weight_new**0.5
    if isinstance(old, dict) and weight_old > 0.0:
        rows = ops.xp.concatenate([old["rows"] * weight_old**0.5, rows])
    return {"rows": rows}


def trace(ops: Backend, M: Factor) -> Array:
    """tr M (0-d, on the device)."""
    if isinstance(M, dict):
        return ops.xp.vdot(M["rows"], M["rows"])
    if M.ndim == 1:
        return M.sum()
    return ops.xp.trace(M) if M.ndim == 2 else ops.xp.einsum("mii->", M)


def dimension(M: Factor) -> int:
    """Size of a factor (of a block-diagonal one with its padding)."""
    if isinstance(M, dict):
        return M["rows"].shape[1]
    return M.shape[0] * M.shape[1] if M.ndim == 3 else M.shape[0]


def mean_diagonal(ops: Backend, M: Factor) -> Array:
    """tr M / dim M (0-d, on the device), floored at a tiny positive value so that a dead layer
    keeps finite damping.
    """
    return ops.xp.maximum(trace(ops, M) * (1.0 / dimension(M)), 1e-30)


def pi(ops: Backend, A: Factor, G: Factor) -> Array:
    """π = √[(tr A / dim A) / (tr G / dim G)] (Martens & Grosse 2015, 6.3), 0-d on the device."""
    return (mean_diagonal(ops, A) / mean_diagonal(ops, G)) ** 0.5


def damped_inverse(ops: Backend, M: Factor, damping: Any, what: str) -> Factor:
    """(M + damping · I)⁻¹ as new arrays: d³ flops in full, d b² in blocks, n² d for n rows, d for a
    diagonal.

    For rows X, by Woodbury: (Xᵀ X + c I)⁻¹ = (I − Xᵀ (c I + X Xᵀ)⁻¹ X) / c.
    """
    if isinstance(M, dict):
        X = M["rows"]
        small = ops.gram(X.T, 1.0)
        small.reshape(-1)[:: len(small) + 1] += damping
        return {
            "rows": X,
            "inverse": ops.spd_inverse(small, what),
            "damping": ops.xp.asarray(damping, dtype=X.dtype),
        }
    if M.ndim == 1:
        return 1.0 / (M + damping)
    if M.ndim == 3:
        return ops.xp.stack(
            [
                damped_inverse(ops, block, damping, f"{what}, block {i + 1}")
                for i, block in enumerate(M)
            ]
        )
    damped = M.copy()
    damped.reshape(-1)[:: M.shape[0] + 1] += damping
    return ops.spd_inverse(damped, what)


def damped_cholesky(ops: Backend, M: Factor, damping: Any, what: str) -> Factor:
    """The Cholesky factor of M + damping · I for a full M, else ``damped_inverse``: d³/3 flops.

    A third of the work of an inverse, and solves that are a little slower: the better form for a
    single solve.
    """
    if isinstance(M, dict) or M.ndim != 2:
        return damped_inverse(ops, M, damping, what)
    damped = M.copy()
    damped.reshape(-1)[:: M.shape[0] + 1] += damping
    return {"cholesky": ops.cholesky(damped, what)}


def sketched_inverse(
    ops: Backend, M: Array, basis: Array, damping: Any, what: str
) -> tuple[Factor, Array]:
    """(M̂ + damping · I)⁻¹ for a full M (d, d), and the basis (d, r) to pass next time.

    M̂ = F Fᵀ + s I is the Nyström approximation of rank r, with s = (tr M − ‖F‖²) / d: what the
    sketch misses counts at its mean, and the trace stays that of M. ``basis`` Ω has orthonormal
    columns,

        Y = (M + ν I) Ω,   F = Y L⁻ᵀ,   L Lᵀ = Ωᵀ Y,   next Ω = orth(Y),

    so that calls with a slowly changing M are subspace iterations on its largest eigenvalues. For
    damping above the mean eigenvalue, where the ones left out hardly count. 2 d² r + 8 d r² flops
    (``sketch_flops``) instead of d³, and 4 d r a column in solves instead of 2 d². Source:
    Frangella, Tropp and Udell (2023), Randomized Nyström Preconditioning.
    """
    d, r = basis.shape
    total = ops.xp.maximum(trace(ops, M), 1e-30)
    nu = total * float(8.0 * ops.xp.finfo(M.dtype).eps)
    Y = ops.xp.matmul(M, basis)
    Y += nu * basis
    rows = ops.solve_triangular(ops.cholesky(ops.xp.matmul(basis.T, Y), what), Y.T)
    rest = ops.xp.maximum(total - ops.xp.vdot(rows, rows), 0.0) * (1.0 / d)
    return damped_inverse(ops, {"rows": rows}, damping + rest, what), ops.orthonormal(Y)


def sketch_flops(d: int, rank: int) -> float:
    """Flops of ``sketched_inverse`` for a d × d factor: two products with the basis, and what is of
    its rank.
    """
    return 2.0 * d * d * rank + 8.0 * d * rank * rank


def apply_inverses(
    ops: Backend, G_inverse: Factor, gradient: Array, A_inverse: Factor, out: Array, scratch: Any
) -> None:
    """Write G⁻¹ g A⁻¹ into ``out``: 2 o i (o + i) flops for g (o, i) with full inverses, less with
    the other forms.
    """
    half = scratch(gradient.shape)
    left(ops, G_inverse, gradient, half)
    right(ops, half, A_inverse, out)


def left(ops: Backend, G: Factor, B: Array, out: Array) -> Array:
    """Write G B into ``out`` for a symmetric G, or a prepared inverse, of any form."""
    xp = ops.xp
    if isinstance(G, dict) and "cholesky" in G:
        xp.copyto(out, B)
        ops.cholesky_solve(G["cholesky"], out, right=False)
        return out
    if isinstance(G, dict):
        X = G["rows"]
        xp.matmul(X.T, G["inverse"] @ (X @ B), out=out)
        return ops.elementwise(_rest, B, out, G["damping"], out=out)
    if G.ndim == 1:
        return xp.multiply(G[:, None], B, out=out)
    if G.ndim == 2:
        return xp.matmul(G, B, out=out)
    for r, block in diagonal_blocks(G, len(B)):
        xp.matmul(block, B[r], out=out[r])
    return out


def right(ops: Backend, B: Array, A: Factor, out: Array) -> Array:
    """Write B A into ``out`` for a symmetric A, or a prepared inverse, of any form."""
    xp = ops.xp
    if isinstance(A, dict) and "cholesky" in A:
        xp.copyto(out, B)
        ops.cholesky_solve(A["cholesky"], out, right=True)
        return out
    if isinstance(A, dict):
        X = A["rows"]
        xp.matmul((B @ X.T) @ A["inverse"], X, out=out)
        return ops.elementwise(_rest, B, out, A["damping"], out=out)
    if A.ndim == 1:
        return xp.multiply(B, A[None, :], out=out)
    if A.ndim == 2:
        return xp.matmul(B, A, out=out)
    for r, block in diagonal_blocks(A, B.shape[1]):
        out[:, r] = B[:, r] @ block
    return out


def _rest(ops: Backend, B: Array, low: Array, damping: Array, out: Array) -> Array:
    """(B − low) / damping."""
    ops.xp.subtract(B, low, out=out)
    out *= 1.0 / damping
    return out


def eigenbasis(ops: Backend, M: Factor, what: str) -> tuple[Array, Array | None]:
    """Eigenvalues (floored at zero) and eigenvectors of a factor; vectors None for a diagonal one.

    Of a block-diagonal factor values are (m b,) and vectors (m, b, b); a low-rank one is expanded.
    """
    if isinstance(M, dict):
        M = ops.gram(M["rows"], 1.0)
    if M.ndim == 1:
        return ops.xp.maximum(M, 0.0), None
    if M.ndim == 3:
        parts = [ops.eigh(block, f"{what}, block {i + 1}") for i, block in enumerate(M)]
        return (
            ops.xp.maximum(ops.xp.concatenate([values for values, _ in parts]), 0.0),
            ops.xp.stack([vectors for _, vectors in parts]),
        )
    values, vectors = ops.eigh(M, what)
    return ops.xp.maximum(values, 0.0), vectors


def rotate(
    ops: Backend, Q_G: Array | None, M: Array, Q_A: Array | None, back: bool = False
) -> Array:
    """Q_Gᵀ M Q_A, or Q_G M Q_Aᵀ with ``back``; None stands for the identity."""
    if Q_G is not None:
        M = to_basis(ops, M.T, Q_G, back).T
    if Q_A is not None:
        M = to_basis(ops, M, Q_A, back)
    return M


def to_basis(ops: Backend, B: Array, Q: Array, back: bool = False) -> Array:
    """B Q, or B Qᵀ with ``back``, for a full or block-diagonal basis; padding is added on the way
    there; the caller drops it on the way back.
    """
    if Q.ndim == 2:
        return B @ (Q.T if back else Q)
    count, b, _ = Q.shape
    padded = B
    if B.shape[1] != count * b:
        padded = ops.xp.zeros((len(B), count * b), dtype=B.dtype)
        padded[:, : B.shape[1]] = B
    parts = padded.reshape(len(B), count, b).transpose(1, 0, 2)
    turned = ops.xp.matmul(parts, Q.transpose(0, 2, 1) if back else Q)
    return turned.transpose(1, 0, 2).reshape(len(B), count * b)


def dense(ops: Backend, M: Factor, d: int | None = None) -> Array:
    """A factor of dimension d as a full matrix."""
    if isinstance(M, dict):
        return ops.gram(M["rows"], 1.0)
    if M.ndim == 1:
        return ops.xp.diag(M)
    if M.ndim == 2:
        return M
    size = dimension(M) if d is None else d
    full = ops.xp.zeros((size, size), dtype=M.dtype)
    for r, block in diagonal_blocks(M, size):
        full[r, r] = block
    return full
