"""Batches on the device; on a GPU the next one is read and uploaded while an update is under
way.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss


class Batches:
    """(inputs, converted targets) at a position of the endless stream of training examples."""

    def __init__(self, split: Split, loss: Loss, ops: Backend) -> None:
        self.split, self.loss, self.ops = split, loss, ops
        self._threads = ThreadPoolExecutor(1, "batches") if ops.queued else None
        self._next: tuple[tuple[int, int], Future[Any]] | None = None

    def take(self, position: int, count: int) -> tuple[Array, Array]:
        """The batch, uploaded; raises what reading or conversion raises."""
        self.settle()
        announced, self._next = self._next, None
        if announced is None or announced[0] != (position, count):
            return self._load(position, count)
        batch, event = announced[1].result()
        self.ops.wait_for(event)
        return batch

    def announce(self, position: int, count: int) -> None:
        """Say which batch is likely to be next, to be read beside the update; ``settle`` before
        reading elsewhere.
        """
        if self._threads is not None:
            future = self._threads.submit(
                self.ops.upload_beside, lambda: self._load(position, count)
            )
            self._next = (position, count), future

    def settle(self) -> None:
        """Wait until the announced batch is read: nobody else reads the data meanwhile."""
        if self._next is not None:
            self._next[
                1
            ].exception()  # raised again by ``take``, if it is that batch that is wanted

    def close(self) -> None:
        """End the thread."""
        if self._threads is not None:
            self._threads.shutdown()

    def _load(self, position: int, count: int) -> tuple[Array, Array]:
        x, y = self.split.batch(position, count)
        targets = self.loss.convert_targets(y)
        device_x = self.ops.asarray(x)
        return device_x, device_x if np.may_share_memory(targets, x) else self.ops.asarray(targets)
