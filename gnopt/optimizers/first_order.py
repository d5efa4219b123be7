"""What the first-order siblings share: the gradient, weight decay, the schedule, the guard and the
log row.
"""

from __future__ import annotations

from gnopt.engine.arrays import Array
from gnopt.errors import Diverged
from gnopt.optimizers.base import (
    AVERAGING,
    Optimizer,
    State,
    Stats,
    loss_and_gradient,
    training_flops,
)
from gnopt.optimizers.schedules import SCHEDULES, learning_rate
from gnopt.options import Option


def rate_options(default: float) -> tuple[Option, ...]:
    """The options every first-order method takes, with its default rate."""
    return (
        Option("learning_rate", default, "float", "step size ε", low=0.0, open_low=True),
        Option(
            "decay_period",
            0,
            "int",
            "updates after which the learning rate halves; 0 = never",
            low=0,
        ),
        Option(
            "schedule",
            "halving",
            "str",
            "; ".join(f"{k}: {v}" for k, v in SCHEDULES.items()),
            choices=tuple(SCHEDULES),
        ),
        Option(
            "weight_decay",
            0.0,
            "float",
            "η in the penalty ½ η ‖θ‖², added to the gradient",
            low=0.0,
        ),
        AVERAGING,
    )


class FirstOrder(Optimizer):
    """Template: a sibling defines ``init_moments`` and ``step``, the direction θ moves along."""

    order = 1
    moments = 0  # vectors of θ's size in the state

    def init(self, theta: Array) -> State:
        xp = self.problem.net.ops.xp
        state: State = {"moments": [xp.zeros_like(theta) for _ in range(self.moments)]}
        if self.settings["averaging"]:
            state["average"] = theta.copy()
        return state

    def update(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Stats:
        net, ops = self.problem.net, self.problem.net.ops
        g = self.workspace.take("gradient", (net.size,))
        with self.timer("passes"):
            loss, _, _ = loss_and_gradient(self.problem, net.views(theta), x, y, g, self.workspace)
        rate = learning_rate(
            self.settings["learning_rate"],
            self.settings["schedule"],
            self.settings["decay_period"],
            step,
        )
        with self.timer("vector"):
            if self.settings["weight_decay"]:
                g += theta * self.settings["weight_decay"]
            squared_gradient = ops.xp.vdot(g, g)
            delta = self.step(g, state["moments"], rate, step)
            theta += delta
            self.average_iterates(theta, state, step)
            loss_value, gg, dd = ops.scalars(loss, squared_gradient, ops.xp.vdot(delta, delta))
        if not (loss_value < float("inf") and dd < float("inf")):
            raise Diverged(
                f"update {step}: loss {loss_value:g}, step norm {dd**0.5:g}; "
                f"a smaller optimizer.learning_rate (now {rate:g}) may help"
            )
        return {
            "loss": loss_value,
            "grad_norm": gg**0.5,
            "step_norm": dd**0.5,
            "lr": rate,
            "batch": len(x),
        }

    def step(self, g: Array, moments: list[Array], rate: float, step: int) -> Array:
        """Return δ for gradient g; moments are updated in place. g may be overwritten."""
        raise TypeError(f"optimizer {type(self).__name__} does not define step")

    def cost(self, base: int) -> dict[str, float]:
        net = self.problem.net
        rows = self.batch_size({}, base)
        return {
            "flops": training_flops(net, rows) + (4.0 + 6.0 * self.moments) * net.size,
            "bytes": float(self.moments * net.size * net.dtype.itemsize),
        }
