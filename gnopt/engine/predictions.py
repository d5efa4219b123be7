"""What networks predict, in the terms of metrics: classes, numbers, normal numbers, counts.

A loss says which kind its networks predict (`Loss.predicts`) and turns outputs h into a record of
that kind (`Loss.predicted`). A metric says which kind it scores. Several networks are averaged by
`average`, whose result is a prediction like any other. All arrays are float64, on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

# Share of the rows that counts as not used up by the parameters, where these are too many.
LEAST_FREE = 0.01


class Prediction:
    """What one network, or an average of several, says of N data points."""

    part: ClassVar[str] = ""  # what one column stands for: "class" or "output"

    @classmethod
    def average(cls, predictions: Sequence[Self]) -> Self:
        """Return what several networks of equal weight say together of the same data points."""
        raise NotImplementedError

    def deviation(self) -> np.ndarray | None:
        """Return the standard deviation of each number, (N, K), or None if it is not known."""
        return None

    @classmethod
    def names_of(cls, names: Sequence[str], outputs: int) -> list[str]:
        """Return the name of each of the numbers that `Loss.prediction` returns of a row, as in
        `columns`, which explains ``names``; ``outputs`` is how many there are.
        """
        raise NotImplementedError

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the prediction as the columns of a table, (N,) each, by name.

        ``names`` are those of the classes, or of the targets; fewer where they have no names.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Classes(Prediction):
    """Log-probabilities of C classes, (N, C); as logarithms they lose nothing near 0 and 1.

    The truth is an array of labels (N,), whole numbers from 0, or of distributions (N, C).
    """

    log_probabilities: np.ndarray

    part = "class"

    @classmethod
    def of(cls, probabilities: np.ndarray) -> Self:
        """Return the prediction with these probabilities, (N, C)."""
        with np.errstate(divide="ignore"):
            return cls(np.log(np.asarray(probabilities, dtype=np.float64)))

    @classmethod
    def average(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean probabilities."""
        total = np.logaddexp.reduce([p.log_probabilities for p in predictions])
        return cls(total - np.log(len(predictions)))

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities, (N, C)."""
        probabilities: np.ndarray = np.exp(self.log_probabilities)
        return probabilities

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each data point, (N,); the first one of equals."""
        labels: np.ndarray = self.log_probabilities.argmax(axis=1)
        return labels

    @classmethod
    def names_of(cls, names: Sequence[str], outputs: int) -> list[str]:
        """One number is the probability of the second of two classes."""
        known = _named(names, max(2, outputs))
        return [f"probability {name}" for name in known[-outputs:]]

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the most probable class of each row, and the probability of every class."""
        probabilities = self.probabilities
        classes = probabilities.shape[1]
        named = zip(self.names_of(names, classes), probabilities.T, strict=True)
        known = np.array(_named(names, classes), dtype=object)
        return {"prediction": known[self.labels], **dict(named)}


@dataclass(frozen=True)
class Numbers(Prediction):
    """The mean of K numbers, (N, K); nothing is known of their distribution.

    The truth is an array (N, K).
    """

    mean: np.ndarray

    part = "output"

    @classmethod
    def average(cls, predictions: Sequence[Self]) -> Self:
        """Return the mean of the means."""
        return cls(np.mean([p.mean for p in predictions], axis=0))

    @classmethod
    def names_of(cls, names: Sequence[str], outputs: int) -> list[str]:
        return [f"prediction{end}" for end in cls._ends(names, outputs)]

    @staticmethod
    def _ends(names: Sequence[str], outputs: int) -> list[str]:
        return [""] if outputs == 1 else [f" {name}" for name in _named(names, outputs)]

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the mean and, where it is known, the standard deviation of every number."""
        outputs = self.mean.shape[1]
        found = dict(zip(self.names_of(names, outputs), self.mean.T, strict=True))
        deviation = self.deviation()
        if deviation is not None:
            ends = self._ends(names, outputs)
            found |= {f"std{end}": deviation[:, k] for k, end in enumerate(ends)}
        return found


@dataclass(frozen=True)
class Counts(Numbers):
    """The rates of K Poisson counts, (N, K)."""


@dataclass(frozen=True)
class Gaussian(Numbers):
    """Mean and variance of K independent normal numbers, (N, K) each.

    ``variance`` is None for a network that predicts the mean alone, until `Noise.added` gives it
    the noise that was measured.
    """

    variance: np.ndarray | None = None

    @classmethod
    def average(cls, predictions: Sequence[Self]) -> Self:
        """Return mean and variance of the mixture: the law of total variance.

        The variance is the mean variance plus the variance of the means, and None where that of
        one network is not known.
        """
        means = np.array([p.mean for p in predictions])
        known = [p.variance for p in predictions if p.variance is not None]
        variance = np.mean(known, axis=0) + means.var(axis=0) if len(known) == len(means) else None
        return cls(means.mean(axis=0), variance)

    def deviation(self) -> np.ndarray | None:
        return None if self.variance is None else np.sqrt(self.variance)


def _named(names: Sequence[str], count: int) -> list[str]:
    """Return ``count`` names: those there are, and numbers for the others."""
    return [names[k] if k < len(names) else str(k) for k in range(count)]


@dataclass(frozen=True)
class Noise:
    """The variance of targets about the means that a network predicts, (K,) float64.

    A loss such as squared error leaves it open. `of_residuals` is the one place that chooses it.
    """

    variance: np.ndarray

    @classmethod
    def of_residuals(
        cls, squares: np.ndarray, weight: float, rounding: np.ndarray, used: float = 0.0
    ) -> Noise:
        """Return the noise by the sums of squared residuals of each output, ``squares`` (K,).

        σ² = squares / (weight − used), where ``weight`` is the number of rows, or the sum of their
        weights, and ``used`` the number of parameters that were fitted to these rows (MacKay 1992):
        0 for rows that were not trained on, and ``LEAST_FREE`` of the rows count at least. σ² is no
        less than ``rounding``, (K,), the variance that the digits of the targets leave open.
        """
        free = max(weight - used, LEAST_FREE * weight)
        return cls(np.maximum(squares / free if free > 0.0 else 0.0 * squares, rounding))

    def added(self, prediction: Prediction) -> Prediction:
        """Return ``prediction`` with this variance if it is normal and has none of its own."""
        if not isinstance(prediction, Gaussian) or prediction.variance is not None:
            return prediction
        return Gaussian(prediction.mean, np.broadcast_to(self.variance, prediction.mean.shape))


class Residuals:
    """Sums of squared residuals over chunks of rows, from which the noise is chosen."""

    def __init__(self) -> None:
        self._squares = self._targets = np.zeros(1)
        self._weight, self._epsilon = 0.0, 0.0

    def add(self, prediction: Numbers, truth: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Count rows with the truth (N, K) and, unless all are 1, the weights ``weight`` (N,)."""
        w = np.ones(len(truth)) if weight is None else np.asarray(weight, dtype=np.float64)
        if truth.dtype.kind == "f":
            self._epsilon = float(np.finfo(truth.dtype).eps)
        y = np.asarray(truth, dtype=np.float64)
        self._squares = self._squares + w @ np.square(prediction.mean - y)
        self._targets = self._targets + w @ np.square(y)
        self._weight += float(w.sum())

    def noise(self, used: float = 0.0) -> Noise:
        """Return the noise that these residuals show; `Noise.of_residuals` explains ``used``."""
        tiny = np.finfo(np.float64).tiny
        rounding = self._epsilon**2 * self._targets / (self._weight or 1.0)
        return Noise.of_residuals(self._squares, self._weight, np.maximum(rounding, tiny), used)
