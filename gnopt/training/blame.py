"""Which layer holds a run up: one forward and one backward pass over some rows say what each does.

Called where a run stands still, and where units have died; never in an ordinary update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.engine.arrays import Array
from gnopt.engine.network import forward, gradient, slope
from gnopt.training.evaluate import targets_for
from gnopt.training.setup import Experiment

ROWS = 1000
LOST = 1e-3  # a signal that varies by less than this share of its size is lost,
FAINT = 1e-5  # and so is one that deviates by less than this
SATURATED = 1e-2  # mean slope |f'| of a layer whose units are saturated
VANISHED = 1e-6  # gradient of a layer against the largest of all layers


@dataclass(frozen=True)
class LayerFacts:
    """What one hidden layer does to some rows."""

    number: int
    activation: str
    units: int
    still: int  # units that give the same on every row
    zero: int  # those that give 0
    deviation: float  # of the outputs over the rows
    size: float  # root mean square of the outputs
    slope: float  # mean |f'|
    gradient: float  # norm of the gradient of W_l

    def dead(self) -> str:
        """Return a line where more than half of the units are dead, else nothing."""
        if 2 * self.still <= self.units:
            return ""
        same = "0" if self.zero == self.still else "the same"
        return (
            f"layer {self.number}: {self.still} of {self.units} {self.activation} units give "
            f"{same} on every row"
        )


def layer_facts(experiment: Experiment, theta: Array) -> list[LayerFacts]:
    """Return the facts of every hidden layer at weights θ, in one fetch from the device."""
    e, net, ops, xp = experiment, experiment.net, experiment.ops, experiment.ops.xp
    x, y = e.data.train.spread(ROWS)
    targets = targets_for(e.loss, y, net.sizes[-1], "train")
    W = net.views(theta)
    tape = forward(net, W, ops.asarray(x))
    device_y = e.loss.on_device(targets, ops.asarray)
    delta = e.loss.gradient(ops, tape.output, device_y) * (1.0 / len(x))
    g = xp.empty_like(theta)
    gradient(net, W, tape, delta, net.views(g))
    numbers = []
    for l, g_l in enumerate(net.views(g)[:-1], start=1):
        a = tape.abar[l][:, :-1]
        still = (a == a[0]).all(axis=0)
        numbers += [
            still.sum(),
            (still * (a[0] == 0.0)).sum(),
            a.var(axis=0, dtype=np.float64).mean(),
            (a * a).mean(dtype=np.float64),
            xp.abs(slope(net, tape, l)).mean(dtype=np.float64),
            xp.vdot(g_l, g_l),
        ]
    found = np.array(ops.scalars(*numbers)).reshape(-1, 6)
    names = e.config.network.activations
    return [
        LayerFacts(
            l + 1,
            names[l],
            net.sizes[l + 1],
            int(still),
            int(zero),
            float(np.sqrt(variance)),
            float(np.sqrt(square)),
            float(steepness),
            float(np.sqrt(squared)),
        )
        for l, (still, zero, variance, square, steepness, squared) in enumerate(found)
    ]


def inputs_vary(experiment: Experiment) -> bool:
    """Return whether the training inputs are not all the same, as some rows show it."""
    x, _ = experiment.data.train.spread(ROWS)
    return not bool((x == x[0]).all())


def blamed(layers: list[LayerFacts]) -> str:
    """Return what is wrong with the first layer in which something is, or nothing."""
    largest = max((layer.gradient for layer in layers), default=0.0)
    for layer in layers:
        if layer.dead():
            return layer.dead()
        if layer.deviation < max(LOST * layer.size, FAINT):
            return (
                f"layer {layer.number} loses the signal: its outputs of size {layer.size:.1g} "
                f"vary by {layer.deviation:.1g} over the rows"
            )
    for layer in layers:
        if layer.slope < SATURATED:
            return (
                f"layer {layer.number}: its {layer.activation} units are saturated, with a mean "
                f"slope of {layer.slope:.1g}"
            )
    for layer in reversed(layers):
        if layer.gradient < VANISHED * largest:
            return (
                f"layer {layer.number} and those below it hardly learn: its gradient is "
                f"{layer.gradient / largest:.1g} of the largest"
            )
    return ""
