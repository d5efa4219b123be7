"""One split of the data: rows in memory or on disk, given out as batches of floats."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any

import numpy as np

from gnopt.data.hdf5 import Column
from gnopt.data.moments import Moments, Statistics, moments
from gnopt.data.order import Group, Order
from gnopt.notes import passing
from gnopt.weighting import WeightedTargets

# float64 bytes of one piece of a pass over all rows; fixed, so that sums are always the same.
_PASS_BYTES = 8 * 2**20
_HOLD_BYTES = 2**28  # of a piece that is read into memory for good
# Inputs and targets as stored, and weights.
_Raw = tuple[np.ndarray, "np.ndarray | None", "np.ndarray | None"]
_Loaded = tuple[Group, np.ndarray, _Raw]  # a group, the order of its rows, and the rows


class Split:
    """Rows of inputs and targets: ``batch`` in shuffled order, ``rows_at`` and ``chunks`` not.

    If ``in_memory``, rows are held in memory as they are stored (bytes stay bytes); otherwise they
    are read when asked for. Numbers and order are the same either way. Inputs are (n, D) in
    ``dtype``. Targets are (n,) int64 for labels, else (n, K) or (n,) in ``dtype``; if ``y`` is
    None, they are the inputs, the same array. Where rows have ``weights``, (rows,), targets come
    with them as `WeightedTargets`.
    """

    def __init__(
        self,
        name: str,
        x: Column,
        y: Column | None,
        order: Order,
        dtype: str,
        in_memory: bool,
        weights: np.ndarray | None = None,
    ) -> None:
        self.name, self.rows, self.inputs = name, x.rows, x.width
        self.in_memory, self.weights = in_memory, weights
        self.autoencoder = y is None  # the targets are the inputs
        self.statistics: Statistics | None = None
        self.parity = False  # give odd labels as 1, even ones as 0
        self._x, self._y, self._order, self._dtype = x, y, order, np.dtype(dtype)
        self._held = self._hold() if in_memory else None
        self._seen = in_memory  # whether every input was read, and so checked, once
        self._current: _Loaded | None = None
        self._next: tuple[int, Future[_Loaded]] | None = None  # position of its first row
        self._pool: ThreadPoolExecutor | None = None

    def batch(self, start: int, count: int) -> tuple[np.ndarray, Any]:
        """Return ``count`` examples from position ``start`` of the endless stream on.

        Position p belongs to epoch p // rows.
        """
        parts: list[_Raw] = []
        while count > 0:
            parts.append(self._take(start, count))
            start, count = start + len(parts[-1][0]), count - len(parts[-1][0])
        return self._convert(_joined(parts))

    def rows_at(self, start: int, stop: int) -> tuple[np.ndarray, Any]:
        """Return rows ``start .. min(stop, rows)`` in file order."""
        return self._convert(self._raw(start, min(stop, self.rows)))

    def chunks(self, rows_per_chunk: int) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield all rows in file order, ``rows_per_chunk`` at a time."""
        for start in range(0, self.rows, rows_per_chunk):
            yield self.rows_at(start, start + rows_per_chunk)

    def spread(self, count: int) -> tuple[np.ndarray, Any]:
        """Return about ``count`` rows in pieces that are spread over the file."""
        pieces = min(10, self.rows)
        size = max(1, count // pieces)
        starts = [self.rows * i // pieces for i in range(pieces)]
        ends = [*starts[1:], self.rows]
        parts = [
            self._raw(start, min(start + size, end))
            for start, end in zip(starts, ends, strict=True)
        ]
        return self._convert(_joined(parts))

    def targets(self, rows_per_chunk: int) -> Iterator[Any]:
        """Yield the targets of all rows in file order, ``rows_per_chunk`` at a time.

        Inputs that no pass has read yet are read, too, so that a bad number is met at the start.
        """
        what = (self._x if self._y is None else self._y).path
        for start in passing(range(0, self.rows, rows_per_chunk), f"reading the targets {what}"):
            stop = min(start + rows_per_chunk, self.rows)
            if self._y is None or not self._seen:
                yield self.rows_at(start, stop)[1]
            else:
                on_disk = self._held is None
                y = self._y.read(start, stop) if on_disk else self._raw(start, stop)[1]
                yield self._as_targets(self._y, y, self._weights_at(start, stop))

    def standardized(self, statistics: Statistics | None) -> Split:
        """Return the same rows with inputs standardised by other statistics, or by none.

        The rows in memory are shared, and the file stays that of this split: whoever closes the
        data ends both.
        """
        other = copy(self)
        other.statistics = statistics
        other._current = other._next = other._pool = None
        return other

    def moments(self) -> Moments:
        """Return mean, deviation and limits of each input, from one pass over the rows; each counts
        by its weight.
        """
        found = moments(self._all_inputs(), self._x.scale, self._x.dtype, self.weights)
        self._seen = True
        return found

    def close(self) -> None:
        """Wait for a read in progress, and free the rows."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._current = self._next = self._held = None

    # ---- rows as stored

    def _hold(self) -> _Raw:
        x = _whole(self._x)
        y = None if self._y is None else _whole(self._y)
        for array in (x, y):
            if array is not None:
                array.flags.writeable = False  # rows_at may return views
        return x, y, self.weights

    def _raw(self, start: int, stop: int) -> _Raw:
        weights = self._weights_at(start, stop)
        if self._held is not None:
            x, y, _ = self._held
            return x[start:stop], None if y is None else y[start:stop], weights
        y = None if self._y is None else self._y.read(start, stop)
        return self._x.read(start, stop), y, weights

    def _weights_at(self, start: int, stop: int) -> np.ndarray | None:
        return None if self.weights is None else self.weights[start:stop]

    def _all_inputs(self) -> Iterator[np.ndarray]:
        """Yield all inputs as stored, in pieces whose size depends on the width alone."""
        step = max(1, _PASS_BYTES // (8 * self._x.width))
        what = f"reading the inputs {self._x.path} for their mean and deviation"
        for start in passing(range(0, self.rows, step), what):
            stop = min(start + step, self.rows)
            yield self._x.read(start, stop) if self._held is None else self._held[0][start:stop]

    # ---- groups of the stream

    def _take(self, start: int, count: int) -> _Raw:
        """Copy up to ``count`` rows from position ``start`` on, no further than their group."""
        if self._current is None or not self._current[0].covers(start):
            self._current = None  # free its memory before the next group is loaded
            self._current = self._load(start)
            if self._held is None:
                self._prefetch(self._current[0].first + self._current[0].rows)
        group, order, (x, y, w) = self._current
        chosen = order[start - group.first : start - group.first + count]
        return (
            np.take(x, chosen, axis=0),
            None if y is None else np.take(y, chosen, axis=0),
            None if w is None else np.take(w, chosen),
        )

    def _load(self, position: int) -> _Loaded:
        group = self._order.at(position)
        if self._held is not None:
            return group, self._order.row_numbers(group), self._held
        if self._next is not None:
            first, future = self._next
            self._next = None
            if first == group.first:
                return future.result()
            future.cancel()
        return self._read(group)

    def _prefetch(self, position: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="gnopt-read")
        group = self._order.at(position)
        self._next = group.first, self._pool.submit(self._read, group)

    def _read(self, group: Group) -> _Loaded:
        x = self._x.empty(group.rows)
        y = None if self._y is None else self._y.empty(group.rows)
        w = None if self.weights is None else np.empty(group.rows)
        at = 0
        for block in group.blocks:
            start, stop = self._order.bounds(int(block))
            self._x.read_into(x, at, start, stop)
            if y is not None and self._y is not None:
                self._y.read_into(y, at, start, stop)
            if w is not None:
                w[at : at + stop - start] = self._weights_at(start, stop)
            at += stop - start
        return group, self._order.shuffle(group), (x, y, w)

    # ---- rows as floats

    def _convert(self, raw: _Raw) -> tuple[np.ndarray, Any]:
        x = _as_float(raw[0], self._x.scale, self._dtype, self.statistics)
        if self._y is None:
            return x, self._with_weights(x, raw[2])
        return x, self._as_targets(self._y, raw[1], raw[2])

    def _as_targets(self, column: Column, raw: np.ndarray | None, w: np.ndarray | None) -> Any:
        assert raw is not None
        if is_label(column):
            labels = raw.reshape(-1).astype(np.int64)
            return self._with_weights(labels % 2 if self.parity else labels, w)
        y = _as_float(raw, column.scale, self._dtype)
        return self._with_weights(y if column.shape else y.reshape(-1), w)

    def _with_weights(self, y: np.ndarray, w: np.ndarray | None) -> Any:
        if w is None:
            return y
        own = w.astype(self._dtype)
        return WeightedTargets(y, own, own)


def _whole(column: Column) -> np.ndarray:
    """Return all rows of a column as stored, read in large pieces."""
    step = max(1, _HOLD_BYTES // column.row_bytes)
    if step >= column.rows:
        return column.read(0, column.rows)
    buffer = column.empty(column.rows)
    for start in passing(range(0, column.rows, step), f"reading {column.path} into memory"):
        column.read_into(buffer, start, start, min(start + step, column.rows))
    return buffer


def _joined(parts: list[_Raw]) -> _Raw:
    """Return the rows of all parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    x, y, w = (
        None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
    )
    assert x is not None
    return x, y, w


def is_label(column: Column) -> bool:
    """Return whether targets are labels: one unscaled whole number (or boolean) a row."""
    return column.shape == () and column.dtype.kind in "biu" and column.scale == 1


def _as_float(
    raw: np.ndarray, scale: float, dtype: np.dtype[Any], statistics: Statistics | None = None
) -> np.ndarray:
    if scale == 1 and statistics is None:
        return np.ascontiguousarray(raw, dtype=dtype)
    small = raw.dtype.kind in "biu" and raw.dtype.itemsize <= 2 and 1e-30 < abs(scale) < 1e30
    if small and statistics is None:
        # Images: one pass in the narrow type is fast, and exact enough.
        scaled: np.ndarray = np.multiply(raw, dtype.type(scale), dtype=dtype, order="C")
        return scaled
    # A mean may be large against its deviation: subtract in float64.
    values: np.ndarray = np.multiply(raw, scale, dtype=np.float64, order="C")
    if statistics is not None:
        values -= statistics.mean
        values /= statistics.std
    return values.astype(dtype, copy=False)
