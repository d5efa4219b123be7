"""Targets that a loss takes, found by asking the loss.

No loss is known by name, so that tests serve any sibling.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import Loss
from gnopt.errors import DataError

OPS = NumpyBackend()


def width(loss: Loss, outputs: int) -> int:
    """Outputs that a loss takes where ``outputs`` are wanted."""
    return loss.outputs(
        loss.convert_targets(accepted(loss, np.random.default_rng(0), outputs, outputs))
    )


def least_width(loss: Loss) -> int:
    """The smallest output layer of a loss."""
    return width(loss, 1)


def targets(
    loss: Loss, rng: np.random.Generator, rows: int, outputs: int, soft: bool = False
) -> np.ndarray:
    """Converted targets drawn from the loss's own model, or of a kind that it accepts where it is
    not a likelihood; with ``soft``, grey ones where it accepts them.
    """
    if soft:
        for y in _soft(rng, rows, outputs):
            if (converted := _converted(loss, y)) is not None:
                return converted
    if loss.likelihood:
        return loss.sample(OPS, rng.standard_normal((rows, outputs)), rng)
    return loss.convert_targets(accepted(loss, rng, rows, outputs))


def accepted(loss: Loss, rng: np.random.Generator, rows: int, outputs: int) -> np.ndarray:
    """Targets, not yet converted, of the first kind that the loss does not refuse."""
    for y in (*_soft(rng, rows, outputs), *_hard(rng, rows, outputs)):
        if _converted(loss, y) is not None:
            return y
    raise AssertionError(
        f"loss {loss.name} refuses every kind of targets here; add the kind that it takes"
    )


def _soft(rng: np.random.Generator, rows: int, outputs: int) -> Iterator[np.ndarray]:
    yield rng.random((rows, outputs))
    yield rng.dirichlet(np.ones(outputs), rows)


def _hard(rng: np.random.Generator, rows: int, outputs: int) -> Iterator[np.ndarray]:
    bits = rng.integers(0, 2, (rows, outputs)).astype(float)
    yield bits
    yield 2.0 * bits - 1.0
    yield bits[:, :1]
    yield 2.0 * bits[:, :1] - 1.0
    yield rng.permutation(np.arange(rows) % outputs)[:, None].astype(float)  # labels


def _converted(loss: Loss, y: np.ndarray) -> np.ndarray | None:
    try:
        return loss.convert_targets(y)
    except DataError:
        return None
