"""Evaluate a network on a split of the data, a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, forward
from gnopt.engine.predictions import Gaussian, Noise, Residuals
from gnopt.errors import DataError
from gnopt.metrics import AnyMetric, Score, Scorer

CHUNK = 1000  # rows; fixed, so that a resumed run adds the same numbers in the same order
PLACES = 5  # of the file, at least, that a part of its rows comes from


@dataclass(frozen=True)
class Evaluation:
    """Means over ``rows`` data points."""

    loss: float  # the objective without weight decay
    error: float  # as the loss defines it
    floor: float  # the lowest objective that the targets allow
    rows: int
    scores: Mapping[str, Score] = field(default_factory=dict)  # by name of the metric
    noise: Noise | None = None  # what the residuals show, where the loss leaves it open


def chunks(split: Split, limit: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of ``split`` in file order, at most ``CHUNK`` at a time.

    ``limit`` of 0 yields all rows; otherwise about ``limit`` rows are spread over the file.
    """
    size = CHUNK
    starts: Sequence[int] = range(0, split.rows, size)
    if 0 < limit < split.rows:
        size = max(1, min(CHUNK, limit // PLACES))
        starts = range(0, split.rows, size)
        wanted = max(1, limit // size)
        starts = [starts[i * len(starts) // wanted] for i in range(wanted)]
    for start in starts:
        yield split.rows_at(start, min(start + size, split.rows))


def evaluate(
    net: Network,
    loss: Loss,
    theta: Array,
    split: Split,
    limit: int = 0,
    metrics: Iterable[AnyMetric] = (),
    noise: Noise | None = None,
) -> Evaluation:
    """Evaluate the network with weights θ on ``split``; `chunks` explains ``limit``.

    ``metrics`` apply to what the loss predicts, and score it with the variance ``noise``. Sums over
    data points are in float64. Raises DataError if a label exceeds the output layer.
    """
    views, ops = net.views(theta), net.ops
    total = np.zeros(3)
    rows = 0
    scorer = Scorer(metrics)
    residuals = Residuals() if issubclass(loss.predicts(net.sizes[-1]), Gaussian) else None
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
        if scorer.running or residuals is not None:
            prediction, truth = loss.predicted(ops, h), loss.truth(targets)
            if residuals is not None and isinstance(prediction, Gaussian):
                residuals.add(prediction, truth)
            scorer.add(noise.added(prediction) if noise else prediction, truth)
    mean = total / rows
    return Evaluation(
        float(mean[0]),
        float(mean[1]),
        float(mean[2]),
        rows,
        scorer.scores(),
        residuals.noise() if residuals is not None else None,
    )


def targets_for(loss: Loss, y: np.ndarray, outputs: int, split: str) -> np.ndarray:
    """Convert targets as ``loss`` wants them; DataError if they need more than ``outputs``.

    ``split`` names the rows in the error.
    """
    targets = loss.convert_targets(y)
    needed = loss.outputs(targets)
    if needed > outputs:
        raise DataError(
            f"targets of the {split} rows: need {needed} outputs, but the network has {outputs}"
        )
    return targets
