"""What a round measures: methods, the bare forward and backward passes, and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gnopt.bench.timed_method import TimedMethod
from gnopt.optimizers.base import loss_and_gradient
from gnopt.optimizers.conjugate_gradient import GaussNewtonCG
from gnopt.optimizers.timing import Stopwatch
from gnopt.training.setup import Experiment
from peers.problems import Net, Variant, batches, optimizer
from peers.rates import CLOCKS

Seconds = dict[str, float]  # phase → seconds; "update" is the whole


class Subject:
    """Something that is timed once a round; ``cycle`` is the number of updates after which its work
    repeats.
    """

    name = ""
    note = ""
    cycle = 1
    every = 1  # rounds between measurements
    floor: Mapping[str, float] = MappingProxyType({})

    def measure(self, number: int) -> Seconds | None:
        """Seconds by phase in round ``number``; None if the round does not count."""
        raise TypeError(f"{type(self).__name__} does not define measure")


class Passes(Subject):
    """Loss and gradient alone: what every method does."""

    name = "forward+backward"
    note = "loss and gradient alone"

    def __init__(self, base: Experiment, net: Net, kind: str) -> None:
        self.base, self.rows, self.kind, self.batches = base, net.batch, kind, batches(base)
        self.theta = base.initial_weights()
        self.g = base.ops.xp.empty_like(self.theta)
        every = base.optimizer.cost(net.batch).phases
        self.floor = {"update": every["passes"]}

    def measure(self, number: int) -> Seconds | None:
        x, y = self.batches.take(number * self.rows, self.rows)
        watch = Stopwatch(self.base.ops.synchronize, CLOCKS[self.kind])
        with watch("update"):
            loss_and_gradient(
                self.base.optimizer.problem,
                self.base.net.views(self.theta),
                x,
                y,
                self.g,
                self.base.optimizer.workspace,
            )
        return watch.seconds


class Method(Subject):
    """A method in the middle of a run, timed whole and by phase."""

    def __init__(self, base: Experiment, net: Net, variant: Variant, kind: str) -> None:
        self.name, self.note = variant.name, variant.note
        method = optimizer(base, net, variant)
        self.floor = method.cost(net.batch).phases
        self.cycle = method.period()
        self.every = 5 if isinstance(method, GaussNewtonCG) else 1
        self._timed = TimedMethod(variant.name, method, base, batches(base), CLOCKS[kind])
        self._timed.settle()

    def measure(self, number: int) -> Seconds | None:
        update = self._timed.measure()
        return None if update.rejected else update.phases | {"update": update.seconds}
