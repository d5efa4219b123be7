"""The factors A and G of a Kronecker-factored block, and the damped inverses made of them.

A factor is a symmetric positive semi-definite matrix of dimension d, averaged over data points. Its
class says how the matrix is stored, so that cost and memory stay bounded in wide layers:

============  ================  ====================================================================
class         stored as         used where
============  ================  ====================================================================
`Full`        matrix (d, d)     by default
`Diagonal`    diagonal (d,)     a method or a loss knows the matrix to be diagonal
`Blocks`      blocks (m, b, b)  d is above ``factor_width``: diagonal blocks alone are kept
`LowRank`     rows (n, d)       the matrix is rowsᵀ rows with n < d / 2, and nothing is averaged
============  ================  ====================================================================

A factor never changes when it is damped: ``damped_inverse`` returns a new
`SymmetricMap`. A factor that was damped in place would be damped again by the next call.

>>> from gnopt.engine.arrays import get_backend
>>> ops, xp = get_backend("cpu"), get_backend("cpu").xp
>>> A = Full(xp.array([[4.0, 1.0], [1.0, 1.0]]))
>>> xp.round(A.damped_inverse(ops, 1.0, "A").dense(ops) @ (A.matrix + xp.eye(2)), 12)
array([[1., 0.],
       [0., 1.]])
>>> Diagonal(xp.array([1.0, 3.0])).damped_inverse(ops, 1.0, "G").diagonal
array([0.5 , 0.25])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from gnopt.engine.arrays import Array, Backend

TINY = 1e-12  # floor of a mean diagonal: a dead layer keeps finite damping
SWALLOWED = 10.0  # damping at so many times an input's variance leaves nothing of it
# A variance below this share of the second moment is rounding, or too little to invert in float32:
# of the data, and of hidden units, whose outputs are correlated.
NOISE, HIDDEN_NOISE = 1e-4, 1e-3


@dataclass(frozen=True)
class Forms:
    """Which forms a second moment may take: blocks above ``width`` (0 = never), and rows."""

    width: int = 0
    low_rank: bool = False


@dataclass(frozen=True)
class Eigenbasis:
    """Eigenvalues of a factor, floored at zero, and its eigenvectors as columns.

    ``vectors`` is None for a diagonal factor. For diagonal blocks the values are (m b,), padding
    included, and the vectors (m, b, b).
    """

    values: Array
    vectors: Array | None


class SymmetricMap(ABC):
    """A symmetric matrix that is only multiplied with: a factor, or a damped inverse of one."""

    @abstractmethod
    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        """Write M B into ``out`` and return ``out``."""

    @abstractmethod
    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        """Write B M into ``out`` and return ``out``."""


class Factor(SymmetricMap):
    """The contract of the four forms."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d."""

    @abstractmethod
    def trace(self, ops: Backend) -> Array:
        """tr M (0-d, on the device)."""

    @abstractmethod
    def square(self, ops: Backend) -> Array:
        """‖M‖² of Frobenius (0-d, on the device)."""

    @abstractmethod
    def added(self, ops: Backend, old: Factor | None, weight_old: float, weight: float) -> Factor:
        """Return weight_old · old + weight · self, in the memory of self; ``old`` stays as it is.

        Whoever holds ``old`` can go back to it. See `mix` for factors of different forms.
        """

    @abstractmethod
    def damped_inverse(self, ops: Backend, damping: Any, what: str) -> SymmetricMap:
        """Return (M + damping · I)⁻¹; raises Diverged naming ``what`` where that does not exist."""

    def damped_cholesky(self, ops: Backend, damping: Any, what: str) -> SymmetricMap:
        """Return the same inverse in the form that is cheapest to make, for a single solve."""
        return self.damped_inverse(ops, damping, what)

    def diagonal_inverse(self, ops: Backend, damping: Any) -> SymmetricMap:
        """Return (diag M + damping · I)⁻¹, which exists where rounding has spoilt the rest of M."""
        return Diagonal(1.0 / (self.diagonal_of(ops) + damping))

    @abstractmethod
    def diagonal_of(self, ops: Backend) -> Array:
        """Return the diagonal of M, (d,)."""

    @abstractmethod
    def eigenbasis(self, ops: Backend, what: str) -> Eigenbasis:
        """Return the eigendecomposition."""

    @abstractmethod
    def eigenvalues(self, ops: Backend) -> Array:
        """Return the eigenvalues in float64; zeros may be left out."""

    @abstractmethod
    def without_bias(self, ops: Backend) -> Factor:
        """Return the covariance of inputs whose second moment this is, with a 1 as the last input:
        M − m mᵀ without the last row and column, m = mean of the inputs, in float64.
        """

    @abstractmethod
    def congruence(self, ops: Backend, weight: Array) -> Array:
        """Return weightᵀ M weight for a weight (d, k) as a full matrix (k, k)."""

    @abstractmethod
    def dense(self, ops: Backend) -> Array:
        """Return M as a full matrix."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the factor keeps."""

    def mean_diagonal(self, ops: Backend) -> Array:
        """tr M / d (0-d, on the device), floored at a tiny positive value."""
        return ops.xp.maximum(self.trace(ops) * (1.0 / self.dimension), TINY)

    def sketched_inverse(
        self, ops: Backend, basis: Array, damping: Any, what: str
    ) -> tuple[SymmetricMap, Array]:
        """Return an approximate damped inverse and the basis for the next call, see `Full`.

        Forms other than `Full` are as cheap to invert exactly, and leave the basis as it is.
        """
        return self.damped_inverse(ops, damping, what), basis

    def in_own_units(
        self, ops: Backend, amount: Any, share: float, noise: float
    ) -> tuple[Factor, Any]:
        """Return this second moment of inputs and what to add to its diagonal, see `Full`.

        Forms other than `Full` are damped by one amount for all inputs.
        """
        return self, amount


@dataclass(frozen=True)
class Full(Factor):
    """The whole matrix (d, d)."""

    matrix: Array

    @property
    def dimension(self) -> int:
        return len(self.matrix)

    @property
    def nbytes(self) -> int:
        return int(self.matrix.nbytes)

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Yield the one index range and the matrix, see `Blocks`."""
        yield slice(0, len(self.matrix)), self.matrix

    def trace(self, ops: Backend) -> Array:
        return ops.xp.trace(self.matrix)

    def square(self, ops: Backend) -> Array:
        return (self.matrix * self.matrix).sum()

    def added(self, ops: Backend, old: Factor | None, weight_old: float, weight: float) -> Full:
        held = None if old is None else old.dense(ops)
        return Full(weighted_sum(ops, held, self.matrix, weight_old, weight))

    def damped_inverse(self, ops: Backend, damping: Any, what: str) -> Full:
        """Return (M + damping · I)⁻¹ explicitly: d³ flops, worth it where several solves use it."""
        return Full(ops.spd_inverse(_damped(self.matrix, damping), what))

    def damped_cholesky(self, ops: Backend, damping: Any, what: str) -> SymmetricMap:
        """Return the Cholesky factor of M + damping · I: d³/3 flops, a third of an inverse."""
        return CholeskyInverse(ops.cholesky(_damped(self.matrix, damping), what))

    def diagonal_of(self, ops: Backend) -> Array:
        return self.matrix.reshape(-1)[:: len(self.matrix) + 1]

    def sketched_inverse(
        self, ops: Backend, basis: Array, damping: Any, what: str
    ) -> tuple[LowRankInverse, Array]:
        """Return (M̂ + damping · I)⁻¹, and the basis (d, r) to pass at the next call.

        M̂ = F Fᵀ + s I is the Nyström approximation of rank r with s = (tr M − ‖F‖²) / d: what the
        sketch misses counts at its mean, and the trace stays that of M. ``basis`` Ω has orthonormal
        columns,

            Y = (M + ν I) Ω,   F = Y L⁻ᵀ,   L Lᵀ = Ωᵀ Y,   next Ω = orth(Y),

        so that calls with a slowly changing M are subspace iterations on its largest eigenvalues.
        For damping above the mean eigenvalue, where the eigenvalues left out hardly count. Costs
        2 d² r + 8 d r² flops in place of d³, and 4 d r a column in solves in place of 2 d². Source:
        Frangella, Tropp and Udell (2023), Randomized Nyström Preconditioning.
        """
        M = self.matrix
        total = ops.xp.maximum(self.trace(ops), TINY)
        nu = total * float(8.0 * ops.xp.finfo(M.dtype).eps)
        Y = ops.xp.matmul(M, basis)
        Y += nu * basis
        rows = ops.solve_triangular(ops.cholesky(ops.xp.matmul(basis.T, Y), what), Y.T)
        rest = ops.xp.maximum(total - ops.xp.vdot(rows, rows), 0.0) * (1.0 / len(M))
        return LowRank(rows).damped_inverse(ops, damping + rest, what), ops.orthonormal(Y)

    def eigenbasis(self, ops: Backend, what: str) -> Eigenbasis:
        values, vectors = ops.eigh(self.matrix, what)
        return Eigenbasis(ops.xp.maximum(values, 0.0), vectors)

    def eigenvalues(self, ops: Backend) -> Array:
        return ops.eigenvalues(self.matrix)

    def without_bias(self, ops: Backend) -> Full:
        return Full(_centred(ops, self.matrix))

    def congruence(self, ops: Backend, weight: Array) -> Array:
        return weight.T @ (self.matrix @ weight)

    def dense(self, ops: Backend) -> Array:
        return self.matrix

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.matmul(self.matrix, B, out=out)

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.matmul(B, self.matrix, out=out)

    def in_own_units(
        self, ops: Backend, amount: Any, share: float, noise: float
    ) -> tuple[Factor, Any]:
        """Return this second moment and what to add to its diagonal so that most inputs stay alive.

        Inputs of very different scales, or with means far beyond their deviations, would lose most
        of their number to one amount for all. Where ``amount`` is SWALLOWED times the variance of
        at least half of the inputs that vary, the relative rule is applied as if inputs were
        standardised: with v the variances and m the mean of (x, 1), the last column of A,

            Â = A + share (diag v + m mᵀ) = T⁻¹ (T A Tᵀ + share I) T⁻ᵀ
            T x = (x − mean) / deviation

        Elsewhere the factor and ``amount`` come back as they are; the choice is made on the device,
        without a fetch. A variance below ``noise`` times the second moment counts as that
        much. Cost: 3 d² flops.
        """
        A, xp = self.matrix, ops.xp
        diagonal, m = A.reshape(-1)[:: len(A) + 1], A[:, -1]
        v = diagonal - m * m
        varies = v > noise * diagonal
        swallowed = varies & (SWALLOWED * v < amount)
        counts = swallowed.sum(dtype=A.dtype), varies.sum(dtype=A.dtype)
        wild = (2.0 * counts[0] >= xp.maximum(counts[1], 1.0)).astype(A.dtype)
        c = share * wild
        # An input that is always zero gets a unit of its own, one that is constant a little: A is
        # singular without.
        v = xp.where(diagonal > 0.0, xp.maximum(v, noise * diagonal), 1.0)
        v[-1] = 0.0  # the unit of the bias is in m mᵀ
        raised = A + xp.outer(c * m, m)
        raised.reshape(-1)[:: len(A) + 1] += c * v
        return Full(raised), amount * (1.0 - wild)


@dataclass(frozen=True)
class Diagonal(Factor):
    """A diagonal matrix by its diagonal (d,)."""

    diagonal: Array

    @property
    def dimension(self) -> int:
        return len(self.diagonal)

    @property
    def nbytes(self) -> int:
        return int(self.diagonal.nbytes)

    def trace(self, ops: Backend) -> Array:
        return self.diagonal.sum()

    def square(self, ops: Backend) -> Array:
        return (self.diagonal * self.diagonal).sum()

    def added(self, ops: Backend, old: Factor | None, weight_old: float, weight: float) -> Factor:
        if old is not None and not isinstance(old, Diagonal):
            return Full(self.dense(ops)).added(ops, old, weight_old, weight)
        held = None if old is None else old.diagonal
        return Diagonal(weighted_sum(ops, held, self.diagonal, weight_old, weight))

    def diagonal_of(self, ops: Backend) -> Array:
        return self.diagonal

    def damped_inverse(self, ops: Backend, damping: Any, what: str) -> Diagonal:
        return Diagonal(1.0 / (self.diagonal + damping))

    def eigenbasis(self, ops: Backend, what: str) -> Eigenbasis:
        return Eigenbasis(ops.xp.maximum(self.diagonal, 0.0), None)

    def eigenvalues(self, ops: Backend) -> Array:
        return ops.xp.maximum(self.diagonal.astype(np.float64), 0.0)

    def without_bias(self, ops: Backend) -> Diagonal:
        return Diagonal(self.diagonal[:-1])

    def congruence(self, ops: Backend, weight: Array) -> Array:
        return ops.gram(ops.xp.sqrt(self.diagonal)[:, None] * weight, 1.0)

    def dense(self, ops: Backend) -> Array:
        return ops.xp.diag(self.diagonal)

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.multiply(self.diagonal[:, None], B, out=out)

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.multiply(B, self.diagonal[None, :], out=out)


@dataclass(frozen=True)
class Blocks(Factor):
    """Diagonal blocks (m, b, b) of a matrix of dimension ``size``, the last padded with zeros."""

    blocks: Array
    size: int

    @property
    def dimension(self) -> int:
        return self.size

    @property
    def nbytes(self) -> int:
        return int(self.blocks.nbytes)

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Yield the index range of each block and the block as a view, without its padding."""
        b = self.blocks.shape[1]
        for i, block in enumerate(self.blocks):
            width = min(b, self.size - i * b)
            yield slice(i * b, i * b + width), block[:width, :width]

    def trace(self, ops: Backend) -> Array:
        return ops.xp.einsum("mii->", self.blocks)

    def square(self, ops: Backend) -> Array:
        return (self.blocks * self.blocks).sum()

    def mean_diagonal(self, ops: Backend) -> Array:
        """tr M / (m b): the padding counts."""
        padded = self.blocks.shape[0] * self.blocks.shape[1]
        return ops.xp.maximum(self.trace(ops) * (1.0 / padded), TINY)

    def added(self, ops: Backend, old: Factor | None, weight_old: float, weight: float) -> Factor:
        alike = isinstance(old, Blocks) and old.blocks.shape == self.blocks.shape
        if old is not None and not alike:
            return Full(self.dense(ops)).added(ops, old, weight_old, weight)
        held = old.blocks if isinstance(old, Blocks) else None
        return Blocks(weighted_sum(ops, held, self.blocks, weight_old, weight), self.size)

    def diagonal_of(self, ops: Backend) -> Array:
        return ops.xp.einsum("mii->mi", self.blocks).reshape(-1)[: self.size]

    def damped_inverse(self, ops: Backend, damping: Any, what: str) -> Blocks:
        """Return the inverse block by block: d b² flops."""
        inverses = [
            ops.spd_inverse(_damped(block, damping), f"{what}, block {i + 1}")
            for i, block in enumerate(self.blocks)
        ]
        return Blocks(ops.xp.stack(inverses), self.size)

    def eigenbasis(self, ops: Backend, what: str) -> Eigenbasis:
        parts = [ops.eigh(block, f"{what}, block {i + 1}") for i, block in enumerate(self.blocks)]
        values = ops.xp.concatenate([values for values, _ in parts])
        return Eigenbasis(
            ops.xp.maximum(values, 0.0), ops.xp.stack([vectors for _, vectors in parts])
        )

    def eigenvalues(self, ops: Backend) -> Array:
        return ops.xp.concatenate([ops.eigenvalues(block) for _, block in self.pieces()])

    def without_bias(self, ops: Backend) -> Factor:
        """Only the last block knows the means of its inputs; the others are left as they are."""
        *others, last = (block for _, block in self.pieces())
        parts = [block.astype(np.float64) for block in others] + [_centred(ops, last)]
        return from_blocks(ops, [part for part in parts if len(part)], self.size - 1)

    def congruence(self, ops: Backend, weight: Array) -> Array:
        total: Array = None
        for r, block in self.pieces():
            part = weight[r].T @ (block @ weight[r])
            total = part if total is None else total + part
        return total

    def dense(self, ops: Backend) -> Array:
        full = ops.xp.zeros((self.size, self.size), dtype=self.blocks.dtype)
        for r, block in self.pieces():
            full[r, r] = block
        return full

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        for r, block in self.pieces():
            ops.xp.matmul(block, B[r], out=out[r])
        return out

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        for r, block in self.pieces():
            out[:, r] = B[:, r] @ block
        return out


@dataclass(frozen=True)
class LowRank(Factor):
    """rowsᵀ rows for n rows (n, d), n < d / 2."""

    rows: Array

    @property
    def dimension(self) -> int:
        return int(self.rows.shape[1])

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)

    def trace(self, ops: Backend) -> Array:
        return ops.xp.vdot(self.rows, self.rows)

    def square(self, ops: Backend) -> Array:
        small = ops.gram(self.rows.T, 1.0)
        return (small * small).sum()

    def added(self, ops: Backend, old: Factor | None, weight_old: float, weight: float) -> Factor:
        """Return the rows of both under each other, or a `Full` factor where they become many."""
        rows = self.rows * weight**0.5
        if old is None or weight_old <= 0.0:
            return LowRank(rows)
        if not isinstance(old, LowRank):
            return Full(self.dense(ops)).added(ops, old, weight_old, weight)
        both = LowRank(ops.xp.concatenate([old.rows * weight_old**0.5, rows]))
        return both if 2 * len(both.rows) < self.dimension else Full(both.dense(ops))

    def diagonal_of(self, ops: Backend) -> Array:
        return (self.rows * self.rows).sum(axis=0)

    def damped_inverse(self, ops: Backend, damping: Any, what: str) -> LowRankInverse:
        """Return (Xᵀ X + c I)⁻¹ = (I − Xᵀ (c I + X Xᵀ)⁻¹ X) / c by Woodbury: n² d flops."""
        X = self.rows
        small = ops.gram(X.T, 1.0)
        small.reshape(-1)[:: len(small) + 1] += damping
        inverse = ops.spd_inverse(small, what)
        return LowRankInverse(X, inverse, ops.xp.asarray(damping, dtype=X.dtype))

    def eigenbasis(self, ops: Backend, what: str) -> Eigenbasis:
        return Full(self.dense(ops)).eigenbasis(ops, what)

    def eigenvalues(self, ops: Backend) -> Array:
        return ops.eigenvalues(ops.gram(self.rows.T, 1.0))

    def without_bias(self, ops: Backend) -> LowRank:
        rows = self.rows.astype(np.float64)
        ones = rows[:, -1:]
        return LowRank((rows - ones * (ones.T @ rows))[:, :-1])

    def congruence(self, ops: Backend, weight: Array) -> Array:
        return ops.gram(self.rows @ weight, 1.0)

    def dense(self, ops: Backend) -> Array:
        return ops.gram(self.rows, 1.0)

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.matmul(self.rows.T, self.rows @ B, out=out)

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        return ops.xp.matmul(B @ self.rows.T, self.rows, out=out)


# ---- prepared inverses ---------------------------------------------------------------------------


@dataclass(frozen=True)
class CholeskyInverse(SymmetricMap):
    """(L Lᵀ)⁻¹ by triangular solves with the Cholesky factor L (d, d)."""

    cholesky: Array

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        ops.xp.copyto(out, B)
        ops.cholesky_solve(self.cholesky, out, right=False)
        return out

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        ops.xp.copyto(out, B)
        ops.cholesky_solve(self.cholesky, out, right=True)
        return out


@dataclass(frozen=True)
class LowRankInverse(SymmetricMap):
    """(I − Xᵀ inverse X) / damping for rows X (n, d): 4 d n flops a column."""

    rows: Array
    inverse: Array
    damping: Array

    def left(self, ops: Backend, B: Array, out: Array) -> Array:
        X = self.rows
        ops.xp.matmul(X.T, self.inverse @ (X @ B), out=out)
        return ops.elementwise(rest_over_damping, B, out, self.damping, out=out)

    def right(self, ops: Backend, B: Array, out: Array) -> Array:
        X = self.rows
        ops.xp.matmul((B @ X.T) @ self.inverse, X, out=out)
        return ops.elementwise(rest_over_damping, B, out, self.damping, out=out)


def rest_over_damping(ops: Backend, B: Array, low: Array, damping: Array, out: Array) -> Array:
    """Return (B − low) / damping, element by element."""
    ops.xp.subtract(B, low, out=out)
    out *= 1.0 / damping
    return out


# ---- making and mixing ---------------------------------------------------------------------------


def second_moment(ops: Backend, X: Array, scale: float, forms: Forms) -> Factor:
    """Return scale · Xᵀ X for X (N, d) in the form that ``forms`` allows.

    Costs N d² flops, N d b in diagonal blocks of width b, none as rows.
    """
    n, d = X.shape
    if forms.low_rank and 2 * n < d:
        return LowRank(X * scale**0.5)
    ranges = pieces(d, forms.width)
    return from_blocks(ops, [ops.gram(X[:, r], scale) for r in ranges], d)


def pieces(d: int, width: int) -> list[slice]:
    """Return nearly equal index ranges of at most ``width`` (0 = no limit) that cover 0..d."""
    count = 1 if width <= 0 else -(-d // width)
    step = -(-d // count)
    return [slice(start, min(start + step, d)) for start in range(0, d, step)]


def from_blocks(ops: Backend, blocks: list[Array], d: int) -> Full | Blocks:
    """Return the factor with these diagonal blocks, all but the last of the same size."""
    if len(blocks) == 1:
        return Full(blocks[0])
    b = len(blocks[0])
    stacked = ops.xp.zeros((len(blocks), b, b), dtype=blocks[0].dtype)
    for slot, block in zip(stacked, blocks, strict=True):
        slot[: len(block), : len(block)] = block
    return Blocks(stacked, d)


def of_array(M: Array) -> Full | Diagonal:
    """Return the factor of a matrix (d, d), or of the diagonal (d,) of a diagonal one."""
    return Diagonal(M) if M.ndim == 1 else Full(M)


def mix(
    ops: Backend, old: Factor | None, new: Factor, weight_old: float, weight_new: float
) -> Factor:
    """Return weight_old · old + weight_new · new, in the memory of ``new``.

    ``old`` may be of another form; it is dropped where it weighs nothing, so that the form of
    ``new`` stands.
    """
    if type(old) is not type(new) and weight_old == 0.0:
        old = None
    return new.added(ops, old, weight_old, weight_new)


def mix_each(
    ops: Backend,
    old: Sequence[Factor],
    new: Sequence[Factor],
    weight_old: float,
    weight_new: float,
) -> list[Factor]:
    """Return `mix` of every layer's factor; an empty ``old`` begins a sum."""
    held: Sequence[Factor | None] = old or [None for _ in new]
    return [mix(ops, a, b, weight_old, weight_new) for a, b in zip(held, new, strict=True)]


def weighted_sum(
    ops: Backend, old: Array | None, new: Array, weight_old: float, weight_new: float
) -> Array:
    """Return weight_old · old + weight_new · new, written into ``new`` where it is contiguous."""
    if weight_new != 1.0:
        new *= weight_new
    if old is None:
        return new
    flat = new.reshape(-1)
    ops.axpy(weight_old, old.reshape(-1), flat)
    return flat.reshape(new.shape)


def usable(ops: Backend, M: Factor) -> Factor:
    """Return M, or a factor of zeros in its place where M holds numbers that are not finite.

    An average that holds one such number would hold it for ever.
    """
    diagonal = M.diagonal_of(ops)
    (total,) = ops.scalars(diagonal.sum())
    return M if isfinite(total) else Diagonal(ops.xp.zeros_like(diagonal))


def _centred(ops: Backend, M: Array) -> Array:
    """Return M − m mᵀ without the last row and column, m being the last column, in float64."""
    A = M.astype(np.float64)
    m = A[:-1, -1]
    return A[:-1, :-1] - ops.xp.outer(m, m)


def _damped(M: Array, damping: Any) -> Array:
    damped = M.copy()
    damped.reshape(-1)[:: M.shape[0] + 1] += damping
    return damped


# ---- eigenbases ----------------------------------------------------------------------------------


def rotate(
    ops: Backend, Q_G: Array | None, M: Array, Q_A: Array | None, back: bool = False
) -> Array:
    """Return Q_Gᵀ M Q_A, or Q_G M Q_Aᵀ with ``back``; None stands for the identity."""
    if Q_G is not None:
        M = to_basis(ops, M.T, Q_G, back).T
    if Q_A is not None:
        M = to_basis(ops, M, Q_A, back)
    return M


def to_basis(ops: Backend, B: Array, Q: Array, back: bool = False) -> Array:
    """Return B Q, or B Qᵀ with ``back``, for a basis (d, d) or one of diagonal blocks (m, b, b).

    Padding is added on the way there; the caller drops it on the way back.
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
