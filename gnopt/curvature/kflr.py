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

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gnopt.curvature import Curvature, CurvatureSample, CurvatureSettings, cost
from gnopt.curvature.factors import Factor, mix, of_array, second_moment
from gnopt.curvature.kfac import mean_moments
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, slope
from gnopt.options import option


@dataclass(frozen=True, kw_only=True)
class KFLRSettings(CurvatureSettings):
    """Exact, or sketched."""

    columns: int = option(
        0, "random columns of the root to backpropagate; 0 = all of them, exact", low=0
    )


class KFLR(Curvature):
    """Exact (columns = 0) or sketched to a number of random columns."""

    name = "kflr"
    summary = (
        "Kronecker-factored low rank: exact output factors, or a sketch of them (Botev et al. 2017)"
    )
    colour = "#009E73"
    Settings = KFLRSettings
    settings: KFLRSettings
    exact_output = True
    exact_at_one_point = True

    @classmethod
    def cheapest(cls) -> KFLRSettings:
        return KFLRSettings(columns=1)

    @classmethod
    def most_exact(cls, settings: CurvatureSettings) -> CurvatureSettings:
        return KFLRSettings(columns=0)

    def means(self, sample: CurvatureSample) -> list[Factor]:
        columns = self._sketched(sample.net, sample.loss)
        return _sketched(sample, columns) if columns else _exact(sample)

    def temporaries(self, net: Network, loss: Loss, rows: int, memory: int) -> int:
        if self._sketched(net, loss):
            return 0
        rank = loss.rank(net.sizes[-1])
        return _row_bytes(net, loss, rank) * _block_rows(net, loss, rank, rows, memory)

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        columns = self._sketched(net, loss)
        if columns:
            return cost.column_factors(net.sizes, rows, columns, not loss.diagonal, width)
        return cost.kflr_factors(net.sizes, rows, loss.rank(net.sizes[-1]), loss.diagonal, width)

    def _sketched(self, net: Network, loss: Loss) -> int:
        """Number of random columns; 0 where all columns of the root are fewer."""
        columns = self.settings.columns
        return columns if columns < loss.rank(net.sizes[-1]) else 0


def sketch_columns(sample: CurvatureSample, count: int) -> Iterator[Array]:
    """Yield C_L s, (N, K), for ``count`` random sign vectors s per data point, E[s sᵀ] = I."""
    ops, loss, rank = sample.net.ops, sample.loss, sample.loss.rank(sample.net.sizes[-1])
    for _ in range(count):
        signs = ops.rademacher(sample.rng, (sample.tape.rows, rank), sample.net.dtype)
        yield loss.gn_root_product(ops, sample.tape.output, sample.y, signs)


def _sketched(sample: CurvatureSample, columns: int) -> list[Factor]:
    sketches, loss = sketch_columns(sample, columns), sample.loss
    if not loss.diagonal:
        return mean_moments(sample, sketches, columns)
    # The mean of a diagonal 𝒢_L is exact, and cheaper than any sketch of it.
    G_L = loss.gn_mean(sample.net.ops, sample.tape.output, sample.y)
    return [*mean_moments(sample, sketches, columns, output=False), of_array(G_L)]


def _columns_after(k: int, d: int) -> int:
    """Columns that go on below a layer of width d: recompressed where that at least halves them."""
    return d if 2 * d < k else k


def _row_bytes(net: Network, loss: Loss, rank: int) -> int:
    """Bytes of all columns of a data point, at two neighbouring layers; a diagonal loss has none at
    the output.
    """
    widths = net.sizes[1:-1] if loss.diagonal and net.layers > 1 else net.sizes[1:]
    return (rank + 1) * (2 * max(widths) + min(widths)) * net.dtype.itemsize


def _block_rows(net: Network, loss: Loss, rank: int, rows: int, memory: int) -> int:
    return max(1, min(rows, int(memory // max(_row_bytes(net, loss, rank), 1))))


def _exact(sample: CurvatureSample) -> list[Factor]:
    """Add up over blocks of data points, so that all columns of a block fit the memory budget."""
    net, loss = sample.net, sample.loss
    rank = loss.rank(net.sizes[-1])
    rows = _block_rows(net, loss, rank, sample.tape.rows, sample.memory)
    factors: list[Factor | None] = [None] * net.layers
    for start in range(0, sample.tape.rows, rows):
        _add_block(sample.take(slice(start, start + rows)), factors, 1.0 / sample.tape.rows)
    if loss.diagonal:
        factors[-1] = of_array(loss.gn_mean(net.ops, sample.tape.output, sample.y))
    return [factor for factor in factors if factor is not None]


def _add_block(sample: CurvatureSample, factors: list[Factor | None], scale: float) -> None:
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
    sample: CurvatureSample, factors: list[Factor | None], index: int, columns: Array, scale: float
) -> None:
    flat = columns.reshape(-1, columns.shape[-1])
    forms = replace(sample.forms, low_rank=False)  # all columns together are never few
    moment = second_moment(sample.net.ops, flat, scale, forms)
    factors[index] = mix(sample.net.ops, factors[index], moment, 1.0, 1.0)


def _recompress(ops: Backend, columns: Array) -> Array:
    """(N, k, d) → (N, d, d) with the same C Cᵀ per data point, from its eigendecomposition."""
    xp = ops.xp
    values, vectors = ops.eigh_stack(columns.transpose(0, 2, 1) @ columns)
    return xp.sqrt(xp.maximum(values, 0.0))[:, :, None] * vectors.transpose(0, 2, 1)


CURVATURE = KFLR
