"""Exact KFLR's output factors, and others beside them, in a process of their own: seconds, least
flops, peak memory.

``python -m peers.exact_kflr NET ROWS METHOD QUICK CLOCK`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import Any

from gnopt.curvature import CurvatureSample, get_curvature
from gnopt.engine.arrays import Workspace
from gnopt.engine.network import forward
from gnopt.optimizers.timing import Stopwatch
from gnopt.rng import generator
from peers.children import run
from peers.problems import NETS, QUICK, Net, batches, experiment
from peers.rates import CLOCKS, Rates
from peers.tables import number, show

MOST, LONG = 4, 3.0  # repetitions, and the seconds after which there are no more


@dataclass(frozen=True)
class Task:
    """Factors by ``method`` on ``rows`` rows of a net."""

    net: str
    rows: int
    method: str = "kflr"
    quick: bool = False
    kind: str = "wall"


def factors(task: Task) -> dict[str, Any]:
    """Compute the factors, several times if that is quick, and report the best; rates are those
    around it.
    """
    net: Net = replace((QUICK if task.quick else NETS)[task.net], batch=task.rows)
    base = experiment(net, ("training.memory=256MB",))
    try:
        problem, kind = base.optimizer.problem, get_curvature(task.method)
        curvature = kind(kind.most_exact(kind.Settings()))
        x, y = batches(base).take(0, task.rows)
        W = base.net.views(base.initial_weights())
        sample = CurvatureSample(
            base.net,
            W,
            forward(base.net, W, x),
            base.loss,
            y,
            generator(0, "curvature", 1),
            problem.memory,
            workspace=Workspace(base.ops, base.net.dtype),
        )
        rates = Rates(base.ops, base.net.dtype, task.kind)
        times: list[tuple[float, float]] = []
        while len(times) < MOST and sum(seconds for seconds, _ in times) < LONG:
            before = rates.gemm()
            watch = Stopwatch(base.ops.synchronize, CLOCKS[task.kind])
            with watch("factors"):
                curvature.output_factors(sample)
            times.append((watch.seconds["factors"], 0.5 * (before + rates.gemm())))
    finally:
        base.data.close()
    seconds, rate = min(times, key=lambda pair: pair[0] * pair[1])
    least = curvature.flops(base.net, base.loss, task.rows)
    return {
        "net": task.net,
        "method": task.method,
        "rows": task.rows,
        "seconds": seconds,
        "gflop": least * 1e-9,
        "gflops_rate": rate,
        "ratio_to_floor": seconds * rate * 1e9 / least,
    }


def measure(nets: list[str], rows: int, quick: bool, kind: str) -> list[dict[str, Any]]:
    """Exact KFLR, and KFRA beside it, on every net, each in its own process."""
    found = []
    for net in nets:
        for method in ("kfra", "kflr"):
            ended = run(
                [
                    sys.executable,
                    "-m",
                    "peers.exact_kflr",
                    net,
                    str(rows),
                    method,
                    str(int(quick)),
                    kind,
                ]
            )
            found.append(json.loads(ended.output) | {"peak_megabytes": ended.peak_bytes / 1e6})
    return found


def show_exact(rows: list[dict[str, Any]]) -> None:
    """Print the rows of ``measure``."""
    show(
        "Output factors, exact KFLR beside KFRA",
        ["net", "method", "rows", "seconds", "GFLOP", "/ floor", "peak MB"],
        [
            [
                r["net"],
                r["method"],
                str(r["rows"]),
                number(r["seconds"]),
                number(r["gflop"]),
                number(r["ratio_to_floor"]),
                number(r["peak_megabytes"]),
            ]
            for r in rows
        ],
        "peak MB: of the whole process, data and network included; temporaries were allowed 256 MB",
    )


if __name__ == "__main__":
    print(
        json.dumps(
            factors(
                Task(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1", sys.argv[5])
            )
        )
    )
