"""What the first-order siblings share: the gradient, weight decay, the schedule, the guard and the
log row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gnopt.curvature import cost
from gnopt.curvature.cost import Cost
from gnopt.engine.arrays import Array
from gnopt.errors import Diverged
from gnopt.optimizers.base import Optimizer, OptimizerSettings, State, Stats, loss_and_gradient
from gnopt.optimizers.schedules import SCHEDULES, learning_rate
from gnopt.options import option


def rate(default: float) -> Any:
    """Declare the learning rate with a method's own default."""
    return option(default, "step size ε", low=0.0, open_low=True)


@dataclass(frozen=True, kw_only=True)
class FirstOrderSettings(OptimizerSettings):
    """The options that every first-order method takes."""

    learning_rate: float = rate(0.01)
    decay_period: int = option(0, "updates after which the learning rate halves; 0 = never", low=0)
    schedule: str = option(
        "halving",
        "; ".join(f"{k}: {v}" for k, v in SCHEDULES.items()),
        choices=tuple(SCHEDULES),
    )
    weight_decay: float = option(
        0.0,
        "η in the penalty ½ η ‖θ‖², in units of the loss of the best constant predictor",
        low=0.0,
    )


@dataclass
class FirstOrderState(State):
    """Moving averages of gradients, each of θ's size."""

    moments: list[Array]


class FirstOrder(Optimizer[FirstOrderState]):
    """Template: a sibling defines ``step``, the direction θ moves along."""

    order = 1
    moments: ClassVar[int] = 0  # vectors of θ's size in the state
    Settings = FirstOrderSettings
    state_type = FirstOrderState
    settings: FirstOrderSettings

    def init(self, theta: Array) -> FirstOrderState:
        xp = self.problem.net.ops.xp
        moments = [xp.zeros_like(theta) for _ in range(self.moments)]
        eta = self.problem.unit * self.settings.weight_decay
        return FirstOrderState(moments, eta=eta, average=self.first_average(theta))

    def update(self, theta: Array, state: FirstOrderState, x: Array, y: Array, step: int) -> Stats:
        net, ops = self.problem.net, self.problem.net.ops
        g = self.workspace.take("gradient", (net.size,))
        with self.timer("passes"):
            batch = loss_and_gradient(self.problem, net.views(theta), x, y, g, self.workspace)
        rate = learning_rate(
            self.settings.learning_rate,
            self.settings.schedule,
            self.settings.decay_period,
            step,
        )
        with self.timer("vector"):
            if state.eta:
                ops.axpy(state.eta, theta, g)
            squared_gradient = ops.xp.vdot(g, g)
            delta = self.step(g, state.moments, rate, step)
            theta += delta
            self.average_iterates(theta, state, step)
            loss_value, gg, dd = ops.scalars(
                batch.loss, squared_gradient, ops.xp.vdot(delta, delta)
            )
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

    def cost(self, base: int) -> Cost:
        net = self.problem.net
        passes = cost.forward(net.sizes, self.largest_batch(base)) + cost.backward(
            net.sizes, self.largest_batch(base)
        )
        return Cost({"passes": passes}, float(self.moments * net.size * net.dtype.itemsize))
