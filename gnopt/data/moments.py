"""Mean, deviation and range of each input, and whether they ask for standardised inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# No value of the training rows becomes larger than this when it is standardised: the deviation of
# a column with rare values, such as a flag of one row in 10,000, counts as a tenth of its reach.
FARTHEST = 10.0
# Above this root mean square of an input, initial weights of the usual size saturate every unit.
LARGE = 10.0
# Where every input deviates less, units start with nearly the same output for all rows; rare flags
# and dark pixels deviate as little, but reach 1.
TINY = 0.2
FLAG = 0.9
# If all numbers of a column are farther from 0 than this many deviations, their mean hides how the
# input varies.
SHIFTED = 2.0
# Deviations of two inputs in different units may be this far apart.
APART = 200.0
# Numbers that are stored as float64 were often computed, in more steps than one.
_COMPUTED = 1e-10


class Statistics(NamedTuple):
    """The shift and the scale that standardise each input: (x − mean) / std; (D,) float64."""

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Moments:
    """Mean, deviation and limits of each input over the training rows, (D,) float64 each.

    ``rounding`` is the deviation, as a share of the largest magnitude, that rounding alone may
    cause: a column that deviates no more is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rounding: float

    @property
    def constant(self) -> np.ndarray:
        """Whether each input is the same number in all rows, up to rounding."""
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        constant: np.ndarray = (self.deviation <= self.rounding * largest) | (self.low == self.high)
        return constant

    def statistics(self) -> Statistics:
        """Return what standardises the inputs.

        A constant input becomes 0. It is divided by its magnitude, or by 1 if this is larger, so
        that new rows with another number are no farther from 0 than they differ.
        """
        constant = self.constant
        same = constant & (self.low == self.high)
        mean = np.where(same, self.low, self.mean)
        std = np.where(constant, np.maximum(1.0, np.abs(mean)), self._bounded())
        return Statistics(mean, std)

    def why_standardize(self) -> str | None:
        """Return the column that asks for standardised inputs, in words, or None.

        Asked for by: a root mean square above ``LARGE``; deviations below ``TINY`` in all columns,
        unless a value is ``FLAG`` from its mean; a column ``SHIFTED`` deviations away from 0; a
        deviation ``APART`` from the largest one. The last two do not count where more than half of
        the columns have their least or their greatest value in common: these are in the same units,
        such as pixels with an empty border.
        """
        size = np.hypot(self.mean, self.deviation)
        worst = int(size.argmax())
        if size[worst] > LARGE:
            return f"column {worst} has a root mean square of {size[worst]:.3g}"
        varying = np.flatnonzero(~self.constant)
        if not len(varying):
            return None
        deviation = self._bounded()[varying]
        widest, narrowest = int(deviation.argmax()), int(deviation.argmin())
        if deviation[widest] < TINY and self._reach.max() < FLAG:
            return f"no column deviates by more than {deviation[widest]:.3g}"
        if _mostly_equal(self.low[varying]) or _mostly_equal(self.high[varying]):
            return None
        distance = np.maximum(self.low, -self.high)[varying]  # of the nearest value from 0
        shifted = int((distance / deviation).argmax())
        if distance[shifted] > SHIFTED * deviation[shifted]:
            column = varying[shifted]
            return (
                f"column {column} deviates by {deviation[shifted]:.3g} from its mean of "
                f"{self.mean[column]:.3g}"
            )
        if deviation[widest] > APART * deviation[narrowest]:
            return (
                f"column {varying[narrowest]} deviates by {deviation[narrowest]:.3g}, column "
                f"{varying[widest]} by {deviation[widest]:.3g}"
            )
        return None

    def _bounded(self) -> np.ndarray:
        """Return the deviations, raised where a value is farther than ``FARTHEST`` of them."""
        bounded: np.ndarray = np.maximum(self.deviation, self._reach / FARTHEST)
        return bounded

    @property
    def _reach(self) -> np.ndarray:
        """How far a value is from the mean at most."""
        reach: np.ndarray = np.maximum(self.high - self.mean, self.mean - self.low)
        return reach


def _mostly_equal(values: np.ndarray) -> bool:
    """Return whether one number occurs in two columns at least, and in more than half of them."""
    _, counts = np.unique(values, return_counts=True)
    return bool(counts.max() >= 2 and 2 * counts.max() > len(values))


def moments(
    blocks: Iterable[np.ndarray],
    scale: float,
    stored: np.dtype[Any],
    weights: np.ndarray | None = None,
) -> Moments:
    """Return the moments of all rows of ``blocks``, each (n, D) of the type ``stored``.

    A stored number times ``scale`` is the number that is meant. With ``weights``, (rows,), a row of
    weight 2 is the same as two rows, and one of weight 0 as none. Blocks are combined by the
    pairwise update of Chan, Golub & LeVeque (1983). Sums are kept in units of a power of 2 about
    the largest magnitude of each column, so that squares neither overflow nor become 0.
    """
    rows, unit = 0.0, np.array(np.finfo(np.float64).tiny)
    mean = square = np.array(0.0)
    low, high = np.array(np.inf), np.array(-np.inf)
    at = 0
    for block in blocks:
        values, w = np.multiply(block, scale, dtype=np.float64), None
        if weights is not None:
            w = weights[at : at + len(block)]
            at, values, w = at + len(block), values[w > 0.0], w[w > 0.0]
            if not len(values):
                continue
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        _, exponent = np.frexp(np.maximum(-low, high))
        grown = np.maximum(unit, np.ldexp(1.0, exponent - 1))
        mean, square, unit = mean * (unit / grown), square * (unit / grown) ** 2, grown
        values /= unit
        count = len(values) if w is None else float(w.sum())
        center = values.mean(axis=0) if w is None else w @ values / count
        delta, total = center - mean, rows + count
        mean = mean + delta * (count / total)
        values -= center
        if w is not None:
            values *= np.sqrt(w)[:, None]
        square = square + np.einsum("nd,nd->d", values, values)
        square = square + delta**2 * (rows * count / total)
        rows = total
    deviation = np.sqrt(square / rows)
    return Moments(mean * unit, deviation * unit, low, high, _rounding(stored))


def _rounding(stored: np.dtype[Any]) -> float:
    if stored.kind != "f":
        return float(np.finfo(np.float64).eps)
    return max(4.0 * float(np.finfo(stored).eps), _COMPUTED)
