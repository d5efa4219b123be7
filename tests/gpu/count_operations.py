"""Count the operations that one update queues on a GPU, by phase; the double counts them, on any
machine.

    PYTHONPATH=tests python tests/gpu/count_operations.py [method ...]

The network is the 784-1000-500-250-30-250-500-1000-784 autoencoder in float32, with 1000 rows and
default periods. Counts are means of updates 41 to 50, after ten updates at the start. An operation
of CuPy may launch more than one kernel. About a minute a method.
"""

from __future__ import annotations

import sys

from cupy_double import COUNTERS, installed
from gpu_check import ACTIVATIONS, AUTOENCODER, problem

from gnopt.engine.arrays.cupy import CudaBackend
from gnopt.optimizers import methods
from gnopt.optimizers.timing import PHASES, Stopwatch

METHODS = ("adam", "kfra", "kfac")
FIRST, LAST = 41, 50


def count(ops: CudaBackend, method: str) -> dict[str, float]:
    """Return the mean number of operations in an update, by phase."""
    case = problem(AUTOENCODER, ACTIVATIONS, "float32", 1000)
    optimizer = case.optimizer(ops, method, columns=1, iterations=10)
    optimizer.timer = watch = Stopwatch(lambda: None, lambda: float(COUNTERS.calls))
    theta, x = ops.asarray(case.theta), ops.asarray(case.x)
    state = optimizer.init(theta)
    updates = [*range(1, 11), *range(FIRST, LAST + 1)]
    for k in updates:
        if k == FIRST:
            optimizer.skip_to(state, FIRST - 1)
            watch.reset()
        optimizer.update(theta, state, x, x, k)
    return {
        name: watch.seconds[name] / (LAST - FIRST + 1) for name in PHASES if name in watch.seconds
    }


def main() -> None:
    """Print the table."""
    chosen = sys.argv[1:] or METHODS
    unknown = set(chosen) - set(methods())
    if unknown:
        sys.exit(
            f"count_operations: no method {', '.join(sorted(unknown))}; there are "
            f"{', '.join(methods())}"
        )
    with installed():
        ops = CudaBackend(0)
        for method in chosen:
            found = count(ops, method)
            print(
                f"{method:18}{sum(found.values()):8.1f}  "
                + ", ".join(f"{k} {v:.1f}" for k, v in found.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
