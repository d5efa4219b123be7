"""What a round measures: methods, the bare forward and backward passes, and other programs."""

from __future__ import annotations

from math import lcm
from pathlib import Path
from typing import Any

from gnopt.benchmark import floors
from gnopt.benchmark.clock import Clock
from gnopt.benchmark.phases import driver
from gnopt.benchmark.problems import Net, Variant, batch, optimizer
from gnopt.optimizers.base import loss_and_gradient
from gnopt.optimizers.conjugate_gradient import GaussNewtonCG
from gnopt.optimizers.second_order import SecondOrder
from gnopt.training.rundir import RunDirectory
from gnopt.training.setup import Experiment

Seconds = dict[str, float]  # phase → seconds; "update" is the whole
FIRST = 100  # the update at which measuring begins: every period is in force by then
SETTLING = 3  # real updates before, so that every direction and average exists


class Subject:
    """Something that is timed once a round; ``cycle`` is the number of updates after which its work
    repeats.
    """

    name = ""
    note = ""
    cycle = 1
    every = 1  # rounds between measurements
    floor: floors.Floor = {}

    def measure(self, number: int) -> Seconds | None:
        """Seconds by phase in round ``number``; None if the round does not count."""
        raise TypeError(f"{type(self).__name__} does not define measure")


class Passes(Subject):
    """Loss and gradient alone: what every method does."""

    name = "forward+backward"
    note = "loss and gradient alone"

    def __init__(self, base: Experiment, net: Net, kind: str) -> None:
        self.base, self.rows, self.kind = base, net.batch, kind
        self.theta = base.initial_weights()
        self.g = base.ops.xp.empty_like(self.theta)
        every = floors.floor(base.optimizer, net.batch)
        self.floor = {"update": every["forward"] + every["backward"]}

    def measure(self, number: int) -> Seconds | None:
        x, y = batch(self.base, number * self.rows, self.rows)
        clock = Clock(self.kind, self.base.ops.synchronize)
        with clock.phase("update"):
            loss_and_gradient(
                self.base.optimizer.problem,
                self.base.net.views(self.theta),
                x,
                y,
                self.g,
                self.base.optimizer.workspace,
            )
        return clock.seconds


class Method(Subject):
    """A method in the middle of a run: one whole update, and one phase by phase, at the same update
    count.
    """

    def __init__(
        self, base: Experiment, net: Net, variant: Variant, kind: str, scratch: Path
    ) -> None:
        self.base, self.kind, self.rows = base, kind, net.batch
        self.name, self.note = variant.name, variant.note
        self.optimizer = optimizer(base, net, variant)
        self.floor = floors.floor(self.optimizer, net.batch)
        self.driver = driver(self.optimizer)
        if isinstance(self.optimizer, SecondOrder):
            cfg = self.optimizer.settings
            self.cycle = lcm(cfg["factor_period"], cfg.get("inverse_period", 1))
        self.every = 5 if isinstance(self.optimizer, GaussNewtonCG) else 1
        self.run = RunDirectory.create(
            scratch / f"{net.name}-{variant.name}", "", {}, overwrite=False
        )
        self.theta = base.initial_weights()
        self.state = self.optimizer.init(self.theta)
        for step in range(1, SETTLING + 1):
            x, y = batch(base, step * self.rows, self.rows)
            self.optimizer.update(self.theta, self.state, x, y, step)

    def measure(self, number: int) -> Seconds | None:
        step = FIRST + number
        order = (self._whole, self._phases) if number % 2 else (self._phases, self._whole)
        found: Seconds = {}
        for part in order:
            self._set_count(step)
            seconds = part(step)
            if seconds is None:
                return None
            found |= seconds
        return found

    def _set_count(self, step: int) -> None:
        if isinstance(self.optimizer, SecondOrder):
            self.state["accepted"] = step - 1
            self.state["factors"]["statistics"] = max(self.state["factors"]["statistics"], FIRST)

    def _whole(self, step: int) -> Seconds | None:
        x, y = batch(self.base, step * self.rows, self.rows)
        clock = Clock(self.kind, self.base.ops.synchronize)
        with clock.phase("update"):
            stats = self.optimizer.update(self.theta, self.state, x, y, step)
        return None if self._rejected(stats) else clock.seconds

    def _phases(self, step: int) -> Seconds | None:
        clock = Clock(self.kind, self.base.ops.synchronize)
        with clock.phase("data"):
            x, y = batch(self.base, (step + 1) * self.rows, self.rows)
        stats = self.driver(self.optimizer, clock, self.theta, self.state, x, y, step)
        with clock.phase("logging"):
            self.run.add_step({"step": step} | stats)
        return None if self._rejected(stats) else clock.seconds

    def _rejected(self, stats: dict[str, Any]) -> bool:
        return isinstance(self.optimizer, SecondOrder) and bool(stats.get("rejected"))

    def close(self) -> None:
        """Let go of the scratch run directory."""
        self.run.close()
