"""Thin long columns while they are read, so that a run of a million updates is drawn in seconds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.training.csv_table import read_rows

MOST = 2000  # groups of updates that a line is drawn through, at most
_BLOCK = 4096  # rows that are taken from the file at a time


@dataclass(frozen=True)
class Line:
    """What is drawn of a column: points in the order of the updates."""

    steps: np.ndarray
    values: np.ndarray  # finite

    @property
    def varies(self) -> bool:
        """Whether the column has more than one value."""
        return len(self.values) > 0 and bool(self.values.max() > self.values.min())

    @property
    def positive(self) -> bool:
        """Whether all values are above 0."""
        return bool((self.values > 0.0).all())


def read_lines(path: Path, names: Sequence[str], summed: Sequence[str] = ()) -> dict[str, Line]:
    """Return what is drawn of columns of steps.csv; those of ``summed`` are added up first.

    Up to twice ``MOST`` updates, all points are kept. Of more, neighbours are put in groups of
    equal size, and the lowest and the highest value of each are kept, so that no spike is lost. The
    memory needed does not grow with the file. Raises DataError for a cell that is not a number.
    """
    rows = read_rows(path, ["step", *names])
    groups = _Groups(1 + len(names))
    adding = [1 + names.index(name) for name in summed]
    sums = np.zeros(len(adding))
    while block := list(itertools.islice(rows, _BLOCK)):
        part = np.array(block)
        part[:, adding] = sums + np.cumsum(np.nan_to_num(part[:, adding]), axis=0)
        sums = part[-1, adding]
        groups.add(part)
    steps, *columns = groups.points().T
    return {
        name: Line(steps[known], values[known])
        for name, values in zip(names, columns, strict=True)
        for known in [np.isfinite(values)]
    }


class _Groups:
    """Lowest and highest values of groups of rows; groups grow with the number of rows."""

    def __init__(self, columns: int) -> None:
        self._low = self._high = self._rest = np.zeros((0, columns))
        self._size = 1  # rows of a group

    def add(self, rows: np.ndarray) -> None:
        """Add rows, (n, columns)."""
        rows = np.concatenate([self._rest, rows])
        whole = len(rows) // self._size
        self._rest = rows[whole * self._size :]
        grouped = rows[: whole * self._size].reshape(whole, self._size, -1)
        self._low = np.concatenate([self._low, np.fmin.reduce(grouped, axis=1)])
        self._high = np.concatenate([self._high, np.fmax.reduce(grouped, axis=1)])
        while len(self._low) > 2 * MOST:
            self._low = _pairs(self._low, np.fmin)
            self._high = _pairs(self._high, np.fmax)
            self._size *= 2

    def points(self) -> np.ndarray:
        """Return the points of all columns, (points, columns); the last group may be smaller."""
        low, high = self._low, self._high
        if len(self._rest):
            low = np.concatenate([low, np.fmin.reduce(self._rest)[None]])
            high = np.concatenate([high, np.fmax.reduce(self._rest)[None]])
        return low if self._size == 1 else np.stack([low, high], axis=1).reshape(-1, low.shape[1])


def _pairs(values: np.ndarray, choose: np.ufunc) -> np.ndarray:
    """Join neighbouring groups; a last one without a neighbour stays alone."""
    even = np.concatenate([values, values[-1:]]) if len(values) % 2 else values
    joined: np.ndarray = choose(even[0::2], even[1::2])
    return joined
