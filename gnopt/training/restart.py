"""Weights scaled to the data layer by layer, for another start of a run that stands still, and for
the first one where drawn weights lose the signal.

The rows of every W_l are orthonormal before they are scaled, and layers follow each other: inputs
are taken in units of their deviation, then W_l and its biases are set so that pre-activations have
mean zero and a given deviation over the data (layer-sequential unit variance, Mishkin & Matas
2016). So no unit is saturated or dead, and the signal is as large in the last layer as in the
first, whatever the activation, depth and scale of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Backend, get_backend
from gnopt.engine.network import Network

# Deviation of pre-activations. At one half, deep narrow networks keep more of their inputs than at
# one: of 36 networks with six activations, 10 x 20 and 20 x 5 units, most trained further.
SPREAD = 0.5
# Means of pre-activations, in deviations, out of which a layer takes the one with the steepest
# slope f' over the data: 0 for tanh, 2 for relu, of which at 0 half of the signal is lost.
SHIFTS = (0.0, 1.0, 2.0)
STEEPER = 1.05  # by this factor, for the sake of a larger mean
# Deviation of h_L, in units of the targets where the loss is in their units. With 0.1, a start
# closer to the best constant, kfra ended 1.5 to 22 times as high on six deep tanh and sigmoid
# networks; of three relu networks two ended 0.5 and 0.6 times as high, one 9 times.
OUTPUT_SPREAD = 0.5
# Deviations, in the units of an activation, at which the signal counts as lost. In the standard
# problems the least is 0.08, after the narrowest layer of an autoencoder.
VANISHED, EXPLODED = 0.05, 10.0
# A column that deviates less than this share of its mean is constant, up to rounding.
CONSTANT = 1e-7


def lost_signal(net: Network, weights: Sequence[np.ndarray], x: np.ndarray) -> str:
    """Return why the weights do not carry the signal of the data, in words, or "" if they do.

    The signal is the deviation over the rows x, (N, D), of what a hidden layer's units put out, or
    take in, in the units that their activation is drawn for. It is found on the host, the same for
    every device. Networks beyond the reach of an activation's rule are not tried.
    """
    depth = net.layers - 1
    for f in net.activations:
        if 0 < f.init_rule.reach < depth:
            return f"{depth} hidden layers are too deep for {f.name} with fixed gains"
    ops, a = get_backend("cpu"), np.asarray(x, dtype=net.dtype)
    hidden = zip(weights[:-1], net.activations, strict=False)
    for number, (W, f) in enumerate(hidden, start=1):
        h, rule = a @ W[:, :-1].T + W[:, -1], f.init_rule
        into = _deviation(h) / rule.stretch
        a = f.f(ops, h, np.empty_like(h))
        out = _deviation(a) / rule.unit
        if into > EXPLODED or not out >= VANISHED:
            what = "explodes" if into > EXPLODED else "vanishes"
            return f"the signal {what} in layer {number} with drawn ones"
    return ""


def scaled_weights(net: Network, x: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
    """Return W_1..W_L, float64 on the host, scaled to the rows x, (N, D).

    Outputs have mean zero over these rows.
    """
    ops, a = get_backend("cpu"), np.asarray(x, dtype=np.float64)
    deviation = a.std(axis=0)
    constant = deviation <= CONSTANT * np.abs(a).max(axis=0)
    units = np.where(constant, np.inf, deviation)
    weights: list[np.ndarray] = []
    for shape, f in zip(net.shapes, net.activations, strict=True):
        W = _orthonormal(draw, shape[0], shape[1] - 1) / units
        mean, last = a.mean(axis=0), len(weights) == net.layers - 1
        W *= _scale((a - mean) @ W.T, OUTPUT_SPREAD if last else SPREAD)
        h, bias = (a - mean) @ W.T, -(W @ mean)
        if not last:
            shift, a = _steepest(ops, f, h)
            bias += shift
        weights.append(np.concatenate([W, bias[:, None]], axis=1))
        units = np.ones(1)
    return weights


def _deviation(signal: np.ndarray) -> float:
    """Return the root of the mean variance of columns, (rows, units)."""
    return float(np.sqrt(signal.var(axis=0, dtype=np.float64).mean()))


def _orthonormal(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return a random matrix with orthonormal rows or, if it has more rows, columns."""
    draw = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draw)
    q *= np.where(r.diagonal() < 0.0, -1.0, 1.0)
    return q if rows >= columns else q.T


def _scale(h: np.ndarray, spread: float) -> float:
    deviation = float(np.sqrt(np.square(h).mean()))
    return spread / deviation if deviation > 0.0 else 1.0


def _steepest(ops: Backend, f: Activation, h: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the shift of centred pre-activations h that ``SHIFTS`` allows, and f(h + shift)."""
    best: tuple[float, float, np.ndarray] | None = None
    for shift in SHIFTS:
        moved = h + shift * SPREAD
        a = f.f(ops, moved.copy(), np.empty_like(h))
        slope = float(f.df(ops, moved, a, np.empty_like(h)).mean())
        if best is None or slope > STEEPER * best[0]:
            best = slope, shift * SPREAD, a
    assert best is not None
    return best[1], best[2]
