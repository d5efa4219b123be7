"""What this machine makes of matrix products at this moment, in GFLOP/s of float32 or the dtype in
use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gnopt.engine.arrays import Backend
from gnopt.optimizers.timing import Stopwatch

# Wall time as a user feels it, or the processor time of this process where other work disturbs.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
SIZE = 1000  # the widest layer of the deep autoencoder


class Rates:
    """gemm, syrk and potrf of square matrices of one size, called as the engine calls them."""

    def __init__(self, ops: Backend, dtype: Any, kind: str, size: int = SIZE) -> None:
        rng = np.random.default_rng(0)
        self.ops, self.kind, self.size = ops, kind, size
        self.a = ops.asarray(rng.standard_normal((size, size)).astype(dtype))
        self.b = ops.asarray(rng.standard_normal((size, size)).astype(dtype))
        self.out = ops.xp.empty_like(self.a)
        self.definite = ops.gram(self.a, 1.0 / size)
        self.definite.reshape(-1)[:: size + 1] += 1.0

    def gemm(self, repeats: int = 3) -> float:
        """2 n³ flops."""
        return self._best(lambda: self.ops.xp.matmul(self.a, self.b, out=self.out), 2.0, repeats)

    def syrk(self, repeats: int = 2) -> float:
        """n³ flops."""
        return self._best(lambda: self.ops.gram(self.a, 1.0, out=self.out), 1.0, repeats)

    def potrf(self, repeats: int = 2) -> float:
        """n³ / 3 flops."""
        return self._best(
            lambda: self.ops.cholesky(self.definite, "the benchmark's matrix"), 1.0 / 3.0, repeats
        )

    def all(self) -> dict[str, float]:
        """The three rates."""
        return {"gemm": self.gemm(), "syrk": self.syrk(), "potrf": self.potrf()}

    def _best(self, work: Callable[[], Any], cubes: float, repeats: int) -> float:
        best = float("inf")
        for _ in range(repeats):
            watch = Stopwatch(self.ops.synchronize, CLOCKS[self.kind])
            with watch("work"):
                work()
            best = min(best, watch.seconds["work"])
        return cubes * float(self.size) ** 3 / max(best, 1e-9) * 1e-9
