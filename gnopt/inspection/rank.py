"""Compare the rank of the Gauss-Newton matrix with its bound (Botev et al. 2017, section 6).

The bound is rank ≤ N · rank(𝒢_L). GN = Vᵀ V / N, where V has a row ā_{l-1,n} ⊗ c_{l,n,k} for every
data point n and column k of the root of 𝒢_L. So its rank is that of the Gram matrix

    V Vᵀ = Σ_l (ā_nᵀ ā_m) (c_{n,k}ᵀ c_{m,j})

which is small for few data points, however many parameters there are. As many of the first data
points are used as keep the dimension of this matrix below ``LIMIT``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.engine.network import backpropagate
from gnopt.inspection.spectrum import spectrum
from gnopt.inspection.subject import Snapshot

LIMIT = 1500  # largest N · K, K being the columns of the root


@dataclass(frozen=True)
class Ranks:
    """Ranks of the exact Gauss-Newton matrix over ``rows`` data points."""

    rows: int
    bound: int  # of every rank
    layers: list[int]  # ranks of the blocks of layers 1..L
    whole: int  # rank of the whole matrix


def ranks(snapshot: Snapshot) -> Ranks:
    """Measure the ranks in the network's precision.

    Cost: (N K)² (o + i) flops a layer, and (N K)³ for each spectrum.
    """
    net, ops, xp, loss = snapshot.net, snapshot.net.ops, snapshot.net.ops.xp, snapshot.subject.loss
    columns = loss.rank(net.sizes[-1])
    rows = max(1, min(snapshot.tape.rows, LIMIT // columns))
    sample = snapshot.sample(rows=rows)
    h, y = sample.tape.output, sample.y
    root = loss.gn_root(ops, h, y)
    whole = xp.zeros((columns * rows, columns * rows), dtype=net.dtype)
    layers = []
    for l, C in backpropagate(net, sample.W, sample.tape, root):
        abar = sample.tape.abar[l - 1]
        flat = C.reshape(columns * rows, -1)
        gram = (flat @ flat.T).reshape(columns, rows, columns, rows) * (abar @ abar.T)[
            None, :, None, :
        ]
        gram = gram.reshape(columns * rows, columns * rows)
        whole += gram
        layers.append(spectrum(ops, gram).rank)
    if loss.diagonal:
        output = int((ops.to_host(loss.gn_diagonal(ops, h, y)) > 0.0).sum())
    else:
        output = sum(spectrum(ops, matrix).rank for matrix in loss.gn_matrix(ops, h, y))
    return Ranks(rows, output, layers[::-1], spectrum(ops, whole).rank)


def bound(ranks: Ranks, layer_parameters: int) -> int:
    """Return the bound for the block of a layer, whose size limits the rank too."""
    return int(np.minimum(ranks.bound, layer_parameters))
