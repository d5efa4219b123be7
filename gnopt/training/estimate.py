"""Estimate what a run costs, and refuse a run that memory cannot hold, before it starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from gnopt.errors import GnoptError
from gnopt.optimizers.base import block_rows
from gnopt.training.setup import Experiment


@dataclass(frozen=True)
class CostEstimate:
    """Size and cost of a run at its largest batch; its fields are printed by ``--dry-run``."""

    parameters: int
    flops: float  # of one update
    bytes: dict[str, int]  # purpose → bytes on the device
    free: int  # bytes still free on the device
    host: dict[str, int]  # purpose → bytes in the host's memory, if the device has its own

    @property
    def total(self) -> int:
        """All bytes on the device."""
        return sum(self.bytes.values())

    def as_dict(self) -> dict[str, object]:
        """Return the fields and the total as plain values, for JSON."""
        return {**asdict(self), "total": self.total}


def estimate_cost(experiment: Experiment) -> CostEstimate:
    """Estimate the cost of ``experiment`` at its largest batch."""
    net, settings = experiment.net, experiment.config.training
    optimizer = experiment.optimizer
    cost = optimizer.cost(optimizer.usual_batch(settings.batch_size))
    weights = net.size * net.dtype.itemsize
    rows = optimizer.largest_batch(settings.batch_size)
    batch = 2 * rows * (net.sizes[0] + net.sizes[-1]) * net.dtype.itemsize
    tape = min(rows, block_rows(net, optimizer.problem.memory)) * net.row_bytes()
    temporary = 2 * weights + batch + 2 * tape + int(cost.temporaries)
    needs = {"weights": weights, "optimizer state": int(cost.state), "temporaries": temporary}
    held = {"data in memory": _held(experiment)}
    host = {} if net.ops.on_host else held
    return CostEstimate(
        net.size, cost.flops, needs if host else needs | held, net.ops.free_memory(), host
    )


def _held(experiment: Experiment) -> int:
    """Return the bytes of the rows that are held in memory; they were read before this estimate."""
    settings, data = experiment.config.data, experiment.data
    names = {settings.inputs, settings.targets, settings.weights}
    facts = [
        fact
        for name, fact in data.fingerprint.datasets.items()
        if names & {name, name.rpartition("/")[2]}
    ]
    held = all(split.in_memory for split in (data.train, data.validation, data.test) if split)
    return sum(math.prod(f.shape) * np.dtype(f.dtype).itemsize for f in facts) if held else 0


def refuse_too_large(cost: CostEstimate, experiment: Experiment) -> None:
    """Raise GnoptError if memory is too short, naming the bytes and the settings to change."""
    parts = {name: number for name, number in cost.bytes.items() if name != "data in memory"}
    needed = sum(parts.values())  # without the rows, which are in memory already
    if needed <= cost.free:
        return
    largest = max(parts, key=lambda name: parts[name])
    hints = {
        "weights": "network.hidden",
        "optimizer state": "network.hidden or another optimizer.method",
        "temporaries": "training.batch_size or network.hidden",
    }
    raise GnoptError(
        f"the run needs {needed:,} bytes and {cost.free:,} are free on "
        f"{experiment.config.training.device}; most of it, {parts[largest]:,}, "
        f'is {largest}: a smaller {hints[largest]}, or training.dtype = "float32", '
        "would make it fit"
    )


def check_memory(experiment: Experiment) -> None:
    """Estimate the cost of ``experiment`` and raise GnoptError if it does not fit into memory."""
    refuse_too_large(estimate_cost(experiment), experiment)
