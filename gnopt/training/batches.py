"""Load batches onto the device; on a GPU, read and upload the next batch during an update."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss

Batch = tuple[Array, Array]  # inputs and converted targets, on the device


class Batches:
    """The endless stream of training examples, as (inputs, converted targets) on the device.

    On a GPU a thread loads the batch that ``announce`` names. The data are not safe to read from
    two threads, so whoever reads them elsewhere calls ``settle`` first.
    """

    def __init__(self, split: Split, loss: Loss, ops: Backend) -> None:
        self.split, self.loss, self.ops = split, loss, ops
        self._threads = ThreadPoolExecutor(1, "batches") if ops.queued else None
        self._next: tuple[tuple[int, int], Future[tuple[Batch, Any]]] | None = None
        self._kept: tuple[tuple[int, int], Batch] | None = None

    def take(self, position: int, count: int, keep: bool = False) -> Batch:
        """Return ``count`` examples from ``position`` on; raises what reading them raises.

        As many examples as there are rows are all of the data. With ``keep`` the batch is loaded
        once, for a run whose batches are all the same.
        """
        if keep:
            if self._kept is None or self._kept[0] != (position, count):
                self._kept = (position, count), self._load(position, count)
            return self._kept[1]
        self.settle()
        announced, self._next = self._next, None
        if announced is None or announced[0] != (position, count):
            return self._load(position, count)
        batch, event = announced[1].result()
        self.ops.wait_for(event)
        return batch

    def announce(self, position: int, count: int) -> None:
        """Start to load the batch that ``take`` will probably want next; do nothing on the CPU."""
        if self._threads is not None:
            future = self._threads.submit(
                self.ops.upload_beside, lambda: self._load(position, count)
            )
            self._next = (position, count), future

    def settle(self) -> None:
        """Wait until the announced batch is loaded, so that the data may be read elsewhere."""
        if self._next is not None:
            _, loading = self._next
            loading.exception()  # waits; an error is raised by ``take`` if it wants this batch

    def close(self) -> None:
        """End the loading thread."""
        if self._threads is not None:
            self._threads.shutdown()

    def _load(self, position: int, count: int) -> Batch:
        if count == self.split.rows:  # from the first row of an epoch on, each row comes once
            position -= position % count
        x, y = self.split.batch(position, count)
        targets = self.loss.convert_targets(y)
        device_x = self.ops.asarray(x)

        def put(values: np.ndarray) -> Array:
            return device_x if np.may_share_memory(values, x) else self.ops.asarray(values)

        return device_x, self.loss.on_device(targets, put)
