"""The block of one layer: what it keeps of the statistics, how it is damped, inverted and applied.

A block approximates the layer's (d_l (d_{l-1} + 1))² block of the Gauss-Newton matrix, with
vec = columns of [weight, bias] stacked:

=================  ==================================================  ============================
class              the block                                           damped as
=================  ==================================================  ============================
`KroneckerBlock`   A ⊗ G                                               (A + a I) ⊗ (G + g I)
`EigenBlock`       (Q_A ⊗ Q_G) diag(vec S) (Q_A ⊗ Q_G)ᵀ, the bases of  diag(vec S) + λ I
                   A and G; S re-estimated, or the eigenvalues' product
`DiagonalBlock`    diag(vec S)                                         diag(vec S) + λ I
=================  ==================================================  ============================

A curvature names its block class. A block is a record of arrays and numbers, which a checkpoint
stores field by field; its arrays are replaced and never written to, so that a shallow copy is a
state to go back to. What does not change during a run stands in its `LayerPlan`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from gnopt import rng
from gnopt.curvature import cost
from gnopt.curvature.damping import Damping, DampingSettings, fixed
from gnopt.curvature.factors import (
    HIDDEN_NOISE,
    NOISE,
    Diagonal,
    Eigenbasis,
    Factor,
    Forms,
    SymmetricMap,
    mix,
    rotate,
    second_moment,
    to_basis,
    usable,
    weighted_sum,
)
from gnopt.engine.arrays import Array, Backend
from gnopt.errors import Diverged
from gnopt.options import Settings, option

Bases = tuple[Array | None, Array | None]  # (Q_G, Q_A) of a layer; None is the identity
Scratch = Callable[[tuple[int, ...]], Array]  # shape → a buffer that may be overwritten
# Width of the narrowest layer whose G is sketched: below it the full inverse is as fast.
SKETCH_WIDTH = 256


@dataclass(frozen=True, kw_only=True)
class BlockSettings(Settings):
    """The options that a block class reads: none for a diagonal."""

    @property
    def period(self) -> int:
        """Updates between refreshes of a prepared inverse or basis."""
        return 1

    @property
    def width(self) -> int:
        """The widest factor that is kept whole; 0 = any."""
        return 0

    @property
    def known_after(self) -> int:
        """Statistics after which the first layer's A is taken as known; 0 = never."""
        return 0

    @property
    def damped_as_product(self) -> bool:
        """Whether a product of two factors is damped as a whole, in its eigenbasis."""
        return False

    def sketch_rank(self, d: int, damping: DampingSettings) -> int:
        """Rank of the sketch that stands for a G of dimension d; 0 where G is inverted whole."""
        return 0


@dataclass(frozen=True, kw_only=True)
class FactoredSettings(BlockSettings):
    """Options of blocks that have factors."""

    inverse_period: int = option(
        10,
        "updates between inversions of a factor, staggered over factors (sooner in "
        "the beginning: every update for the first 3, then after k // 4)",
        low=1,
    )
    factor_width: int = option(
        2048,
        "factors of wider layers are split into diagonal blocks of at most this width; 0 = never",
        low=0,
    )
    input_updates: int = option(
        10,
        "statistics after which the first layer's A, the second moment of the data, "
        "is taken as known; 0 = never",
        low=0,
    )

    @property
    def period(self) -> int:
        return self.inverse_period

    @property
    def width(self) -> int:
        return self.factor_width

    @property
    def known_after(self) -> int:
        return self.input_updates


@dataclass(frozen=True, kw_only=True)
class KroneckerSettings(FactoredSettings):
    """Options of blocks whose factors are damped and inverted apart."""

    damping_split: str = option(
        "factored",
        "factored: damp A and G apart; exact: damp their Kronecker product "
        "through two eigendecompositions",
        choices=("factored", "exact"),
    )
    sketch_g: float = option(
        0.125,
        "share of the eigenvalues of a wide layer's G that its inverse keeps apart, the "
        "rest at their mean; used where damping_g >= 1 in the relative rule; 1 = keep all",
        low=0.0,
        high=1.0,
        open_low=True,
    )

    @property
    def damped_as_product(self) -> bool:
        return self.damping_split == "exact"

    def sketch_rank(self, d: int, damping: DampingSettings) -> int:
        if self.damped_as_product:
            return 0
        if damping.damping_rule != "relative" or damping.damping_g < 1.0:
            return 0  # eigenvalues below the mean would count
        rank = max(1, round(self.sketch_g * d))
        fits = SKETCH_WIDTH <= d <= (self.factor_width or d) and 2 * rank < d
        return rank if fits else 0


@dataclass(frozen=True)
class LayerPlan:
    """What stays the same for one layer's block during a run.

    ``slots`` are the residues (mod ``period``) of the updates that refresh A and G, ``rank`` is
    that of the sketch of G (0 = none), ``diagonal_G`` says that G is known to be diagonal.
    """

    ops: Backend
    layer: int  # l = 1..L
    shape: tuple[int, int]  # (o, i) = (d_l, d_{l-1} + 1)
    dtype: np.dtype
    forms: Forms
    period: int = 1
    slots: tuple[int, int] = (0, 0)
    rank: int = 0
    diagonal_G: bool = False
    seed: int = 0

    def name(self, side: str) -> str:
        """The name of a factor in messages."""
        return f"factor {side} of layer {self.layer}"


class Refresh:
    """Which prepared inverses are due at update k of blocks that refresh every ``period`` updates.

    All are due in the first three updates or with ``force``; then each when it is k // 4 updates
    old; and once that reaches the period, each at its slot.
    """

    def __init__(self, k: int, period: int, force: bool = False) -> None:
        self.everything = k <= 3 or force
        self.oldest = max(1, k // 4)
        self.at_slots = self.oldest >= period
        self.place = k % period

    def due(self, plan: LayerPlan, side: int, age: int) -> bool:
        """Whether side 0 (A) or 1 (G), ``age`` updates old, is due."""
        if self.everything:
            return True
        return self.place == plan.slots[side] if self.at_slots else age >= self.oldest


@dataclass
class Block(ABC):
    """The contract of a block; methods take the layer's plan first.

    A preconditioner calls, for each set of statistics, ``observe_input``, ``observe_output`` and
    ``observe_scales``, where the curvature makes them; ``prepare`` once an update; and ``solve``.
    The other methods answer questions about the block as it stands.
    """

    Settings: ClassVar[type[BlockSettings]] = BlockSettings
    factored: ClassVar[bool] = True  # the block is made of factors A and G

    @classmethod
    def chosen(cls, settings: BlockSettings) -> type[Block]:
        """Return the class that these settings ask for: this one, unless it has a variant."""
        return cls

    @classmethod
    @abstractmethod
    def start(cls, plan: LayerPlan) -> Self:
        """Return the block before any statistics."""

    @classmethod
    @abstractmethod
    def of_factors(cls, plan: LayerPlan, A: Factor, G: Factor | None) -> Self:
        """Return the block of these factors, for looking at it; a diagonal has none."""

    def copied(self) -> Self:
        """Return a shallow copy: a state to go back to, made at every update."""
        return type(self)(**vars(self))

    # ---- statistics ----------------------------------------------------------------------------

    def observe_input(  # noqa: B027
        self, plan: LayerPlan, abar: Array, keep: float, weight: float
    ) -> None:
        """A ← keep · A + weight · mean(ā āᵀ) over the rows of ``abar`` (n, i), if there is an A."""

    def observe_output(  # noqa: B027
        self, plan: LayerPlan, G: Factor, keep: float, weight: float
    ) -> None:
        """G ← keep · G + weight · (the factor of this batch), where there is a G."""

    def bases(self) -> Bases | None:
        """Return the bases in which a curvature estimates ``S``; None where there are none yet."""
        return None

    def observe_scales(  # noqa: B027
        self, plan: LayerPlan, S: Array, decay: float, share: float, new: bool
    ) -> None:
        """Mix in the diagonal S (o, i), estimated from a ``share`` of the batch's statistics.

        ``new`` begins a batch; the average began when the basis last changed.
        """

    # ---- inverse ---------------------------------------------------------------------------------

    def prepare(  # noqa: B027
        self, plan: LayerPlan, refresh: Refresh, damping: Damping
    ) -> None:
        """Make the damped inverses or bases that are due, where the block keeps any."""

    @abstractmethod
    def solve(
        self, plan: LayerPlan, damping: Damping, g: Array, out: Array, scratch: Scratch
    ) -> None:
        """Write (block + damping)⁻¹ g into ``out``, both (o, i)."""

    # ---- questions -------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def cost(cls, plan: LayerPlan) -> cost.BlockCost:
        """Flops of a refresh and of a solve, and bytes kept."""

    def diagonal(self) -> Array | None:
        """Return the eigenvalues S (o, i) where the block is diagonal in known bases, else None."""
        return None

    @abstractmethod
    def spectrum(self, ops: Backend) -> tuple[Array, Array]:
        """Return a and g, in float64, whose products a_i g_j are the eigenvalues of the block with
        the bias integrated out.
        """

    def pair(self) -> tuple[Factor, Factor] | None:
        """Return A and G where the block is made of them, else None."""
        return None

    @abstractmethod
    def trace(self, ops: Backend) -> float:
        """tr of the block."""

    @abstractmethod
    def square(self, ops: Backend) -> float:
        """Squared Frobenius norm of the block."""

    @abstractmethod
    def quadratic(self, ops: Backend, abar: Array, columns: Array) -> np.ndarray:
        """mean_n (ā_n ⊗ c_n)ᵀ block (ā_n ⊗ c_n) for c (S, N, o), (S,) float64 on the host."""

    @abstractmethod
    def inner(self, ops: Backend, abar: Array, M: Array) -> float:
        """⟨block, mean_n ā_n ā_nᵀ ⊗ M_n⟩ for M (N, o, o)."""

    @abstractmethod
    def to_dense(self, plan: LayerPlan) -> Array:
        """Return the block as a full matrix (o i)²."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the statistics of the block take."""


@dataclass
class FactoredBlock(Block):
    """What blocks with factors share: their averages, and how old what is prepared of each is."""

    A: Factor | None = None
    G: Factor | None = None
    age_A: int = 0
    age_G: int = 0

    def observe_input(self, plan: LayerPlan, abar: Array, keep: float, weight: float) -> None:
        new = second_moment(plan.ops, abar, 1.0 / len(abar), plan.forms)
        self.A = mix(plan.ops, self.A, new, keep, weight)

    def observe_output(self, plan: LayerPlan, G: Factor, keep: float, weight: float) -> None:
        self.G = mix(plan.ops, self.G, G, keep, weight)

    def pair(self) -> tuple[Factor, Factor]:
        """Return A and G, which statistics must have made."""
        assert self.A is not None
        assert self.G is not None
        return self.A, self.G

    def spectrum(self, ops: Backend) -> tuple[Array, Array]:
        A, G = self.pair()
        return A.without_bias(ops).eigenvalues(ops), G.eigenvalues(ops)

    @property
    def nbytes(self) -> int:
        A, G = self.pair()
        return A.nbytes + G.nbytes


@dataclass
class KroneckerBlock(FactoredBlock):
    """A ⊗ G, damped factor by factor: Δ = Ĝ⁻¹ g Â⁻¹."""

    inverse_A: SymmetricMap | None = None
    inverse_G: SymmetricMap | None = None
    sketch: Array | None = None  # (o, r), the basis of G's sketch

    Settings: ClassVar[type[BlockSettings]] = KroneckerSettings

    @classmethod
    def chosen(cls, settings: BlockSettings) -> type[Block]:
        return EigenBlock if settings.damped_as_product else cls

    @classmethod
    def start(cls, plan: LayerPlan) -> Self:
        """Return the empty block; a sketch of G starts from random orthonormal columns."""
        if not plan.rank:
            return cls()
        draw = rng.generator(plan.seed, "sketch", plan.layer - 1)
        columns = draw.standard_normal((plan.shape[0], plan.rank), dtype=plan.dtype)
        return cls(sketch=plan.ops.orthonormal(plan.ops.asarray(columns)))

    @classmethod
    def of_factors(cls, plan: LayerPlan, A: Factor, G: Factor | None) -> Self:
        return cls(A=A, G=G)

    def prepare(self, plan: LayerPlan, refresh: Refresh, damping: Damping) -> None:
        self.age_A += 1
        if self.inverse_A is None or refresh.due(plan, 0, self.age_A):
            A, G = self.pair()
            self.age_A, (amount, _) = 0, damping.of_factors(plan.ops, A, G)
            raised = A
            if damping.relative:
                noise = NOISE if plan.layer == 1 else HIDDEN_NOISE
                raised, amount = A.in_own_units(plan.ops, amount, damping.share_of_inputs, noise)
            try:
                self.inverse_A = self._invert(plan, raised, amount, "A")
            except Diverged:
                self.inverse_A = raised.diagonal_inverse(plan.ops, amount)
                self.A = usable(plan.ops, A)
        self.age_G += 1
        if self.inverse_G is None or refresh.due(plan, 1, self.age_G):
            A, G = self.pair()
            self.age_G, (_, amount) = 0, damping.of_factors(plan.ops, A, G)
            try:
                if self.sketch is None:
                    self.inverse_G = self._invert(plan, G, amount, "G")
                else:
                    self.inverse_G, self.sketch = G.sketched_inverse(
                        plan.ops, self.sketch, amount, plan.name("G")
                    )
            except Diverged:
                self.inverse_G, self.G = G.diagonal_inverse(plan.ops, amount), usable(plan.ops, G)

    def _invert(self, plan: LayerPlan, M: Factor, amount: Any, side: str) -> SymmetricMap:
        if plan.period == 1:  # a single solve uses it
            return M.damped_cholesky(plan.ops, amount, plan.name(side))
        return M.damped_inverse(plan.ops, amount, plan.name(side))

    def solve(
        self, plan: LayerPlan, damping: Damping, g: Array, out: Array, scratch: Scratch
    ) -> None:
        """Write G⁻¹ g A⁻¹ into ``out``: 2 o i (o + i) flops with whole inverses."""
        assert self.inverse_A is not None
        assert self.inverse_G is not None
        half = self.inverse_G.left(plan.ops, g, scratch(g.shape))
        self.inverse_A.right(plan.ops, half, out)

    @classmethod
    def cost(cls, plan: LayerPlan) -> cost.BlockCost:
        (o, i), width = plan.shape, plan.forms.width
        invert = cost.cholesky if plan.period == 1 else cost.inverse
        refresh, solve = invert(i, width), cost.multiply(i, o, width)
        kept = 2.0 * cost.numbers(i, width)  # a factor and its inverse
        if plan.rank:
            refresh += cost.sketch(o, plan.rank)
            solve += cost.multiply_sketch(o, plan.rank, i)
            kept += cost.numbers(o) + 2.0 * o * plan.rank
        elif not plan.diagonal_G:
            refresh += invert(o, width)
            solve += cost.multiply(o, i, width)
            kept += 2.0 * cost.numbers(o, width)
        return cost.BlockCost(refresh, solve, kept * plan.dtype.itemsize)

    def trace(self, ops: Backend) -> float:
        A, G = self.pair()
        a, g = ops.scalars(A.trace(ops), G.trace(ops))
        return a * g

    def square(self, ops: Backend) -> float:
        A, G = self.pair()
        a, g = ops.scalars(A.square(ops), G.square(ops))
        return a * g

    def quadratic(self, ops: Backend, abar: Array, columns: Array) -> np.ndarray:
        A, G = self.pair()
        xp = ops.xp
        left = xp.einsum("ni,ni->n", A.right(ops, abar, xp.empty_like(abar)), abar)
        flat = columns.reshape(-1, columns.shape[-1])
        through = G.right(ops, flat, xp.empty_like(flat)).reshape(columns.shape)
        right = xp.einsum("snk,snk->sn", through, columns)
        return ops.to_host((right * left).mean(axis=1)).astype(np.float64)

    def inner(self, ops: Backend, abar: Array, M: Array) -> float:
        A, G = self.pair()
        xp = ops.xp
        left = xp.einsum("ni,ni->n", A.right(ops, abar, xp.empty_like(abar)), abar)
        right = M.reshape(len(M), -1) @ G.dense(ops).reshape(-1)
        return ops.scalars((left * right).mean())[0]

    def to_dense(self, plan: LayerPlan) -> Array:
        A, G = self.pair()
        return plan.ops.xp.kron(A.dense(plan.ops), G.dense(plan.ops))


@dataclass
class ScaledBlock(Block):
    """What blocks with a diagonal S share: its average, and what follows from it and the bases."""

    scales: Array | None = None
    scale_terms: int = 0  # statistics in ``scales`` since a basis changed

    def observe_scales(
        self, plan: LayerPlan, S: Array, decay: float, share: float, new: bool
    ) -> None:
        self.scale_terms += new
        beta = min(1.0 - 1.0 / self.scale_terms, decay)
        keep = beta if new else 1.0
        self.scales = weighted_sum(plan.ops, self.scales, S, keep, (1.0 - beta) * share)

    def diagonal(self) -> Array:
        """Return S."""
        return self.scales

    def shift(self, ops: Backend, damping: Damping) -> Any:
        """Return what damping adds to S."""
        return damping.of_diagonal(ops, self.scales)

    def matrices(self, ops: Backend) -> Bases:
        """Return the bases as matrices (d, d), or (d, m b) where they are made of blocks."""
        return None, None

    def trace(self, ops: Backend) -> float:
        return ops.scalars(self.diagonal().sum())[0]

    def square(self, ops: Backend) -> float:
        S = self.diagonal()
        return ops.scalars((S * S).sum())[0]

    def quadratic(self, ops: Backend, abar: Array, columns: Array) -> np.ndarray:
        Q_G, Q_A = self.matrices(ops)
        rotated = columns if Q_G is None else columns @ Q_G
        left = self._squared_inputs(Q_A, abar)
        right = ops.xp.einsum("snk,snk,nk->s", rotated, rotated, left)
        return ops.to_host(right).astype(np.float64) / len(abar)

    def inner(self, ops: Backend, abar: Array, M: Array) -> float:
        xp = ops.xp
        Q_G, Q_A = self.matrices(ops)
        if Q_G is None:
            diagonal = xp.einsum("nkk->nk", M)
        else:
            diagonal = xp.einsum("nkj,kj->nj", M @ Q_G, Q_G)
        return ops.scalars((diagonal * self._squared_inputs(Q_A, abar)).sum(axis=1).mean())[0]

    def _squared_inputs(self, Q_A: Array | None, abar: Array) -> Array:
        """Return S applied to the squared inputs in its basis, (N, o)."""
        rotated = abar if Q_A is None else abar @ Q_A
        return (rotated * rotated) @ self.diagonal().T

    def to_dense(self, plan: LayerPlan) -> Array:
        """Return (Q_A ⊗ Q_G) diag(vec S) (Q_A ⊗ Q_G)ᵀ."""
        xp, S = plan.ops.xp, self.diagonal()
        Q_G, Q_A = self.matrices(plan.ops)
        Q_A = xp.eye(S.shape[1], dtype=S.dtype) if Q_A is None else Q_A
        Q_G = xp.eye(S.shape[0], dtype=S.dtype) if Q_G is None else Q_G
        Q = xp.kron(Q_A, Q_G)
        return xp.matmul(Q * S.T.reshape(-1)[None, :], Q.T)


@dataclass
class EigenBlock(FactoredBlock, ScaledBlock):
    """A diagonal in the eigenbases of A and G: Δ = Q_G [(Q_Gᵀ g Q_A) / (S + λ)] Q_Aᵀ.

    Without re-estimated scales S is the product of the eigenvalues, and the damping is that of the
    Kronecker product.
    """

    basis_A: Eigenbasis | None = None
    basis_G: Eigenbasis | None = None

    Settings: ClassVar[type[BlockSettings]] = FactoredSettings

    @classmethod
    def start(cls, plan: LayerPlan) -> Self:
        return cls()

    @classmethod
    def of_factors(cls, plan: LayerPlan, A: Factor, G: Factor | None) -> Self:
        block = cls(A=A, G=G)
        block.prepare(plan, Refresh(1, plan.period), fixed(0.0))
        return block

    def bases(self) -> Bases | None:
        if self.basis_A is None or self.basis_G is None:
            return None
        return self.basis_G.vectors, self.basis_A.vectors

    def prepare(self, plan: LayerPlan, refresh: Refresh, damping: Damping) -> None:
        """Refresh the bases; a diagonal in the old basis says nothing of the new one."""
        self.age_A += 1
        if self.basis_A is None or refresh.due(plan, 0, self.age_A):
            self.age_A, self.scale_terms = 0, 0
            self.basis_A, self.A = self._basis(plan, self.pair()[0], "A")
        self.age_G += 1
        if self.basis_G is None or refresh.due(plan, 1, self.age_G):
            self.age_G, self.scale_terms = 0, 0
            self.basis_G, self.G = self._basis(plan, self.pair()[1], "G")

    def _basis(self, plan: LayerPlan, M: Factor, side: str) -> tuple[Eigenbasis, Factor]:
        try:
            return M.eigenbasis(plan.ops, plan.name(side)), M
        except Diverged:
            diagonal = Diagonal(M.diagonal_of(plan.ops))
            return diagonal.eigenbasis(plan.ops, plan.name(side)), usable(plan.ops, M)

    def diagonal(self) -> Array:
        """Return S: the re-estimated scales, else the products of the eigenvalues."""
        if self.scale_terms:
            return self.scales
        assert self.basis_A is not None
        assert self.basis_G is not None
        return self.basis_G.values[:, None] * self.basis_A.values[None, :]

    def shift(self, ops: Backend, damping: Damping) -> Any:
        if self.scale_terms:
            return super().shift(ops, damping)
        return damping.of_product(ops, *self.pair())

    def solve(
        self, plan: LayerPlan, damping: Damping, g: Array, out: Array, scratch: Scratch
    ) -> None:
        """Write the rotated quotient into ``out``: 4 o i (o + i) flops."""
        assert self.basis_A is not None
        assert self.basis_G is not None
        Q_G, Q_A = self.basis_G.vectors, self.basis_A.vectors
        inner = rotate(plan.ops, Q_G, g, Q_A)  # g itself where both bases are the identity
        inner = inner / (self.diagonal() + self.shift(plan.ops, damping))
        out[...] = rotate(plan.ops, Q_G, inner, Q_A, back=True)[: len(g), : g.shape[1]]

    @classmethod
    def cost(cls, plan: LayerPlan) -> cost.BlockCost:
        (o, i), width = plan.shape, plan.forms.width
        refresh, solve = cost.eigenbasis(i, width), 2.0 * cost.multiply(i, o, width)
        kept = 2.0 * cost.numbers(i, width) + float(o) * i
        if not plan.diagonal_G:
            refresh += cost.eigenbasis(o, width)
            solve += 2.0 * cost.multiply(o, i, width)
            kept += 2.0 * cost.numbers(o, width)
        return cost.BlockCost(refresh, solve, kept * plan.dtype.itemsize)

    def matrices(self, ops: Backend) -> Bases:
        bases = self.bases()
        assert bases is not None
        A, G = self.pair()
        return _matrix(ops, bases[0], G.dimension), _matrix(ops, bases[1], A.dimension)

    @property
    def nbytes(self) -> int:
        return super().nbytes + int(self.diagonal().nbytes)


@dataclass
class DiagonalBlock(ScaledBlock):
    """diag(vec S), without any factors: Δ = g / (S + λ)."""

    factored: ClassVar[bool] = False

    @classmethod
    def start(cls, plan: LayerPlan) -> Self:
        return cls()

    @classmethod
    def of_factors(cls, plan: LayerPlan, A: Factor, G: Factor | None) -> Self:
        return cls()

    def bases(self) -> Bases:
        return None, None

    def spectrum(self, ops: Backend) -> tuple[Array, Array]:
        S = self.diagonal()[:, :-1].astype(np.float64)
        return ops.xp.ones(1), S.reshape(-1)

    def solve(
        self, plan: LayerPlan, damping: Damping, g: Array, out: Array, scratch: Scratch
    ) -> None:
        """Write g / (S + λ) into ``out``: o i divisions."""
        plan.ops.xp.divide(g, self.diagonal() + self.shift(plan.ops, damping), out=out)

    @classmethod
    def cost(cls, plan: LayerPlan) -> cost.BlockCost:
        o, i = plan.shape
        return cost.BlockCost(0.0, 0.0, float(o) * i * plan.dtype.itemsize)

    def to_dense(self, plan: LayerPlan) -> Array:
        return plan.ops.xp.diag(self.diagonal().T.reshape(-1))

    @property
    def nbytes(self) -> int:
        return int(self.diagonal().nbytes)


def _matrix(ops: Backend, Q: Array | None, d: int) -> Array | None:
    """Return a basis of diagonal blocks (m, b, b) as a matrix (d, m b); others as they are."""
    if Q is None or Q.ndim == 2:
        return Q
    return to_basis(ops, ops.xp.eye(d, dtype=Q.dtype), Q)
