"""The work of every phase of an update in floating-point operations: the one account of cost.

``--dry-run``, ``inspect-curvature`` and ``gnopt bench`` all ask these formulas, through the
curvatures, blocks and optimizers that use them.

A network of widths (d_0, ..., d_L) has augmented inputs i_l = d_{l-1} + 1 and outputs o_l = d_l. N
rows go forward and backward, n of them make the factors, m the quadratic model. A product (a × b)(b
× c) counts 2abc; one whose result is known to be symmetric counts half of it. Element-wise work,
sums and copies count nothing: they are bounded by memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Sizes = Sequence[int]
EIGEN = 9.0  # a symmetric eigendecomposition with vectors takes about 9 d³ (divide and conquer)


def shapes(sizes: Sizes) -> list[tuple[int, int]]:
    """(o_l, i_l) of layers l = 1..L."""
    return [(o, i + 1) for i, o in itertools.pairwise(sizes)]


def _between(sizes: Sizes) -> list[tuple[int, int]]:
    """(d_{l+1}, d_l) of the hidden layers l = L-1..1: what goes back through the weights of layer l
    + 1.
    """
    return [(sizes[l + 1], sizes[l]) for l in range(len(sizes) - 2, 0, -1)]


def forward(sizes: Sizes, rows: float) -> float:
    """2 N Σ o i: every layer once."""
    return 2.0 * rows * sum(o * i for o, i in shapes(sizes))


def through(sizes: Sizes, rows: float) -> float:
    """2 N Σ_{l>1} d_l d_{l-1}: one column per row passed back to the first layer, or on beside the
    activations.
    """
    return 2.0 * rows * sum(above * below for above, below in _between(sizes))


def backward(sizes: Sizes, rows: float) -> float:
    """2 N Σ o i + 2 N Σ_{l>1} d_l d_{l-1}: the gradients δ ᵀā, and δ passed back; none is wanted
    for the input.
    """
    return forward(sizes, rows) + through(sizes, rows)


def quadratic_model(sizes: Sizes, rows: float, directions: int) -> float:
    """k (2 m Σ o i + 2 m Σ_{l>1} d_l d_{l-1}) + 2 k² m d_L: the R-forward pass of k directions, and
    their products with one another at the output.
    """
    k = directions
    return k * backward(sizes, rows) + 2.0 * k * k * rows * sizes[-1]


def gn_vector(sizes: Sizes, rows: float) -> float:
    """4 m Σ o i + 4 m Σ_{l>1} d_l d_{l-1}: a product with the Gauss-Newton matrix, R-forward and
    back.
    """
    return 2.0 * backward(sizes, rows)


def second_r_forward(sizes: Sizes, rows: float, linear: bool = False) -> float:
    """2 N Σ o i + 6 N Σ_{l>1} d_l d_{l-1}: the second derivative along a direction.

    Where the first activation is piecewise linear, R²{a_1} vanishes and spares 2 N d_2 d_1.
    """
    spared = 2.0 * rows * sizes[2] * sizes[1] if linear and len(sizes) > 2 else 0.0
    return forward(sizes, rows) + 3.0 * through(sizes, rows) - spared


def input_factors(sizes: Sizes, rows: float, first_known: bool = False, width: int = 0) -> float:
    """n Σ i²: the second moments of ā (symmetric); the first layer's may be known."""
    return sum(second_moment(rows, i, width) for _, i in shapes(sizes)[int(first_known) :])


def slopes(sizes: Sizes, rows: float, width: int = 0) -> float:
    """n Σ_hidden d²: the second moments of f' that KFRA needs (symmetric)."""
    return sum(second_moment(rows, d, width) for d in sizes[1:-1])


def recursion(sizes: Sizes, diagonal: bool, width: int = 0) -> float:
    """Σ_hidden 2 d_{l+1} d_l (d_{l+1} + d_l): W ᵀ(G W) of KFRA; d_{l+1} d_l² where G is diagonal,
    as the Gram matrix of scaled rows of W.
    """
    total = 0.0
    for position, (above, below) in enumerate(_between(sizes)):
        if diagonal and position == 0:
            total += float(above) * _squares(below, width)
        else:
            total += 2.0 * (below * _squares(above, width) + above * _squares(below, width))
    return total


def kfra_factors(sizes: Sizes, rows: float, diagonal: bool, width: int = 0) -> float:
    """Output factors of KFRA: ``slopes`` and ``recursion``, independent of the number of outputs
    but for its G_L.
    """
    return (
        slopes(sizes, rows, width)
        + recursion(sizes, diagonal, width)
        + (0.0 if diagonal else rows * float(sizes[-1]) ** 2)
    )


def column_factors(
    sizes: Sizes, rows: float, columns: int, output: bool = True, width: int = 0
) -> float:
    """S (2 n Σ_{l>1} d_l d_{l-1} + n Σ d²): output factors from S backpropagated columns (KFAC,
    sketched KFLR); the output layer's is left out where it is known otherwise.
    """
    layers = sizes[1:] if output else sizes[1:-1]
    moments = sum(second_moment(rows, d, width) for d in layers)
    return columns * (through(sizes, rows) + moments)


def kflr_factors(sizes: Sizes, rows: float, rank: int, diagonal: bool, width: int = 0) -> float:
    """Output factors of exact KFLR: k columns per row, k = rank at first.

    Each layer takes 2 n k d_{l+1} d_l for passing them back and n k d_l² for their second moment; a
    diagonal root takes neither at the output layer, nor the products of the layer below it. Below a
    layer with 2 d_l < k the columns are replaced by d_l: n (2 k d_l² + 9 d_l³) for the small
    matrices C Cᵀ of the rows and their roots.
    """
    total, k = (0.0 if diagonal else second_moment(rows * rank, sizes[-1], width)), rank
    hidden = _between(sizes)
    for position, (above, below) in enumerate(hidden):
        if not (diagonal and position == 0):
            total += 2.0 * rows * k * above * below
        total += second_moment(rows * k, below, width)
        if 2 * below < k and position < len(hidden) - 1:
            total += rows * (2.0 * k * float(below) ** 2 + EIGEN * float(below) ** 3)
            k = below
    return total


def scales(sizes: Sizes, rows: float, columns: int, rotated: bool, width: int = 0) -> float:
    """S (2 n Σ_{l>1} d_l d_{l-1} + 2 n Σ o i): diagonals of blocks from S backpropagated columns.

    In the eigenbases of both factors (``rotated``) the rotations add 2 n (o² + i²) a layer.
    """
    if not rotated:
        return columns * (through(sizes, rows) + forward(sizes, rows))
    total = 0.0
    for o, i in shapes(sizes):
        turns = multiply(_padded(o, width), 1, width) + multiply(_padded(i, width), 1, width)
        total += turns + 2.0 * _padded(o, width) * _padded(i, width)
    return columns * (through(sizes, rows) + rows * total)


def recursion_by_row(sizes: Sizes, rows: float) -> float:
    """n Σ_hidden 2 d_{l+1} d_l (d_{l+1} + d_l): the recursion of 𝒢 data point by data point."""
    return rows * sum(2.0 * above * below * (above + below) for above, below in _between(sizes))


# ---- one factor of dimension d, in diagonal blocks of at most ``width`` (0 = whole) --------------


def second_moment(rows: float, d: int, width: int = 0) -> float:
    """n d²: Xᵀ X for n rows (symmetric); n Σ b² over blocks."""
    return rows * _squares(d, width)


def cholesky(d: int, width: int = 0) -> float:
    """m b³ / 3 for m blocks."""
    return _padded(d, width) * _block(d, width) ** 2 / 3.0


def inverse(d: int, width: int = 0) -> float:
    """m b³ for m blocks: the Cholesky factor and the inverse from it."""
    return float(_padded(d, width)) * _block(d, width) ** 2


def eigenbasis(d: int, width: int = 0) -> float:
    """9 m b³ for m blocks."""
    return EIGEN * _padded(d, width) * _block(d, width) ** 2


def eigenvalues(d: int, width: int = 0) -> float:
    """Eigenvalues in float64, 4/3 d³ flops, that take the time of about 5 d³ of a product."""
    return 5.0 * _padded(d, width) * _block(d, width) ** 2


def sketch(d: int, rank: int) -> float:
    """2 d² r + 8 d r² + 4/3 r³: the product with the basis, and what is of its rank."""
    r = float(rank)
    return 2.0 * d * d * r + 8.0 * d * r * r + 4.0 / 3.0 * r**3


def multiply(d: int, columns: int, width: int = 0) -> float:
    """2 d b k: a factor or its inverse times k columns, by products or triangular solves alike."""
    return 2.0 * d * _block(d, width) * columns


def multiply_sketch(d: int, rank: int, columns: int) -> float:
    """4 d r k + 2 r² k: a sketched inverse times k columns."""
    return (4.0 * d + 2.0 * rank) * rank * columns


def numbers(d: int, width: int = 0) -> float:
    """m b²: numbers that a factor of m blocks keeps."""
    return float(_padded(d, width)) * _block(d, width)


def _count(d: int, width: int) -> int:
    """Number of diagonal blocks, see ``factors.pieces``."""
    return 1 if width <= 0 else -(-d // width)


def _block(d: int, width: int) -> int:
    """Dimension of the blocks but the last, which may be smaller."""
    return -(-d // _count(d, width))


def _squares(d: int, width: int) -> float:
    """Σ b² over the diagonal blocks, without the padding of the last."""
    b = _block(d, width)
    whole, rest = divmod(d, b)
    return float(whole * b * b + rest * rest)


def _padded(d: int, width: int) -> int:
    """Dimension of all blocks with the padding of the last."""
    return -(-d // _block(d, width)) * _block(d, width)


# ---- records -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockCost:
    """What one layer's block costs: flops of one refresh and of one solve, bytes that it keeps."""

    refresh: float
    solve: float
    bytes: float


@dataclass(frozen=True)
class Cost:
    """What an average update of a method costs once its periods are reached.

    ``phases`` is name of a phase (`gnopt.optimizers.timing.PHASES`) → flops; ``state`` is bytes of
    what the method keeps between updates, ``temporaries`` bytes of what it needs for a while where
    they count.
    """

    phases: dict[str, float] = field(default_factory=dict)
    state: float = 0.0
    temporaries: float = 0.0

    @property
    def flops(self) -> float:
        """Flops of an update."""
        return sum(self.phases.values())
