"""The rank of the Gauss-Newton matrix against its bound (Botev et al. 2017, section 6): rank ≤ N ·
rank(𝒢_L).

GN = Vᵀ V / N with one row ā_{l-1,n} ⊗ c_{l,n,k} of V for every data point n and column k of the
output's root, so its rank is that of the Gram matrix V Vᵀ = Σ_l (ā_nᵀ ā_m)(c_{n,k}ᵀ c_{m,j}), which
is small for few data points whatever the number of parameters. The first data points are used, as
many as keep that matrix within ``LIMIT``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.engine.network import backpropagate
from gnopt.inspection.spectrum import spectrum
from gnopt.inspection.subject import Look

LIMIT = 1500  # N · K of the data points that are used


@dataclass(frozen=True)
class Ranks:
    """Measured ranks of the exact matrix over ``rows`` data points, by layer and whole, with the
    bound for both.
    """

    rows: int
    bound: int
    layers: list[int]
    whole: int


def ranks(look: Look) -> Ranks:
    """Measure; (N K)² (o + i) flops a layer and (N K)³ for each spectrum, in the network's
    precision.
    """
    net, ops, xp, loss = look.net, look.net.ops, look.net.ops.xp, look.subject.loss
    columns = loss.rank(net.sizes[-1])
    rows = max(1, min(look.tape.rows, LIMIT // columns))
    sample = look.sample(rows=rows)
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
    """The bound for one block: its size, too, limits its rank."""
    return int(np.minimum(ranks.bound, layer_parameters))
