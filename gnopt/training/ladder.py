"""What a run that stands still tries, one step after the other, before it gives up with advice.

* At the loss of the best constant, or where numbers are not finite before it is left: another
  start, from new weights that are scaled to the data, with the method begun anew; at most
  ``training.restarts`` times.
* Below it, with steps that have collapsed: the method begun anew at the weights that it has, once.
* At last: a line that names what may help. The run goes on until its budget or its patience ends.

Every step is told in one line, which names the layer that holds the run up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from gnopt.engine.arrays import Array
from gnopt.errors import Diverged
from gnopt.optimizers.base import Stats
from gnopt.training.blame import blamed, inputs_vary, layer_facts
from gnopt.training.constant import ROWS, Constant, ConstantLoss
from gnopt.training.evaluate import evaluate
from gnopt.training.setup import Experiment
from gnopt.training.watch import Effort, Watch

# Share of the way from the constant to the floor within which a run has arrived, so that short
# steps are no reason to worry.
ARRIVED = 1e-2
RENEWALS = 1


@dataclass(frozen=True)
class Finding:
    """The line on a run that stands still, and what it does next.

    The run goes on from ``theta`` if there are such weights; ``anew`` says that the state of the
    method is made anew.
    """

    text: str
    theta: Array | None = None
    anew: bool = False


class Ladder:
    """Watches one run. All that it remembers is in ``watch``, which checkpoints hold.

    With ``keep``, for weights that were given by --init-from, it makes no other start.
    """

    def __init__(self, experiment: Experiment, watch: Watch, keep: bool) -> None:
        self.experiment, self.watch = experiment, watch
        self.constant: Constant | None = None
        self._reference: ConstantLoss | None = None
        self.restarts = 0 if keep else experiment.config.training.restarts
        self.effort = Effort.of(experiment.optimizer.order, experiment.data.train.rows)

    def observe(self, step: int, rows: int, stats: Stats) -> None:
        """Take note of update ``step``, made on a batch of so many rows."""
        self.watch.observe(self.effort, step, rows, stats)

    def dead(self, theta: Array, units: float) -> list[str]:
        """Return a line for each layer that has lost more than half of its units and was not spoken
        of in this start; ``units`` is the number of dead ones in all layers.

        One pass over some rows is made where there may be such a layer, and not again before there
        are a quarter more dead units.
        """
        e, watch = self.experiment, self.watch
        if not (2.0 * units > min(e.net.sizes[1:-1], default=0) and units >= 1.25 * watch.dead):
            return []
        watch.dead = units
        found = [layer for layer in layer_facts(e, theta) if layer.dead()]
        new = [layer for layer in found if layer.number not in watch.dead_layers]
        watch.dead_layers += [layer.number for layer in new]
        return [layer.dead() for layer in new]

    def due(self, step: int) -> bool:
        """Whether to look at the run before the update after ``step``."""
        return self.watch.due(self.effort, step)

    def look(self, theta: Array, step: int, examples: int) -> Finding | None:
        """Return what is to be done about a run that stands still, or None where it does not.

        ``examples`` is the number of rows that the run has seen. A run that clearly beats the
        constant costs a fetch of one number; another is evaluated.
        """
        watch, constant = self.watch, self.reference()
        finding = self._find(theta, step, examples, constant) if constant else None
        watch.look_again(step)
        return finding

    def _find(
        self, theta: Array, step: int, examples: int, constant: ConstantLoss
    ) -> Finding | None:
        ops, watch = self.experiment.ops, self.watch
        (squared,) = ops.scalars(ops.xp.vdot(theta, theta))
        collapsed = watch.collapsed(self.effort, step, sqrt(squared))
        suspicious = watch.suspicious(constant)
        if not (suspicious or collapsed) or watch.progresses(constant):
            return self._beaten(step) if not suspicious else None
        value = self._loss(theta)
        lowest = min(constant.loss, watch.origin)
        if ConstantLoss(lowest, constant.floor).no_better(value):
            if watch.given_up:
                return None
            return self._another_start(theta, step, examples, value, constant.loss)
        if collapsed and not watch.given_up and value > constant.floor + ARRIVED * constant.gap:
            watch.left = True
            return self._renewal(theta, step, value)
        return self._beaten(step)

    def _beaten(self, step: int) -> Finding | None:
        """Note that this start beats the constant; say so if advice was given before."""
        said, self.watch.left = self.watch.left, True
        if said or not self.watch.given_up:
            return None
        self.watch.given_up = False
        return Finding(f"update {step}: the loss has left the best constant's after all")

    def rescue(self, error: Diverged, step: int, examples: int) -> Finding | None:
        """Return another start for a run whose numbers stopped being finite before it beat the
        constant, or None.
        """
        constant = self.reference()
        if constant is None or self.watch.beats(constant) or self.watch.starts >= self.restarts:
            return None
        return self._fresh(str(error), step, examples)

    def settled(self) -> bool:
        """Whether this start has left the best constant or was looked at, so that a validation loss
        that no longer falls is no plateau of the first updates.
        """
        constant, watch = self.reference(), self.watch
        return constant is None or watch.since > watch.begun or watch.beats(constant)

    def reference(self) -> ConstantLoss | None:
        """Return the loss of the constant, or None if it is not known or cannot be beaten."""
        e = self.experiment
        if self._reference is None and self.constant is not None:
            self._reference = self.constant.loss_on(e.loss, e.ops, e.data.train, ROWS)
        return self._reference if self._reference and self._reference.gap > 0.0 else None

    def _fresh(self, text: str, step: int, examples: int) -> Finding:
        e, watch = self.experiment, self.watch
        theta = e.ops.asarray(e.scaled_weights(watch.starts + 1))
        watch.start_again(step, examples, self._loss(theta))
        return Finding(
            f"{text}; start {watch.starts + 1} begins, from new weights scaled to the data",
            theta,
            anew=True,
        )

    def _loss(self, theta: Array) -> float:
        e = self.experiment
        return evaluate(e.net, e.loss, theta, e.data.train, ROWS).loss

    def _another_start(
        self, theta: Array, step: int, examples: int, value: float, constant: float
    ) -> Finding:
        e, watch = self.experiment, self.watch
        passes = (examples - watch.begun_examples) / e.data.train.rows
        text = (
            f"update {step}: in {step - watch.begun} updates ({passes:.3g} epochs) the loss has "
            f"{'come back to' if watch.left else 'not left'} the best constant's: "
            f"{value:.6g} against {constant:.6g}"
        )
        if not inputs_vary(e):
            watch.given_up = True
            return Finding(f"{text}; the inputs are the same on every row")
        found = blamed(layer_facts(e, theta))
        text += f"; {found}" if found else ""
        if watch.starts >= self.restarts:
            watch.given_up = True
            return Finding(f"{text}; {self._advice(bool(found))}")
        return self._fresh(text, step, examples)

    def _renewal(self, theta: Array, step: int, value: float) -> Finding:
        watch = self.watch
        text = f"update {step}: steps are rejected or too short to matter, at a loss of {value:.6g}"
        found = blamed(layer_facts(self.experiment, theta))
        text += f"; {found}" if found else ""
        if watch.renewals >= RENEWALS or self.experiment.config.training.restarts == 0:
            watch.given_up = True
            return Finding(f"{text}; try training.dtype = float64 or a larger training.batch_size")
        watch.renewals += 1
        return Finding(f"{text}; damping, curvature and past directions begin anew", anew=True)

    def _advice(self, found: bool) -> str:
        """Return what a user may try where other starts have not helped."""
        data, network = self.experiment.config.data, self.experiment.config.network
        advice = ["another network.activation"]
        if len(network.hidden) > 1:
            advice.append("fewer layers")
        if data.standardize is False:
            advice.append("data.standardize = true")
        why = "" if found else "the inputs may tell no more about the targets; else "
        return f"{why}try {', '.join(advice)}"
