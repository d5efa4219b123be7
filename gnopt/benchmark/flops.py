"""The least work of every phase of an update in floating-point operations, one formula each.

A network of widths (d_0, ..., d_L) has augmented inputs i_l = d_{l-1} + 1 and outputs o_l = d_l. N
rows go forward and backward, n of them make the factors, m the quadratic model. A product (a × b)(b
× c) counts 2abc; one whose result is known to be symmetric counts half of it. Element-wise work,
sums and copies count nothing: they are bounded by memory, and what they take shows in the ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gnopt.curvature.kron import sketch_flops

Sizes = Sequence[int]
EIGEN = 9.0  # a symmetric eigendecomposition with vectors takes about 9 d³ (divide and conquer)


def shapes(sizes: Sizes) -> list[tuple[int, int]]:
    """(o_l, i_l) of layers l = 1..L."""
    return [(o, i + 1) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]


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
    """k (2 m Σ o i + 2 m Σ_{l>1} d_l d_{l-1}): the R-forward pass of k directions."""
    return directions * backward(sizes, rows)


def gn_vector(sizes: Sizes, rows: float) -> float:
    """4 m Σ o i + 4 m Σ_{l>1} d_l d_{l-1}: a product with the Gauss-Newton matrix, R-forward and
    back.
    """
    return 2.0 * backward(sizes, rows)


def input_factors(sizes: Sizes, rows: float, first_known: bool = False) -> float:
    """n Σ i²: the second moments of ā (symmetric); the first layer's may be known."""
    return rows * sum(float(i) ** 2 for _, i in shapes(sizes)[int(first_known) :])


def slopes(sizes: Sizes, rows: float) -> float:
    """n Σ_hidden d²: the second moments of f' that KFRA needs (symmetric)."""
    return rows * sum(float(d) ** 2 for d in sizes[1:-1])


def recursion(sizes: Sizes, diagonal: bool) -> float:
    """Σ_hidden 2 d_{l+1}² d_l + d_{l+1} d_l²: W ᵀ(G W) of KFRA, the second product symmetric; the
    first is for nothing where G is diagonal.
    """
    total = 0.0
    for position, (above, below) in enumerate(_between(sizes)):
        if not (diagonal and position == 0):
            total += 2.0 * above * above * below
        total += float(above) * below * below
    return total


def kfra_factors(sizes: Sizes, rows: float, diagonal: bool) -> float:
    """Output factors of KFRA: ``slopes`` and ``recursion``, independent of the number of outputs
    but for its G_L.
    """
    return (
        slopes(sizes, rows)
        + recursion(sizes, diagonal)
        + (0.0 if diagonal else rows * float(sizes[-1]) ** 2)
    )


def column_factors(sizes: Sizes, rows: float, columns: int, output: bool = True) -> float:
    """S (2 n Σ_{l>1} d_l d_{l-1} + n Σ d²): output factors from S backpropagated columns (KFAC,
    sketched KFLR); the output layer's is left out where it is known otherwise.
    """
    layers = sizes[1:] if output else sizes[1:-1]
    return columns * (through(sizes, rows) + rows * sum(float(d) ** 2 for d in layers))


def kflr_factors(sizes: Sizes, rows: float, rank: int, diagonal: bool) -> float:
    """Output factors of exact KFLR: k columns per row, k = rank at first.

    Each layer takes 2 n k d_{l+1} d_l for passing them back, nothing where the root is diagonal,
    and n k d_l² for their second moment. Below a layer with 2 d_l < k the columns are replaced by
    d_l: n (k d_l² + 9 d_l³) for the small matrices C Cᵀ of the rows and their roots.
    """
    total, k = (0.0 if diagonal else rows * float(sizes[-1]) ** 2), rank
    hidden = _between(sizes)
    for position, (above, below) in enumerate(hidden):
        if not (diagonal and position == 0):
            total += 2.0 * rows * k * above * below
        total += rows * k * float(below) ** 2
        if 2 * below < k and position < len(hidden) - 1:
            total += rows * (k * float(below) ** 2 + EIGEN * float(below) ** 3)
            k = below
    return total


def factor_dimensions(sizes: Sizes, diagonal: bool) -> Iterator[int]:
    """Dimensions of the factors that have to be factorised: all i_l and o_l, but o_L where G_L is
    diagonal.
    """
    for o, i in shapes(sizes)[:-1]:
        yield from (i, o)
    o, i = shapes(sizes)[-1]
    yield from ((i,) if diagonal else (i, o))


def cholesky(sizes: Sizes, diagonal: bool) -> float:
    """Σ d³/3 over the factors: all that solving with them needs."""
    return sum(float(d) ** 3 for d in factor_dimensions(sizes, diagonal)) / 3.0


def sketches(sizes: Sizes, ranks: Sequence[int]) -> float:
    """Σ 2 d² r + 8 d r² over the sketched G, less the d³/3 that their Cholesky factors would
    take.
    """
    return sum(
        sketch_flops(o, r) - o**3 / 3.0 for (o, _), r in zip(shapes(sizes), ranks, strict=True) if r
    )


def explicit_inverses(sizes: Sizes, diagonal: bool) -> float:
    """Σ d³: Cholesky and the inverse from it, worth it where an inverse serves several updates."""
    return 3.0 * cholesky(sizes, diagonal)


def eigenbases(sizes: Sizes, diagonal: bool) -> float:
    """9 Σ d³: eigendecompositions of the factors."""
    return EIGEN * 3.0 * cholesky(sizes, diagonal)


def solve(sizes: Sizes, diagonal: bool, sides: int = 1, ranks: Sequence[int] = ()) -> float:
    """2 Σ o i (o + i): G⁻¹ g A⁻¹, by triangular solves or explicit inverses alike; 2 o i² where G
    is diagonal.

    ``sides = 2`` for eigenbases: there and back. Where G is sketched with rank r > 0 its o becomes
    2 r.
    """
    layers = shapes(sizes)
    width = [2 * r or o for (o, _), r in zip(layers, ranks or [0] * len(layers), strict=True)]
    total = sum(2.0 * o * i * (w + i) for (o, i), w in zip(layers, width, strict=True))
    o, i = layers[-1]
    return sides * (total - (2.0 * o * o * i if diagonal else 0.0))


def rotated_scales(sizes: Sizes, rows: float, diagonal: bool) -> float:
    """EKFAC's diagonals: one more column passed back, rotations 2 n (o² + i²), the squares' product
    2 n o i.
    """
    layers = shapes(sizes)
    total = sum(2.0 * rows * (o * o + i * i + o * i) for o, i in layers)
    o = layers[-1][0]
    return through(sizes, rows) + total - (2.0 * rows * o * o if diagonal else 0.0)


def diagonal_scales(sizes: Sizes, rows: float) -> float:
    """Diagonal Gauss-Newton: one column passed back, and 2 n Σ o i for the products of squares."""
    return through(sizes, rows) + forward(sizes, rows)
