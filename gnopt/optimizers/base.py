"""What the training loop knows of a method: make a state, take a step, say what it costs."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from gnopt.aims import AUTO, OBJECTIVE, Aim
from gnopt.curvature.cost import Cost
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, Tape, forward, gradient
from gnopt.errors import SettingProblem
from gnopt.optimizers.timing import NullTimer, PhaseTimer
from gnopt.options import Settings, option

Stats = dict[str, float]  # one row of steps.csv: its columns differ by method


@dataclass
class Problem:
    """A network with its loss; ``rows`` is the number of training points, ``memory`` bounds
    temporaries in bytes, ``unit`` is the loss that the best constant predictor has above the floor,
    and ``output_scale`` the deviation of the targets if outputs are in their units.
    """

    net: Network
    loss: Loss
    seed: int
    rows: int
    memory: int = 512 << 20
    aim: Aim = OBJECTIVE
    unit: float = 1.0
    output_scale: float = 1.0


@dataclass(kw_only=True)
class State:
    """Everything that a method needs to go on bit for bit beside θ: arrays, numbers and records.

    A checkpoint stores a state field by field. ``eta`` is the weight decay η in use, ``average``
    the average of the iterates, where one is kept.
    """

    eta: float = 0.0
    average: Array | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Settings):
    """The options of every method."""

    averaging: float | str = option(
        AUTO,
        "decay of a moving average of the weights; each evaluation takes the average or the last "
        "weights, whichever is better; 0 = off; auto: as training.aim says",
        choices=(AUTO,),
        low=0.0,
        high=1.0,
        open_high=True,
    )

    def contradictions(self, loss: Loss) -> Iterator[SettingProblem]:
        """Yield settings that contradict each other, or cannot serve this loss; called when a
        configuration is checked.

        Here: a lowest value, ``NAME_min``, above the highest one, ``NAME_max``.
        """
        values = self.values()
        for name, low in values.items():
            other = f"{name.removesuffix('_min')}_max"
            high = values.get(other)
            numbers = isinstance(low, float) and isinstance(high, float)
            if name.endswith("_min") and numbers and low > high:
                key = f"optimizer.{name}"
                yield SettingProblem(key, f"{key} = {low:g}", f"at most {other} = {high:g}")


@dataclass(frozen=True)
class Claim:
    """Whether a method is the one to take for a problem, and why."""

    granted: bool
    reason: str


StateT = TypeVar("StateT", bound=State)


class Optimizer(ABC, Generic[StateT]):
    """The contract of a training method.

    The training loop calls ``init`` once, then ``batch_size`` and ``update`` for every update, and
    ``candidates`` where it evaluates; ``closing_weights`` is asked at the end of a run. An update
    runs each of its phases inside ``with self.timer(name):``; see ``timing``.
    """

    name: str = ""
    summary: str = ""
    other_names: tuple[str, ...] = ()  # what other programs call it; a hint names ours
    colour: str = ""  # "#RRGGBB", in every figure; without it, one that is free
    order: ClassVar[int] = 1
    exact_evidence: ClassVar[bool] = False  # of its own, better than trials of weight decay
    dtype: ClassVar[str] = "float32"  # precision in which a run computes unless it is told
    Settings: ClassVar[type[OptimizerSettings]] = OptimizerSettings
    state_type: ClassVar[type[State]] = State

    settings: OptimizerSettings

    def __init__(self, problem: Problem, settings: OptimizerSettings) -> None:
        self.problem = problem
        self.settings = settings
        self.workspace = Workspace(problem.net.ops, problem.net.dtype)
        self.timer: PhaseTimer = NullTimer()
        self.averaging: float = problem.aim.choose("averaging", settings.averaging)

    @classmethod
    def claim(cls, problem: Problem, seconds: float) -> Claim | None:
        """Return whether `method = "auto"` takes this method for the problem, in a run of so many
        seconds (0 = no limit); None for a method that is only taken by its name.
        """
        return None

    @abstractmethod
    def init(self, theta: Array) -> StateT:
        """Return the state before the first update."""

    def batch_size(self, state: StateT, base: int) -> int:
        """Return the rows of the next update, given the configured batch size."""
        return min(base, self.problem.rows)

    def first_batch(self, base: int) -> int:
        """Return the rows of the first update; later ones take no fewer."""
        return min(base, self.problem.rows)

    def largest_batch(self, base: int) -> int:
        """Return the most rows that an update may take."""
        return min(base, self.problem.rows)

    def place(self, examples: int) -> int:
        """Return where in the stream of rows the next batch begins, after ``examples`` rows."""
        return examples

    @property
    def keeps_rows(self) -> bool:
        """Whether every batch of a run is the same, so that it is loaded once."""
        return False

    def notes(self, base: int) -> list[str]:
        """Return lines that a user should read before the first update, given the configured batch
        size.
        """
        return []

    def finished(self, state: StateT) -> str:
        """Return why further updates cannot lower the objective, or "" while they may."""
        return ""

    @abstractmethod
    def update(self, theta: Array, state: StateT, x: Array, y: Array, step: int) -> Stats:
        """Change θ and the state by one update on a batch; return the row of the log.

        Raises Diverged where numbers are not finite and nothing helps.
        """

    def candidates(self, theta: Array, state: StateT) -> list[Array]:
        """Return the weights to evaluate, of which the best are handed out: θ, and the average of
        the iterates where one is kept.
        """
        return [theta] if state.average is None else [theta, state.average]

    def log_evidence(self, theta: Array, state: StateT, loss: float) -> float | None:
        """Return the log evidence (nats a row) of weights with this mean loss over the training
        rows, −∞ if it is not known yet, or None where the method has none.
        """
        return None

    def closing_weights(self, theta: Array, state: StateT, x: Array, y: Array) -> Array | None:
        """Return the weights to publish when a run ends, or None to publish ``candidates``.

        No batch has judged the last step yet, so a method may judge it by the batch (x, y) that
        would come next, and publish the weights before the step where the step made that batch's
        loss jump. θ and the state are left alone, so that the run can be resumed.
        """
        return None

    def usual_batch(self, base: int) -> int:
        """Return the rows at which the cost of an update is stated, given the configured batch
        size.
        """
        return min(base, self.problem.rows)

    @abstractmethod
    def cost(self, base: int) -> Cost:
        """Return what an average update at this batch size costs."""

    def period(self) -> int:
        """Number of updates after which the work of an update repeats; 1 where all are alike."""
        return 1

    def skip_to(self, state: StateT, updates: int) -> None:
        """Let the state count as that of a run after ``updates`` updates; weights and averages
        stay.

        Called by benchmarks, which time the updates of a long run without making all before them:
        early updates do more work than later ones.
        """

    def first_average(self, theta: Array) -> Array | None:
        """Return where the average of the iterates starts; None where none is kept."""
        return theta.copy() if self.averaging else None

    def average_iterates(self, theta: Array, state: StateT, step: int) -> None:
        """θ̄ ← d θ̄ + (1 − d) θ with d = min(averaging, 1 − 1/k) (Polyak), where averaging is on."""
        if state.average is None:
            return
        weight = min(self.averaging, 1.0 - 1.0 / step)
        state.average *= weight
        self.problem.net.ops.axpy(1.0 - weight, theta, state.average)


def block_rows(net: Network, memory: int) -> int:
    """Return the most rows of one block."""
    return max(64, min(net.ops.tape_bytes, memory // 2) // net.row_bytes())


def row_blocks(net: Network, rows: int, memory: int) -> Iterator[slice]:
    """Split rows into equal blocks whose tapes stay small, the last block first, so that the tape
    left over is that of the first data points.
    """
    count = -(-rows // block_rows(net, memory))
    edges = [rows * i // count for i in range(count + 1)]
    for start, stop in reversed(list(itertools.pairwise(edges))):
        yield slice(start, stop)


@dataclass
class BatchGradient:
    """A batch with its mean loss (0-d float64, on the device) and the flat gradient of that.

    ``W`` are the weights that it was computed at; ``tape`` is the forward pass of the rows
    ``held``, the first of the batch.
    """

    W: list[Array]
    x: Array
    y: Array
    loss: Array
    g: Array
    tape: Tape
    held: slice


def loss_and_gradient(
    problem: Problem, W: list[Array], x: Array, y: Array, out: Array, workspace: Workspace
) -> BatchGradient:
    """Compute the mean loss of a batch and its gradient, written into the flat ``out``.

    The batch is run through in blocks, so that memory does not grow with it.
    """
    net, xp = problem.net, problem.net.ops.xp
    views = net.views(out)
    total: Any = 0.0
    first = True
    for rows in row_blocks(net, len(x), problem.memory):
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
    return BatchGradient(W, x, y, total / len(x), out, tape, rows)


def mean_loss(problem: Problem, W: list[Array], x: Array, y: Array, workspace: Workspace) -> Array:
    """Return the mean loss over a batch (0-d float64, on the device)."""
    total: Any = 0.0
    for rows in row_blocks(problem.net, len(x), problem.memory):
        tape = forward(problem.net, W, x[rows], workspace)
        value = problem.loss.value(problem.net.ops, tape.output, y[rows])
        total = total + value.sum(dtype=problem.net.ops.xp.float64)
    return total / len(x)
