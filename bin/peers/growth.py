"""How the cost of an update grows with batch, width, depth and outputs, and the exponent of each.

Everything is computed from all rows in every update (the variant ``kfra-full`` and its siblings),
so that the growth of each method's own work shows. The expected exponent is that of the formulas of
``flops`` over the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import get_backend
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import get_loss
from gnopt.engine.network import Network
from gnopt.optimizers import Optimizer, Problem, get_method, make
from gnopt.optimizers.timing import Stopwatch
from peers.problems import FULL, settings_of
from peers.rates import CLOCKS, Rates
from peers.tables import number, show

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "kfra": ("kfra", {}),
    "kfac": ("kfac", {}),
    "kflr": ("kflr", {}),
    "kflr-sketch": ("kflr", {"columns": 1}),
}
INPUTS = 256


@dataclass(frozen=True)
class Point:
    """A network of ``depth`` hidden layers of one width, with its batch."""

    batch: int = 250
    width: int = 256
    depth: int = 2
    outputs: int = 64

    @property
    def sizes(self) -> list[int]:
        """Widths from input to output."""
        return [INPUTS, *[self.width] * self.depth, self.outputs]


AXES: dict[str, list[Point]] = {
    "batch": [Point(batch=n) for n in (125, 250, 500, 1000, 2000, 4000)],
    "width": [Point(width=d) for d in (64, 128, 256, 512, 1024)],
    "depth": [Point(depth=l) for l in (1, 2, 4, 8, 16)],
    "outputs": [Point(outputs=k) for k in (8, 32, 128, 512)],
}
QUICK: dict[str, list[Point]] = {
    "batch": [Point(n, 32, 2, 8) for n in (64, 128)],
    "width": [Point(64, d, 2, 8) for d in (32, 64)],
    "depth": [Point(64, 32, l, 8) for l in (1, 2)],
    "outputs": [Point(64, 32, 2, k) for k in (4, 16)],
}
FIRST = 100


class _Runner:
    """One method at one point, with random data."""

    def __init__(self, point: Point, method: str) -> None:
        name, extra = METHODS[method]
        ops = get_backend("cpu")
        activations = [get_activation("tanh")] * point.depth + [get_activation("identity")]
        net = Network(point.sizes, activations, ops, "float32")
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((point.batch, INPUTS), dtype=np.float32)
        self.y = rng.random((point.batch, point.outputs), dtype=np.float32)
        # More rows exist than a batch holds, so that no step is judged as if the batch were all
        # there is.
        problem = Problem(net, get_loss("binary_cross_entropy"), 0, 10 * point.batch)
        self.optimizer: Optimizer[Any] = make(
            name, problem, settings_of(get_method(name).settings(), {**FULL, **extra})
        )
        self.theta = initialize(net.sizes, "glorot", np.random.default_rng(1), net.dtype)
        self.state = self.optimizer.init(self.theta)
        self.flops = self.optimizer.cost(point.batch).flops
        self.step = 0

    def update(self, kind: str) -> float:
        """Seconds of one update."""
        self.step += 1
        if self.step == 2:
            # Past the start, where other rules hold.
            self.optimizer.skip_to(self.state, FIRST)
        watch = Stopwatch(self.optimizer.problem.net.ops.synchronize, CLOCKS[kind])
        with watch("update"):
            self.optimizer.update(self.theta, self.state, self.x, self.y, FIRST + self.step)
        return watch.seconds["update"]


def measure(
    kind: str, quick: bool, tell: Callable[[str], None], repeats: int = 3
) -> list[dict[str, Any]]:
    """One row for every axis, point and method; points and methods are interleaved within an
    axis.
    """
    rates = Rates(get_backend("cpu"), np.float32, kind, size=200 if quick else 1000)
    found = []
    for axis, points in (QUICK if quick else AXES).items():
        tell(f"growth with {axis}")
        runners = {
            (point, method): _Runner(point, method) for point in points for method in METHODS
        }
        times: dict[Any, list[tuple[float, float]]] = {key: [] for key in runners}
        for repeat in range(repeats + 1):
            for key, runner in runners.items():
                seconds = runner.update(kind)
                if repeat:  # the first update also allocates
                    times[key].append((seconds, rates.gemm(1)))
        for (point, method), pairs in times.items():
            least = runners[point, method].flops
            found.append(
                {
                    "axis": axis,
                    "value": getattr(point, axis),
                    "method": method,
                    "seconds": median(s for s, _ in pairs),
                    "gflop": least * 1e-9,
                    "floor_seconds": median(least / (r * 1e9) for _, r in pairs),
                    "ratio_to_floor": median(s * r * 1e9 / least for s, r in pairs),
                }
            )
    return found


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measured and expected exponent of every axis and method.

    The measured one is that of the seconds in units of the moment's matrix products.
    """
    found = []
    for axis, method in dict.fromkeys((r["axis"], r["method"]) for r in rows):
        own = [r for r in rows if (r["axis"], r["method"]) == (axis, method)]
        values = [r["value"] for r in own]
        found.append(
            {
                "axis": axis,
                "method": method,
                "measured": exponent(values, [r["ratio_to_floor"] * r["gflop"] for r in own]),
                "expected": exponent(values, [r["gflop"] for r in own]),
            }
        )
    return found


def show_growth(rows: Sequence[dict[str, Any]]) -> None:
    """Print the exponents."""
    table = exponents(rows)
    methods = list(dict.fromkeys(r["method"] for r in table))
    lines = []
    for axis in dict.fromkeys(r["axis"] for r in table):
        own = {r["method"]: r for r in table if r["axis"] == axis}
        lines.append(
            [
                axis,
                *(f"{number(own[m]['measured'])} ({number(own[m]['expected'])})" for m in methods),
            ]
        )
    show(
        "Growth of an update's cost: exponent measured (that of the least work over the same "
        "points)",
        ["with", *methods],
        lines,
    )
