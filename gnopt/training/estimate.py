"""What a run will cost, before anything is allocated for it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gnopt.errors import GnoptError
from gnopt.optimizers.base import block_rows
from gnopt.training.setup import Experiment


@dataclass(frozen=True)
class CostEstimate:
    """Parameters, flops of one update, bytes by what they are for; ``free`` is what the device has
    left.

    ``host`` is what lies in the host's memory where that is not the device's.
    """

    parameters: int
    flops: float
    bytes: dict[str, int]
    free: int
    host: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of everything on the device."""
        return sum(self.bytes.values())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {**asdict(self), "total": self.total}


def estimate_cost(experiment: Experiment) -> CostEstimate:
    """Estimate the cost of ``experiment`` at its largest batch."""
    net, settings = experiment.net, experiment.config.training
    cost = experiment.optimizer.cost(settings.batch_size)
    weights = net.size * net.dtype.itemsize
    rows = experiment.optimizer.largest_batch(settings.batch_size)
    batch = 2 * rows * (net.sizes[0] + net.sizes[-1]) * net.dtype.itemsize
    tape = min(rows, block_rows(net, experiment.optimizer.problem.memory)) * net.row_bytes()
    temporary = 2 * weights + batch + 2 * tape + int(cost.temporaries)
    needs = {"weights": weights, "optimizer state": int(cost.state), "temporaries": temporary}
    held = {"data in memory": _held(experiment)}
    host = {} if net.ops.on_host else held
    return CostEstimate(
        net.size, cost.flops, needs if host else needs | held, net.ops.free_memory(), host
    )


def _held(experiment: Experiment) -> int:
    """Bytes of the rows that are held in memory (they already are, when a plan is made)."""
    settings, data = experiment.config.data, experiment.data
    names = {settings.inputs, settings.targets}
    facts = [
        fact
        for name, fact in data.fingerprint.datasets.items()
        if names & {name, name.rpartition("/")[2]}
    ]
    held = all(split.in_memory for split in (data.train, data.validation, data.test) if split)
    return sum(math.prod(f.shape) * np.dtype(f.dtype).itemsize for f in facts) if held else 0


def refuse_too_large(found: CostEstimate, experiment: Experiment) -> None:
    """GnoptError naming the bytes, and the settings that would make it fit, where memory is too
    short.
    """
    needed = found.total - found.bytes.get("data in memory", 0)  # the rows are in memory already
    if needed <= found.free:
        return
    parts = {name: number for name, number in found.bytes.items() if name != "data in memory"}
    largest = max(parts, key=lambda name: parts[name])
    hints = {
        "weights": "network.hidden",
        "optimizer state": "network.hidden or another optimizer.method",
        "temporaries": "training.batch_size or network.hidden",
    }
    raise GnoptError(
        f"the run needs {needed:,} bytes and {found.free:,} are free on "
        f"{experiment.config.training.device}; most of it, {parts[largest]:,}, "
        f'is {largest}: a smaller {hints[largest]}, or training.dtype = "float32", '
        "would make it fit"
    )


def check_memory(experiment: Experiment) -> None:
    """Raise GnoptError where the experiment would not fit into memory."""
    refuse_too_large(estimate_cost(experiment), experiment)
