"""Loss curves: the batches' loss along a run, smoothed, and averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.training.csv_table import read_columns

WINDOW = 10  # updates in the sliding mean, as in the paper
# The window covers at most this fraction of a run: over a short run, ten updates would hide how
# fast a method is.
FRACTION = 1 / 50


@dataclass(frozen=True)
class Curve:
    """The smoothed loss after each update; all arrays have the same length."""

    updates: np.ndarray  # updates made so far
    seconds: np.ndarray  # seconds of training so far
    loss: np.ndarray  # mean over the runs
    low: np.ndarray  # lowest of the runs
    high: np.ndarray  # highest of the runs
    runs: int = 1

    def __len__(self) -> int:
        return len(self.updates)


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the sliding mean over ``WINDOW`` values, over fewer at the start and in short runs."""
    window = max(1, min(WINDOW, int(len(values) * FRACTION)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def run_curve(path: Path) -> Curve:
    """Return the curve of one run directory, up to its last finite loss.

    A row of steps.csv holds the loss of the weights before its update. That loss belongs to the
    updates and seconds of the row before it.
    """
    columns = read_columns(path / "steps.csv", ("step", "seconds", "loss"))
    finite = np.isfinite(columns["loss"])
    count = len(finite) if finite.all() else int(np.argmin(finite))
    loss = smooth(columns["loss"][:count])
    seconds = np.concatenate([[0.0], columns["seconds"]])[:count]
    return Curve(columns["step"][:count] - 1, seconds, loss, loss, loss)


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Return mean, lowest and highest over curves, up to the end of the shortest; None if empty."""
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
    """Return the indices of about ``most`` points that keep a curve's form.

    Half of them are evenly spaced, for linear axes, and half geometrically, for logarithmic ones.
    """
    count = len(curve)
    if count <= most:
        return np.arange(count)
    even = np.linspace(0, count - 1, most // 2)
    growing = np.geomspace(1, count, most // 2) - 1
    return np.unique(np.concatenate([even, growing]).round().astype(int))
