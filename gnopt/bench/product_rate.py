"""What this machine makes of a matrix product at this moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from gnopt.engine.arrays import Backend

WIDTH = 1000  # about that of the widest layers that a processor trains
WIDTH_ON_DEVICE = 2048  # a GPU is not busy with much less


class ProductRate:
    """Times products of two square matrices, called as the engine calls them."""

    def __init__(
        self, ops: Backend, dtype: np.dtype, read: Callable[[], float] = time.perf_counter
    ) -> None:
        draw = np.random.default_rng(0)
        self.width = WIDTH_ON_DEVICE if ops.queued else WIDTH
        self._ops, self._read = ops, read
        shape = (self.width, self.width)
        self._a, self._b = (ops.asarray(draw.standard_normal(shape), dtype) for _ in range(2))
        self._out = ops.xp.empty_like(self._a)

    def measure(self, repeats: int = 2) -> float:
        """Return 2 n³ over the seconds of the fastest of ``repeats`` products: flops per second."""
        best = float("inf")
        for _ in range(repeats):
            self._ops.synchronize()
            start = self._read()
            self._ops.xp.matmul(self._a, self._b, out=self._out)
            self._ops.synchronize()
            best = min(best, self._read() - start)
        return 2.0 * float(self.width) ** 3 / max(best, 1e-9)
