"""What the training loop knows of a method: make a state, take a step, say what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import Network, Tape, forward, gradient
from gnopt.optimizers.timing import NullTimer, PhaseTimer
from gnopt.options import Option

State = dict[
    str, Any
]  # nested dicts and lists of arrays and plain numbers: what a checkpoint stores
Stats = dict[str, float]  # one row of steps.csv


@dataclass
class Problem:
    """A network with its loss; ``rows`` is the number of training points, ``memory`` bounds
    temporaries in bytes.
    """

    net: Network
    loss: Any
    seed: int
    rows: int
    memory: int = 512 << 20


class Optimizer:
    """The contract of a training method; ``state`` holds everything needed to go on bit for bit.

    An update runs each of its phases inside ``with self.timer(name):``; see ``timing``.
    """

    name: str = ""
    summary: str = ""
    options: tuple[Option, ...] = ()

    def __init__(self, problem: Problem, settings: dict[str, Any]) -> None:
        self.problem = problem
        self.settings = settings
        self.workspace = Workspace(problem.net.ops, problem.net.dtype)
        self.timer: PhaseTimer = NullTimer()

    def init(self, theta: Array) -> State:
        """The state before the first update."""
        raise TypeError(f"optimizer {type(self).__name__} does not define init")

    def batch_size(self, state: State, base: int) -> int:
        """Rows of the next update, given the configured batch size."""
        return min(base, self.problem.rows)

    def largest_batch(self, base: int) -> int:
        """The most rows that an update may take."""
        return self.batch_size({}, base)

    def update(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Stats:
        """Change θ and the state by one update on a batch; return the row of the log. Raises
        Diverged.
        """
        raise TypeError(f"optimizer {type(self).__name__} does not define update")

    def weights(self, theta: Array, state: State) -> Array:
        """The weights to evaluate: θ, or an average of the iterates."""
        average = state.get("average")
        return theta if average is None else average

    def closing_weights(self, theta: Array, state: State, x: Array, y: Array) -> Array | None:
        """At the end of a run, the weights to hand out instead of ``weights`` where the last step
        made the loss of the batch that would come next jump; θ and the state stay, so that the run
        can go on.
        """
        return None

    def cost(self, base: int) -> dict[str, float]:
        """Flops of one update at this batch size, bytes of the state, and of temporaries where they
        count.
        """
        raise TypeError(f"optimizer {type(self).__name__} does not define cost")

    def period(self) -> int:
        """Number of updates after which the work of an update repeats; 1 where all are alike."""
        return 1

    def skip_to(self, state: State, updates: int) -> None:
        """Let the state count as that of a run after ``updates`` updates; weights and averages
        stay.

        Called by benchmarks, which time the updates of a long run without making all before them:
        early updates do more work than later ones.
        """

    def average_iterates(self, theta: Array, state: State, step: int) -> None:
        """Polyak averaging: θ̄ ← d θ̄ + (1 − d) θ with d = min(averaging, 1 − 1/k), where it is
        on.
        """
        decay = self.settings["averaging"]
        if decay == 0.0:
            return
        weight = min(decay, 1.0 - 1.0 / step)
        state["average"] *= weight
        state["average"] += theta * (1.0 - weight)


AVERAGING = Option(
    "averaging",
    0.0,
    "float",
    "decay of Polyak averaging of the weights that are evaluated; 0 = off",
    low=0.0,
    high=1.0,
    open_high=True,
)


def block_rows(net: Network, memory: int) -> int:
    """The most rows of one block."""
    return max(64, min(net.ops.tape_bytes, memory // 2) // net.row_bytes())


def blocks(net: Network, rows: int, memory: int) -> Iterator[slice]:
    """Split rows into equal blocks whose tapes stay small, the last block first, so that the tape
    left over is that of the first data points.
    """
    count = -(-rows // block_rows(net, memory))
    edges = [rows * i // count for i in range(count + 1)]
    for start, stop in reversed(list(zip(edges[:-1], edges[1:], strict=True))):
        yield slice(start, stop)


def loss_and_gradient(
    problem: Problem, W: list[Array], x: Array, y: Array, out: Array, workspace: Workspace
) -> tuple[Array, Tape, slice]:
    """Mean loss (0-d float64, on the device), its gradient in the flat ``out``, and the tape of the
    first rows.

    The batch is run through in blocks, so that memory does not grow with it; the returned slice
    says which rows the tape holds.
    """
    net, xp = problem.net, problem.net.ops.xp
    views = net.views(out)
    total: Any = 0.0
    first = True
    for rows in blocks(net, len(x), problem.memory):
        tape = forward(net, W, x[rows], workspace)
        value, delta = problem.loss.value_and_gradient(net.ops, tape.output, y[rows])
        total = total + value.sum(dtype=xp.float64)
        delta *= 1.0 / len(x)
        if first:
            gradient(net, W, tape, delta, views, workspace)
            first = False
        else:
            part = workspace.take("gradient part", (net.size,))
            gradient(net, W, tape, delta, net.views(part), workspace)
            out += part
    return total / len(x), tape, rows


def mean_loss(problem: Problem, W: list[Array], x: Array, y: Array, workspace: Workspace) -> Array:
    """Mean loss over a batch (0-d float64, on the device)."""
    total: Any = 0.0
    for rows in blocks(problem.net, len(x), problem.memory):
        tape = forward(problem.net, W, x[rows], workspace)
        value = problem.loss.value(problem.net.ops, tape.output, y[rows])
        total = total + value.sum(dtype=problem.net.ops.xp.float64)
    return total / len(x)


def training_flops(net: Network, rows: int) -> float:
    """Flops of a forward and a backward pass: no gradient for the input is needed."""
    first = net.shapes[0][0] * net.shapes[0][1]
    return rows * (6.0 * net.size - 2.0 * first)
