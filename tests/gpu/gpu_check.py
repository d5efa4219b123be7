"""Compare CuPy with NumPy on this machine: the weights after the same updates of every method, then
the time of an update.

    python tests/gpu/gpu_check.py [--device cuda:N] [--quick]

The exit code is 1 where a method does not agree. ``bin/gpu-check`` runs the tests marked ``gpu``
first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import numpy as np
from gpu_case import Case

from gnopt.engine.arrays import Backend, get_backend
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import get_loss
from gnopt.errors import GnoptError
from gnopt.optimizers import get_method, methods

AUTOENCODER = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
ACTIVATIONS = ("tanh", "tanh", "tanh", "identity", "tanh", "tanh", "tanh")
SETTINGS = {
    "columns": 1,
    "iterations": 10,
}  # a sketch of KFLR: its exact factors take K = 784 backward passes
AGREEMENT = {
    "float64": 1e-6,
    "float32": 2e-2,
}  # of weights' changes, relative; rounding grows from update to update


def problem(sizes: tuple[int, ...], names: tuple[str, ...], dtype: str, rows: int) -> Case:
    """An autoencoder of random pictures: smooth, grey, in [0, 1]."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((12, sizes[0]))
    x = (1.0 / (1.0 + np.exp(-rng.standard_normal((rows, 12)) @ basis))).astype(dtype)
    return Case(
        sizes,
        names,
        get_loss("binary_cross_entropy"),
        x,
        x,
        initialize(sizes, "glorot", rng, dtype),
        dtype,
    )


def disagreement(case: Case, gpu: Backend, method: str, updates: int) -> float:
    """Distance of the weights after some updates, relative to how far they went."""
    _, here, _ = case.run(NumpyBackend(), method, updates, **SETTINGS)
    _, there, _ = case.run(gpu, method, updates, **SETTINGS)
    return float(np.linalg.norm(here - there) / max(np.linalg.norm(here - case.theta), 1e-30))


def milliseconds(case: Case, ops: Backend, method: str, warm: int, timed: int) -> float:
    """Median time of an update, the device's work included."""
    optimizer = case.optimizer(ops, method, **SETTINGS)
    theta, x = ops.asarray(case.theta.copy()), ops.asarray(case.x)
    state: Any = optimizer.init(theta)
    times = []
    for k in range(1, warm + timed + 1):
        ops.synchronize()
        start = time.perf_counter()
        optimizer.update(theta, state, x, x, k)
        ops.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[warm:])


def main(argv: list[str] | None = None) -> int:
    """Print both tables; 1 where something does not agree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--quick", action="store_true", help="a small network")
    given = parser.parse_args(argv)
    try:
        gpu = get_backend(given.device)
    except GnoptError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return error.exit_code
    facts = ", ".join(f"{name} {value}" for name, value in gpu.versions().items())
    print(f"{gpu.device}: {facts}, {gpu.free_memory() / 2**30:.1f} GiB free\n")
    failed = agreement(gpu)
    sizes, rows = ((64, 32, 8, 32, 64), 64) if given.quick else (AUTOENCODER, 1000)
    names = ACTIVATIONS[: len(sizes) - 2]
    warm, timed = (1, 2) if given.quick else (12, 20)
    case = problem(sizes, names, "float32", rows)
    print(f"\nmilliseconds an update, {'-'.join(map(str, sizes))}, {rows} rows, float32")
    print(f"{'method':18}{'NumPy':>10}{'CuPy':>10}{'ratio':>8}")
    for method in methods():
        here = milliseconds(case, NumpyBackend(), method, 1, 2 if given.quick else 5)
        there = milliseconds(case, gpu, method, warm, timed)
        print(f"{method:18}{here:10.1f}{there:10.2f}{here / there:8.1f}", flush=True)
    print(
        f"\n{len(failed)} of the methods disagree: {', '.join(failed)}"
        if failed
        else "\nevery method agrees"
    )
    return 1 if failed else 0


def agreement(gpu: Backend) -> list[str]:
    """Print how far every method's weights are from NumPy's; the methods that are too far."""
    failed = []
    print(f"{'distance from NumPy':22}" + "".join(f"{dtype:>12}" for dtype in AGREEMENT))
    for method in methods():
        row = []
        for dtype, limit in AGREEMENT.items():
            found = disagreement(
                problem((40, 24, 8, 24, 40), ("tanh", "tanh", "sigmoid"), dtype, 200),
                gpu,
                method,
                4,
            )
            row.append(found)
            if not found <= limit:
                failed.append(method)
        order = "first" if get_method(method).order == 1 else "second"
        print(
            f"{method:22}" + "".join(f"{value:12.1e}" for value in row) + f"  {order} order",
            flush=True,
        )
    return sorted(set(failed))


if __name__ == "__main__":
    sys.exit(main())
