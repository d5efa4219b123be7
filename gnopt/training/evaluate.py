"""Evaluate a network on a split of the data, a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, forward
from gnopt.engine.predictions import Gaussian, Noise, Prediction, Residuals
from gnopt.errors import DataError
from gnopt.metrics import AnyMetric, Score, Scorer

CHUNK = 1000  # rows; fixed, so that a resumed run adds the same numbers in the same order
PLACES = 5  # of the file, at least, that a part of its rows comes from


@dataclass(frozen=True)
class Evaluation:
    """Means over ``rows`` data points, each of which counts by its weight."""

    loss: float  # the objective without weight decay
    error: float  # as the loss defines it
    floor: float  # the lowest objective that the targets allow
    rows: int
    scores: Mapping[str, Score] = field(default_factory=dict)  # by name of the metric
    noise: Noise | None = None  # what the residuals show, where the loss leaves it open


def chunks(split: Split, limit: int = 0) -> Iterator[tuple[np.ndarray, Any]]:
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


@dataclass(frozen=True)
class Answer:
    """What a predictor says of a chunk of rows."""

    h: Array  # outputs whose loss counts, (N, K)
    y: Any  # targets as the split gives them
    predicted: Callable[[], Prediction]  # what metrics score


class Predictor(Protocol):
    """What is evaluated: a network with its weights, or several that predict together."""

    @property
    def loss(self) -> Loss:
        """The loss of all networks."""

    @property
    def ops(self) -> Backend:
        """The backend that computes them."""

    @property
    def outputs(self) -> int:
        """The width of the output layer."""

    def answers(self, split: Split, limit: int = 0) -> Iterator[Answer]:
        """Yield the answers on the rows that `chunks` yields."""


@dataclass(frozen=True)
class OneNetwork:
    """The predictor that is a single network with weights θ.

    ``noise`` is the variance that metrics score its predictions with.
    """

    net: Network
    loss: Loss
    theta: Array
    noise: Noise | None = None

    @property
    def ops(self) -> Backend:
        return self.net.ops

    @property
    def outputs(self) -> int:
        return self.net.sizes[-1]

    def answers(self, split: Split, limit: int = 0) -> Iterator[Answer]:
        views, ops = self.net.views(self.theta), self.net.ops
        for x, y in chunks(split, limit):
            h = forward(self.net, views, ops.asarray(x)).output
            yield Answer(h, y, partial(self._predicted, h))

    def _predicted(self, h: Array) -> Prediction:
        prediction = self.loss.predicted(self.net.ops, h)
        return self.noise.added(prediction) if self.noise else prediction


def evaluate(
    net: Network,
    loss: Loss,
    theta: Array,
    split: Split,
    limit: int = 0,
    metrics: Iterable[AnyMetric] = (),
    noise: Noise | None = None,
) -> Evaluation:
    """Evaluate the network with weights θ on ``split``, as `evaluate_predictor` does; metrics score
    it with the variance ``noise``.
    """
    return evaluate_predictor(OneNetwork(net, loss, theta, noise), split, limit, metrics)


def evaluate_predictor(
    predictor: Predictor, split: Split, limit: int = 0, metrics: Iterable[AnyMetric] = ()
) -> Evaluation:
    """Evaluate ``predictor`` on ``split``; `chunks` explains ``limit``.

    ``metrics`` apply to what the loss predicts. Sums over data points are in float64. Raises
    DataError if a label exceeds the output layer.
    """
    loss, ops, outputs = predictor.loss, predictor.ops, predictor.outputs
    total, weights = np.zeros(3), np.zeros(2)
    rows = 0
    scorer = Scorer(metrics)
    residuals = Residuals() if issubclass(loss.predicts(outputs), Gaussian) else None
    for answer in predictor.answers(split, limit):
        targets, h = targets_for(loss, answer.y, outputs, split.name), answer.h
        device_y = loss.on_device(targets, ops.asarray)
        sums = ops.scalars(
            loss.value(ops, h, device_y).sum(dtype=np.float64),
            loss.error(ops, h, device_y).sum(dtype=np.float64),
        )
        total += [*sums, float(loss.floor(targets).sum(dtype=np.float64))]
        weights += loss.totals(targets)
        rows += len(h)
        if scorer.running or residuals is not None:
            prediction, truth = answer.predicted(), loss.truth(targets)
            own = loss.weight_in_metrics(targets)
            if residuals is not None and isinstance(prediction, Gaussian):
                residuals.add(prediction, truth, own)
            scorer.add(prediction, truth, own)
    if not weights.all():
        raise DataError(
            f"the {rows:,} {split.name} rows of an evaluation all have weight 0: expected a row "
            "that counts"
        )
    return Evaluation(
        float(total[0] / weights[0]),
        float(total[1] / weights[1]),
        float(total[2] / weights[0]),
        rows,
        scorer.scores(),
        residuals.noise() if residuals is not None else None,
    )


def targets_for(loss: Loss, y: Any, outputs: int, split: str) -> Any:
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
