"""Loss curves: the batches' loss along a run, smoothed, and averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
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


def validation_curve(path: Path) -> Curve:
    """Return the validation loss of one run directory at its evaluations; empty without one."""
    columns = read_columns(path / "eval.csv", ("step", "seconds", "validation_loss"))
    known = np.isfinite(columns["validation_loss"])
    step, seconds, loss = (values[known] for values in columns.values())
    return Curve(step, seconds, loss, loss, loss)


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Return mean, lowest and highest over curves, at the updates that all have; None if empty."""
    if not curves:
        return None
    common = reduce(np.intersect1d, [curve.updates for curve in curves])
    if not len(common):
        return None
    at = [np.searchsorted(curve.updates, common) for curve in curves]
    losses = np.array([curve.loss[i] for curve, i in zip(curves, at, strict=True)])
    seconds = np.mean([curve.seconds[i] for curve, i in zip(curves, at, strict=True)], axis=0)
    return Curve(
        common, seconds, losses.mean(axis=0), losses.min(axis=0), losses.max(axis=0), len(curves)
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
