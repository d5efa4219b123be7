"""Measure how close each method's block is to the exact Gauss-Newton block, forming neither.

    ⟨A ⊗ G, B⟩ = mean_n (ā_nᵀ A ā_n) tr(G 𝒢_n)        B = mean_n ā_n ā_nᵀ ⊗ 𝒢_n
    ‖B‖² = (1/N²) Σ_{n,m} (ā_nᵀ ā_m)² tr(𝒢_n 𝒢_m)

The products are exact if the 𝒢_n of all data points fit the memory budget. Otherwise 𝒢_n = C_n C_nᵀ
is replaced by a sketch c_n c_nᵀ with c_n = C_n s and E[s sᵀ] = I. Then

    B̂_r = mean_n ā_n ā_nᵀ ⊗ c_n c_nᵀ

is an unbiased estimate of B, and for two independent sketches r ≠ q so is ⟨B̂_r − K, B̂_q − K⟩ of
‖B − K‖². The error of this estimate falls with the distance itself; the jackknife over sketches
estimates the error. Cost of S sketches: S backward passes and S² N² (o + i) flops a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from gnopt.curvature.exact import pre_activation_matrices
from gnopt.engine.network import backpropagate
from gnopt.inspection.blocks import InspectedBlock
from gnopt.inspection.factors import recursion_flops
from gnopt.inspection.subject import Snapshot

SKETCHES = 8
EXACT_FLOPS = 5e10  # the exact products are computed up to this cost


@dataclass(frozen=True)
class Products:
    """Inner products of one layer over S sketches; S = 1 if the products are exact."""

    exact: np.ndarray  # ⟨B̂_r, B̂_q⟩, (S, S); with sketches, its diagonal is not used
    mixed: list[np.ndarray]  # ⟨K, B̂_r⟩ of each method, (S,)
    squares: list[float]  # ‖K‖² of each method


@dataclass(frozen=True)
class Agreement:
    """How well a block agrees with the exact one; standard errors are 0 if nothing is sketched."""

    distance: float  # ‖K − B‖ / ‖B‖, in the Frobenius norm
    cosine: float  # ⟨K, B⟩ / (‖K‖ ‖B‖)
    distance_error: float = 0.0
    cosine_error: float = 0.0


def affordable(snapshot: Snapshot) -> bool:
    """Return whether the 𝒢_n of the whole sample fit into memory and their products are cheap."""
    net, rows = snapshot.net, snapshot.tape.rows
    widest = max(net.sizes[1:])
    flops = recursion_flops(snapshot) + sum(2.0 * (rows * d) ** 2 for d in net.sizes[1:])
    return (
        3 * rows * widest**2 * net.dtype.itemsize <= snapshot.subject.memory
        and flops <= EXACT_FLOPS
    )


def products(snapshot: Snapshot, blocks: Sequence[Sequence[InspectedBlock]]) -> list[Products]:
    """Return the products of layers 1..L; ``blocks[m][l - 1]`` is method m's block of layer l."""
    backwards = _exact(snapshot, blocks) if affordable(snapshot) else _sketched(snapshot, blocks)
    return backwards[::-1]


def _exact(snapshot: Snapshot, blocks: Sequence[Sequence[InspectedBlock]]) -> list[Products]:
    products = []
    for l, M in pre_activation_matrices(snapshot.sample(), hessian=False):
        abar = snapshot.tape.abar[l - 1]
        flat = M.reshape(len(M), -1)
        square = ((abar @ abar.T) ** 2 * (flat @ flat.T)).sum(dtype=np.float64) / len(M) ** 2
        mixed = [np.array([method[l - 1].inner(abar, M)]) for method in blocks]
        products.append(
            Products(
                np.array(snapshot.net.ops.scalars(square))[:, None],
                mixed,
                [method[l - 1].square() for method in blocks],
            )
        )
    return products


def _sketched(snapshot: Snapshot, blocks: Sequence[Sequence[InspectedBlock]]) -> list[Products]:
    net, ops, loss, y = snapshot.net, snapshot.net.ops, snapshot.subject.loss, snapshot.subject.y
    rows, itemsize = snapshot.tape.rows, net.dtype.itemsize
    count = int(
        min(SKETCHES, max(3, snapshot.subject.memory // (2 * rows * max(net.sizes[1:]) * itemsize)))
    )
    sample = snapshot.sample("agreement")
    start = ops.xp.stack(
        [
            loss.gn_root_product(
                ops,
                snapshot.tape.output,
                y,
                ops.rademacher(sample.rng, (rows, loss.rank(net.sizes[-1])), net.dtype),
            )
            for _ in range(count)
        ]
    )
    products = []
    for l, columns in backpropagate(net, snapshot.W, snapshot.tape, start):
        abar = snapshot.tape.abar[l - 1]
        exact = np.zeros((count, count))
        for first in range(0, rows, 1000):  # N × N products in strips
            strip = slice(first, first + 1000)
            inputs = abar[strip] @ abar.T
            inputs *= inputs
            for r in range(count):
                for q in range(r):
                    pair = columns[r, strip] @ columns[q].T
                    pair *= pair
                    pair *= inputs
                    exact[r, q] += ops.scalars(pair.sum(dtype=np.float64))[0] / rows**2
        products.append(
            Products(
                exact + exact.T,
                [method[l - 1].quadratic(abar, columns) for method in blocks],
                [method[l - 1].square() for method in blocks],
            )
        )
    return products


def together(layers: Sequence[Products]) -> Products:
    """Return the products of the block-diagonal matrix over these layers, which are sums."""
    methods = range(len(layers[0].mixed))
    return Products(
        np.sum([p.exact for p in layers], axis=0),
        [np.sum([p.mixed[m] for p in layers], axis=0) for m in methods],
        [float(np.sum([p.squares[m] for p in layers])) for m in methods],
    )


def agreement(products: Products, method: int) -> Agreement:
    """Return distance and cosine of the ``method``-th method, with jackknife standard errors."""
    exact, mixed, square = products.exact, products.mixed[method], products.squares[method]
    count = len(mixed)
    distance, cosine = _ratios(exact, mixed, square)
    if count == 1:
        return Agreement(distance, cosine)
    kept = [[q for q in range(count) if q != r] for r in range(count)]
    without = np.array([_ratios(exact[np.ix_(k, k)], mixed[k], square) for k in kept])
    errors = np.sqrt((count - 1) * without.var(axis=0))
    return Agreement(distance, cosine, float(errors[0]), float(errors[1]))


def _ratios(exact: np.ndarray, mixed: np.ndarray, square: float) -> tuple[float, float]:
    count = len(mixed)
    norm = exact[0, 0] if count == 1 else (exact.sum() - np.trace(exact)) / (count * (count - 1))
    inner = mixed.mean()
    if not norm > 0.0 or not square > 0.0:
        return nan, nan
    distance = sqrt(max(square - 2.0 * inner + norm, 0.0) / norm)
    return distance, float(inner / sqrt(square * norm))


def exact_norm(products: Products) -> float:
    """Return the Frobenius norm ‖B‖ of the exact block."""
    count = len(products.exact)
    norm = (
        products.exact[0, 0]
        if count == 1
        else (products.exact.sum() - np.trace(products.exact)) / (count * (count - 1))
    )
    return sqrt(max(float(norm), 0.0))
