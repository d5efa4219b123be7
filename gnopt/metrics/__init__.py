"""Metrics: how good predictions are, in the words of their users; one file each.

A metric scores predictions of one kind (`gnopt.engine.predictions`): of classes, numbers, normal
numbers or counts. It knows no loss: it applies to every loss that predicts this kind. A new file
that defines ``METRIC`` is found by itself.

Rows come in chunks::

    scorer = Scorer(applicable(loss.predicts(outputs)).values())
    for ...:
        scorer.add(loss.predicted(ops, h), loss.truth(targets), weight)
    scores = scorer.scores()             # {"accuracy": Score(0.93), ...}

The predictions may as well be an average of several networks (`Prediction.average`), and normal
ones get their variance by `Noise.added`. Every metric takes weights of rows: weight 2 means what
the row given twice would mean. Sums are in float64.

Read in this order: ``means``, ``tallies``; the metrics themselves do not know each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from gnopt.engine.predictions import Prediction
from gnopt.errors import ConfigError
from gnopt.registry import discover, suggestion

P = TypeVar("P", bound=Prediction)


@dataclass(frozen=True)
class Score:
    """What a metric says of some rows.

    ``value`` is its number; None where it has none, or where these rows do not define it. ``parts``
    has a number for each class or output, as `Prediction.part` says, or is empty. ``table`` is a
    matrix (C, C), or None.
    """

    value: float | None = None
    parts: tuple[float | None, ...] = ()
    table: np.ndarray | None = None


class Accumulator(Generic[P]):
    """The sums of one metric over chunks of rows."""

    def add(self, prediction: P, truth: np.ndarray, weight: np.ndarray) -> None:
        """Count a chunk of rows with their truth and their weights, (N,) float64."""
        raise NotImplementedError

    def result(self) -> Score:
        """Return the score of all rows so far."""
        raise NotImplementedError


class Metric(Generic[P]):
    """One metric.

    ``kind`` is the kind of prediction that it scores. ``scalar`` says that its score has a value;
    without it, only `gnopt evaluate` shows the metric. ``needs_noise`` says that it scores the
    variance too, so that the noise is chosen before it is computed. ``usual`` metrics are shown to
    those who train on a table and name none.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    other_names: ClassVar[tuple[str, ...]] = ()  # what others call it; a hint names ours
    kind: type[P]
    higher: ClassVar[bool] = False  # a higher value is a better one
    scalar: ClassVar[bool] = True
    usual: ClassVar[bool] = False
    needs_noise: ClassVar[bool] = False

    def applies(self, kind: type[Prediction]) -> bool:
        """Return whether predictions of ``kind`` can be scored."""
        return issubclass(kind, self.kind)

    def cost(self, value: float) -> float:
        """Return a number that is the lower the better ``value`` is."""
        return -value if self.higher else value

    @property
    def best(self) -> str:
        """Which value is the best one, in words that go before the name of the metric."""
        return "highest" if self.higher else "lowest"

    def start(self) -> Accumulator[P]:
        """Return sums over no rows yet."""
        raise NotImplementedError


AnyMetric = Metric[Any]  # a metric of any kind


class Scorer:
    """The sums of several metrics over the same rows."""

    def __init__(self, metrics: Iterable[AnyMetric]) -> None:
        self.running = {metric.name: metric.start() for metric in metrics}

    def add(
        self, prediction: Prediction, truth: np.ndarray, weight: np.ndarray | None = None
    ) -> None:
        """Count a chunk of rows; without ``weight``, (N,), each has weight 1.

        ``truth`` is what the loss compares predictions with (`Loss.truth`).
        """
        w = np.ones(len(truth)) if weight is None else np.asarray(weight, dtype=np.float64)
        for running in self.running.values():
            running.add(prediction, truth, w)

    def scores(self) -> dict[str, Score]:
        """Return the score of all rows so far by each metric's name."""
        return {name: running.result() for name, running in self.running.items()}


def all_metrics() -> dict[str, AnyMetric]:
    """Return every metric in this folder, by name."""
    return discover(__name__, "METRIC")


def scalar_metrics() -> dict[str, AnyMetric]:
    """Return the metrics whose score is a number, by name."""
    return {name: metric for name, metric in all_metrics().items() if metric.scalar}


def applicable(kind: type[Prediction]) -> dict[str, AnyMetric]:
    """Return the metrics that score predictions of ``kind``, by name."""
    return {name: metric for name, metric in all_metrics().items() if metric.applies(kind)}


def usual(kind: type[Prediction]) -> list[str]:
    """Return the names of the metrics that say first how good predictions of ``kind`` are: those
    made for just this kind, if there are any.
    """
    found = [metric for metric in applicable(kind).values() if metric.usual]
    own = [metric for metric in found if metric.kind is kind]
    return [metric.name for metric in own or found]


def get_metric(name: str) -> AnyMetric:
    """Return the metric called ``name``; ConfigError if there is none."""
    found = all_metrics()
    if name not in found:
        raise ConfigError(
            f"unknown metric '{name}'{suggestion(name, found)}; known: {', '.join(found)}"
        )
    return found[name]


def number(value: float | np.floating[Any]) -> float | None:
    """Return ``value`` as a score holds it: None for NaN, which says that it is not defined."""
    return None if np.isnan(value) else float(value)


def numbers(values: np.ndarray) -> tuple[float | None, ...]:
    """Return ``values``, (K,), as the parts of a score."""
    return tuple(number(value) for value in values)
