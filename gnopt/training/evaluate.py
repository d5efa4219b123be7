"""The objective and error of a network on a split, in chunks of one fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, forward
from gnopt.errors import DataError

CHUNK = 1000  # always the same, so that a resumed run adds the same numbers in the same order


@dataclass(frozen=True)
class Evaluation:
    """Means over ``rows`` data points: objective without weight decay, error, and the objective's
    floor.
    """

    loss: float
    error: float
    floor: float
    rows: int


def chunks(split: Split, limit: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of ``split`` in file order, a chunk at a time: all, or about ``limit`` spread over the
    file.
    """
    starts: Sequence[int] = range(0, split.rows, CHUNK)
    if 0 < limit < split.rows:
        wanted = max(1, limit // CHUNK)
        starts = [starts[i * len(starts) // wanted] for i in range(wanted)]
    for start in starts:
        yield split.rows_at(start, min(start + min(CHUNK, limit or CHUNK), split.rows))


def evaluate(net: Network, loss: Loss, theta: Array, split: Split, limit: int = 0) -> Evaluation:
    """Evaluate θ on ``split`` (see `chunks` for ``limit``), with float64 sums over data points."""
    views, ops = net.views(theta), net.ops
    total = np.zeros(3)
    rows = 0
    for x, y in chunks(split, limit):
        targets = targets_for(loss, y, net.sizes[-1], split.name)
        h = forward(net, views, ops.asarray(x)).output
        device_y = ops.asarray(targets)
        sums = ops.scalars(
            loss.value(ops, h, device_y).sum(dtype=np.float64),
            loss.error(ops, h, device_y).sum(dtype=np.float64),
        )
        total += [*sums, float(loss.floor(targets).sum(dtype=np.float64))]
        rows += len(x)
    mean = total / rows
    return Evaluation(float(mean[0]), float(mean[1]), float(mean[2]), rows)


def targets_for(loss: Loss, y: np.ndarray, outputs: int, split: str) -> np.ndarray:
    """Converted targets; DataError where they need a wider output layer than the network has."""
    targets = loss.convert_targets(y)
    needed = loss.outputs(targets)
    if needed > outputs:
        raise DataError(
            f"targets of the {split} rows: need {needed} outputs, but the network has {outputs}"
        )
    return targets
