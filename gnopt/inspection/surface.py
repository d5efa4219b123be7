"""Compute the objective over two random directions (Figure 1 of Botev et al. 2017).

The directions lie within one layer, or span all layers:

    E(x, y) = objective(W_l + x U_l + y V_l),   U_l, V_l normal, scaled to the norm of W_l

With piecewise-linear activations and a convex loss there is no smooth local maximum. Cost: a
forward pass from layer l for every point of the grid; as many of the first rows are used as keep
the cost below ``FLOPS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnopt import rng
from gnopt.engine.arrays import Array
from gnopt.inspection.subject import Snapshot

FLOPS = 2e11
POINTS = 41


@dataclass(frozen=True)
class Surface:
    """The mean loss over ``rows`` data points on a square grid."""

    layer: int  # 0 stands for all layers jointly
    at: np.ndarray  # coordinates, the same for x and y
    values: np.ndarray  # mean loss, (y, x)
    rows: int

    @property
    def maxima(self) -> int:
        """Number of inner grid points that lie above all eight neighbours."""
        z = self.values
        inner = z[1:-1, 1:-1]
        shifts = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2) if (i, j) != (1, 1)]
        n = len(z)
        above = [inner > z[i : n - 2 + i, j : n - 2 + j] for i, j in shifts]
        return int(np.logical_and.reduce(above).sum())


def surfaces(snapshot: Snapshot, layers: Sequence[int], reach: float = 1.0) -> list[Surface]:
    """Return a surface for each layer and, if there are several, one over all of them jointly.

    All surfaces use the same rows, as many as the most expensive one can afford.
    """
    cost = 2.0 * POINTS**2 * sum(o * i for o, i in snapshot.net.shapes[min(layers) - 1 :])
    rows = int(max(1, min(snapshot.tape.rows, FLOPS // cost)))
    single = [_surface(snapshot, [l], reach, rows) for l in layers]
    return single if len(layers) == 1 else [*single, _surface(snapshot, layers, reach, rows)]


def _surface(snapshot: Snapshot, layers: Sequence[int], reach: float, rows: int) -> Surface:
    net, ops, xp = snapshot.net, snapshot.net.ops, snapshot.net.ops.xp
    first = min(layers)
    # Both directions span all the chosen layers; other layers keep their weights.
    directions = {l: _directions(snapshot, l) for l in layers}
    at = np.linspace(-reach, reach, POINTS)
    values = np.empty((POINTS, POINTS))
    abar = snapshot.tape.abar[first - 1][:rows]
    targets = snapshot.subject.loss.even(ops, snapshot.subject.y[:rows])
    base, along_x, along_y = (abar @ M.T for M in (snapshot.W[first - 1], *directions[first]))
    for j, y in enumerate(at.tolist()):
        row = []
        for x in at.tolist():
            h = base + x * along_x + y * along_y
            for l in range(first + 1, net.layers + 1):
                W = snapshot.W[l - 1]
                if l in directions:
                    W = W + x * directions[l][0] + y * directions[l][1]
                a = ops.elementwise(net.activations[l - 2].f, h, out=xp.empty_like(h))
                h = a @ W[:, :-1].T + W[:, -1]
            row.append(snapshot.subject.loss.value(ops, h, targets).mean(dtype="float64"))
        values[j] = ops.scalars(*row)  # waits for a GPU once for each row of the grid
    return Surface(first if len(layers) == 1 else 0, at, values, rows)


def _directions(snapshot: Snapshot, layer: int) -> tuple[Array, Array]:
    net, ops = snapshot.net, snapshot.net.ops
    generator = rng.generator(snapshot.subject.seed, "surface", layer)
    W = snapshot.W[layer - 1]
    (norm,) = ops.scalars((W * W).sum())
    directions = []
    for _ in range(2):
        U = ops.normal(generator, W.shape, net.dtype)
        (length,) = ops.scalars((U * U).sum())
        directions.append(U * (norm / length) ** 0.5)
    return directions[0], directions[1]
