"""KFLR: the exact mean of the pre-activation Gauss-Newton matrices by its low-rank root (Botev et
al. 2017, 4.1).

    C_L C_Lᵀ = 𝒢_L,   C_l = f'(h_l) ⊙ (weight_{l+1}ᵀ C_{l+1}),   G_l = (1/N) Σ_n C_{l,n} C_{l,n}ᵀ

Exact mode backpropagates all K = rank(𝒢_L) columns, in blocks that keep temporaries within the
memory budget. Where a layer is narrower than half the number of columns, the columns of each data
point are replaced by a d × d root of C Cᵀ, exactly, and everything before it costs d columns. Cost:
K times a backward pass and K N d² per layer. Sketched mode (``columns = k``) backpropagates C_L s
for k random sign vectors s, E[s sᵀ] = I: unbiased, at the cost of k KFAC samples.
"""

from __future__ import annotations

from typing import Any

from gnopt.curvature import Curvature, Sample
from gnopt.curvature.kfac import column_flops, mean_moments
from gnopt.curvature.kron import Factor, mix, second_moment
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, slope
from gnopt.options import Option


class KFLR(Curvature):
    """Exact (columns = 0) or sketched to a number of random columns."""

    name = "kflr"
    summary = (
        "Kronecker-factored low rank: exact output factors, or a sketch of them (Botev et al. 2017)"
    )
    exact_output = True
    options = (
        Option(
            "columns",
            0,
            "int",
            "random columns of the root to backpropagate; 0 = all of them, exact",
            low=0,
        ),
    )

    def means(self, sample: Sample) -> list[Factor]:
        columns = sample.settings.get("columns", 0)
        rank = sample.loss.rank(sample.net.sizes[-1])
        if 0 < columns < rank:
            return _sketched(sample, columns)
        return _exact(sample, rank)

    def temporaries(
        self, net: Network, loss: Any, rows: int, settings: dict[str, Any], memory: int
    ) -> int:
        rank = loss.rank(net.sizes[-1])
        if 0 < settings.get("columns", 0) < rank:
            return 0
        return _row_bytes(net, loss, rank) * _block_rows(net, loss, rank, rows, memory)

    def flops(self, net: Network, loss: Any, rows: int, settings: dict[str, Any]) -> float:
        rank, columns = loss.rank(net.sizes[-1]), settings.get("columns", 0)
        if 0 < columns < rank:
            return columns * column_flops(net, rows)
        total, k = 0.0, rank
        for l in range(net.layers - 1, 0, -1):
            d, above = net.sizes[l], net.sizes[l + 1]
            total += (
                2.0 * rows * k * above * d
                if not (loss.diagonal and l == net.layers - 1)
                else rows * k * d
            )
            total += rows * k * float(d) ** 2
            k = _columns_after(k, d)
        return total


def _sketched(sample: Sample, columns: int) -> list[Factor]:
    ops, h = sample.net.ops, sample.tape.output
    rank = sample.loss.rank(sample.net.sizes[-1])
    signs = (
        ops.rademacher(sample.rng, (sample.tape.rows, rank), sample.net.dtype)
        for _ in range(columns)
    )
    sketches = (sample.loss.gn_root_product(ops, h, sample.y, s) for s in signs)
    if not sample.loss.diagonal:
        return mean_moments(sample, sketches, columns)
    # The mean of a diagonal 𝒢_L is exact, and cheaper than any sketch of it.
    return [
        *mean_moments(sample, sketches, columns, output=False),
        sample.loss.gn_mean(ops, h, sample.y),
    ]


def _columns_after(k: int, d: int) -> int:
    """Columns that go on below a layer of width d: recompressed where that at least halves them."""
    return d if 2 * d < k else k


def _row_bytes(net: Network, loss: Any, rank: int) -> int:
    """Bytes of all columns of a data point, at two neighbouring layers; a diagonal loss has none at
    the output.
    """
    widths = net.sizes[1:-1] if loss.diagonal and net.layers > 1 else net.sizes[1:]
    return (rank + 1) * (2 * max(widths) + min(widths)) * net.dtype.itemsize


def _block_rows(net: Network, loss: Any, rank: int, rows: int, memory: int) -> int:
    return max(1, min(rows, int(memory // max(_row_bytes(net, loss, rank), 1))))


def _exact(sample: Sample, rank: int) -> list[Factor]:
    """Run blocks of data points, so that all columns of a block fit the memory budget, and add
    up.
    """
    net = sample.net
    rows = _block_rows(net, sample.loss, rank, sample.tape.rows, sample.memory)
    factors: list[Factor | None] = [None] * net.layers
    for start in range(0, sample.tape.rows, rows):
        _add_block(sample.take(slice(start, start + rows)), factors, 1.0 / sample.tape.rows)
    if sample.loss.diagonal:
        factors[-1] = sample.loss.gn_mean(net.ops, sample.tape.output, sample.y)
    return factors


def _add_block(sample: Sample, factors: list[Factor | None], scale: float) -> None:
    """Add scale · Σ_n C_{l,n} C_{l,n}ᵀ of a block of data points to every layer's factor."""
    net, ops, xp = sample.net, sample.net.ops, sample.net.ops.xp
    loss, h, top = sample.loss, sample.tape.output, net.layers
    columns: Array | None = None  # (N, k, d): the columns of a data point are neighbours
    if not loss.diagonal:
        columns = xp.ascontiguousarray(loss.gn_root(ops, h, sample.y).transpose(1, 0, 2))
        _add_gram(sample, factors, top - 1, columns, scale)
    for l in range(top - 1, 0, -1):
        weight = sample.W[l][:, :-1]
        f1 = slope(net, sample.tape, l)
        if columns is None:
            # Column k of a diagonal root is c_k e_k: its image is a scaled row of the weights, no
            # product needed.
            root = xp.sqrt(loss.gn_diagonal(ops, h, sample.y))
            columns = root[:, :, None] * weight[None, :, :]
        else:
            count, k, above = columns.shape
            columns = (columns.reshape(count * k, above) @ weight).reshape(count, k, -1)
        columns *= f1[:, None, :]
        _add_gram(sample, factors, l - 1, columns, scale)
        if l > 1 and _columns_after(columns.shape[1], net.sizes[l]) < columns.shape[1]:
            columns = _recompress(ops, columns)


def _add_gram(
    sample: Sample, factors: list[Factor | None], index: int, columns: Array, scale: float
) -> None:
    flat = columns.reshape(-1, columns.shape[-1])
    width = {
        "factor_width": sample.settings.get("factor_width", 0)
    }  # all columns together are never low rank
    factors[index] = mix(
        sample.net.ops, factors[index], second_moment(sample.net.ops, flat, scale, width), 1.0, 1.0
    )


def _recompress(ops: Any, columns: Array) -> Array:
    """(N, k, d) → (N, d, d) with the same C Cᵀ per data point, from its eigendecomposition."""
    xp = ops.xp
    values, vectors = ops.eigh_stack(columns.transpose(0, 2, 1) @ columns)
    return xp.sqrt(xp.maximum(values, 0.0))[:, :, None] * vectors.transpose(0, 2, 1)


CURVATURE = KFLR()
