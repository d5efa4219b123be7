"""The objective along a run, smoothed and averaged over seeds, against updates and against
seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.training.csv_table import read_columns

WINDOW = 10  # updates in the sliding mean, as in the paper
# At most one in so many of a run's updates: over a short run, ten would hide a fast method.
SHARE = 50


@dataclass(frozen=True)
class Curve:
    """Equally long arrays: updates made, seconds they took, loss (mean, lowest and highest over
    runs).
    """

    updates: np.ndarray
    seconds: np.ndarray
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int = 1

    def __len__(self) -> int:
        return len(self.updates)


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean of the last ten values, of fewer at the beginning and in runs of less than 500."""
    window = max(1, min(WINDOW, len(values) // SHARE))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def run_curve(path: Path) -> Curve:
    """The curve of one run directory up to its last finite loss.

    The loss of a row is that of the weights before the row's update, so it belongs to the updates
    and the seconds of the row before.
    """
    columns = read_columns(path / "steps.csv", ("step", "seconds", "loss"))
    finite = np.isfinite(columns["loss"])
    count = len(finite) if finite.all() else int(np.argmin(finite))
    loss = smooth(columns["loss"][:count])
    seconds = np.concatenate([[0.0], columns["seconds"]])[:count]
    return Curve(columns["step"][:count] - 1, seconds, loss, loss, loss)


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Mean, lowest and highest over curves, up to the end of the shortest; None where there is
    nothing.
    """
    count = min((len(curve) for curve in curves), default=0)
    if not count:
        return None
    losses = np.array([curve.loss[:count] for curve in curves])
    seconds = np.mean([curve.seconds[:count] for curve in curves], axis=0)
    return Curve(
        curves[0].updates[:count],
        seconds,
        losses.mean(axis=0),
        losses.min(axis=0),
        losses.max(axis=0),
        len(curves),
    )


def thinned(curve: Curve, most: int = 150) -> np.ndarray:
    """Indices of at most ``most`` places of a curve that keep its form on linear and on logarithmic
    axes.
    """
    count = len(curve)
    if count <= most:
        return np.arange(count)
    even = np.linspace(0, count - 1, most // 2)
    growing = np.geomspace(1, count, most // 2) - 1
    return np.unique(np.concatenate([even, growing]).round().astype(int))
