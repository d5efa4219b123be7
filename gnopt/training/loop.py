"""The training loop: take a batch, update, log; evaluate and save when due; stop at the budget."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from gnopt import machine
from gnopt.data.split import Split
from gnopt.engine.arrays import Array
from gnopt.errors import Diverged, GnoptError, Interrupted
from gnopt.optimizers.base import State
from gnopt.training import checkpoint
from gnopt.training.advice import batch_notes, scale_notes
from gnopt.training.batches import Batches
from gnopt.training.constant import Constant, ConstantLoss, best_constant, shortcomings
from gnopt.training.evaluate import Evaluation, evaluate
from gnopt.training.ladder import Finding, Ladder
from gnopt.training.rundir import RunDirectory, resume_command
from gnopt.training.setup import Experiment
from gnopt.training.signals import Signals
from gnopt.training.state import to_tree
from gnopt.training.watch import Watch

# A run has diverged if one of these is not finite. In other columns NaN means "not applicable".
_GUARDED = ("loss", "grad_norm", "step_norm")


@dataclass
class Counters:
    """The position of a run; every checkpoint stores it, and a resumed run continues from it."""

    step: int = 0  # updates made
    examples: int = 0
    seconds: float = 0.0  # of updates alone
    wall: float = 0.0  # seconds since the start, with evaluation and checkpoints
    # Lowest validation loss (training loss without validation rows) among the checkpoints on the
    # regular schedule, and its step.
    best: float = math.inf
    best_step: int = 0


Row = dict[str, float | None]  # a row of steps.csv or eval.csv; None where a number is missing


class Reporter:
    """The loop calls these methods as it goes. The base class does nothing; subclasses print."""

    def begin(self, experiment: Experiment, run: RunDirectory, counters: Counters) -> None:
        """Called before the first update."""

    def update(self, counters: Counters, row: Row) -> None:
        """Called after each update; ``row`` is its row of steps.csv."""

    def evaluated(self, counters: Counters, row: Row, floor: float) -> None:
        """Called after each evaluation; ``row`` is its row of eval.csv."""

    def note(self, text: str) -> None:
        """Called with a line of text that the user should see."""

    def end(self) -> None:
        """Called once when the loop is over, even after an error."""


@dataclass
class TrainingOutcome:
    """The evaluation of the weights that a finished run published, and its counters."""

    counters: Counters
    train: Evaluation
    validation: Evaluation | None
    # Loss of the best constant predictor on the same rows, where it is known.
    train_constant: ConstantLoss | None = None
    validation_constant: ConstantLoss | None = None

    def losses(self) -> dict[str, float]:
        """Return the attributes of a checkpoint that say how good its weights are."""
        found = {"train_loss": self.train.loss}
        if self.validation:
            found["validation_loss"] = self.validation.loss
        for name, constant in self._constants():
            found |= {f"{name}_constant": constant.loss, f"{name}_floor": constant.floor}
        return found

    def _constants(self) -> list[tuple[str, ConstantLoss]]:
        pairs = ("train", self.train_constant), ("validation", self.validation_constant)
        return [(name, constant) for name, constant in pairs if constant is not None]

    def shortcomings(self) -> list[str]:
        """Return a line for the training and one for the validation rows on which the network is no
        better than a constant.
        """
        return shortcomings(self.losses())


class Trainer:
    """One run: its experiment, directory, weights, optimizer state and counters.

    ``train`` continues from the counters to the end of the budget, so a new run and a resumed run
    take the same path. ``clock`` returns seconds; the budget ``training.max_seconds`` and all times
    in the logs are counted by it. ``time.process_time`` makes runs comparable on a busy machine.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunDirectory,
        theta: Array,
        state: State,
        counters: Counters,
        watch: Watch,
        reporter: Reporter,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self.experiment, self.run, self.reporter = experiment, run, reporter
        self.theta, self.state, self.counters = theta, state, counters
        self.watch = watch
        self.saved: Path | None = checkpoint.pointed(run.checkpoints, "latest")
        self._settings = experiment.config.training
        self._batches = Batches(experiment.data.train, experiment.loss, experiment.ops)
        # The weights to publish instead of those after the last step; see `_close`.
        self._closing: Array | None = None
        self._constant: Constant | None = None
        self._constants: dict[str, ConstantLoss] = {}  # by the name of a split
        self._ladder = Ladder(experiment, watch, bool(run.info.get("init_from")))
        self._started = self._clock() - counters.wall

    def first_notes(self) -> list[str]:
        """Return lines that a user should read before the first update."""
        e, batch = self.experiment, self._settings.batch_size
        notes = [*scale_notes(e), *batch_notes(e, e.optimizer.batch_size(self.state, batch))]
        return [e.start_note, *notes] if e.start_note else notes

    def finished(self) -> bool:
        """Return whether the budget is used up."""
        limit = self._settings.max_seconds
        return self.counters.step >= self._settings.updates or 0 < limit <= self.counters.seconds

    def train(self) -> TrainingOutcome:
        """Train to the end of the budget and return the final evaluation.

        Raises Diverged, naming the last good checkpoint, if numbers are not finite, and Interrupted
        after a signal, once a checkpoint is written.
        """
        outcome: TrainingOutcome | None = None
        try:
            with Signals() as signals:
                e = self.experiment
                self._constant = best_constant(e.loss, e.ops, e.target_mean, e.data.train)
                self._ladder.constant = self._constant
                if self.counters.step == 0:
                    outcome = self._evaluate()
                    self._show_constant(outcome)
                    self._save(outcome)
                while not self.finished() and not signals.received:
                    if self._ladder.due(self.counters.step):
                        self._look()
                    try:
                        self._update()
                    except Diverged as error:
                        self._rescue(error)
                    outcome = self._after_update()
                if signals.received and not self.finished():
                    self._stop(signals.received)
                outcome = self._close(outcome)
                for text in outcome.shortcomings() if self.counters.step else ():
                    self._say(text)
        except Diverged as error:
            where = (
                f"last good checkpoint: {self.saved}"
                if self.saved
                else "there is no checkpoint yet"
            )
            raise Diverged(f"{error}\n{where}") from error
        finally:
            self._batches.close()
        return outcome

    def _update(self) -> None:
        e, counters = self.experiment, self.counters
        start = self._clock()
        count = e.optimizer.batch_size(self.state, self._settings.batch_size)
        x, y = self._batches.take(counters.examples, count)
        if counters.step + 1 < self._settings.updates:
            self._batches.announce(counters.examples + count, count)
        number = counters.step + 1 - self.watch.begun
        stats = e.optimizer.update(self.theta, self.state, x, y, number)
        e.ops.synchronize()
        self._batches.settle()
        counters.seconds += self._clock() - start
        counters.wall = self._clock() - self._started
        counters.step += 1
        counters.examples += count
        row: Row = {
            "step": counters.step,
            "epoch": counters.examples / e.data.train.rows,
            "examples": counters.examples,
            "seconds": counters.seconds,
            "wall": counters.wall,
        }
        row |= {k: None if math.isnan(v) and k not in _GUARDED else v for k, v in stats.items()}
        self.run.add_step(row)
        self.reporter.update(counters, row)
        for name in _GUARDED:
            if not math.isfinite(stats.get(name) or 0.0):
                raise Diverged(f"update {counters.step}: {name} is {stats[name]}")
        self._ladder.observe(counters.step, count, stats)
        for text in self._ladder.dead(self.theta, stats.get("dead_units", 0.0)):
            self._say(f"update {counters.step}: {text}")

    def _look(self) -> None:
        """Look whether the run stands still, and take the next step of the ladder if it does.

        Called before an update, not after one: a run that ends here and is resumed later decides
        the same as one that goes on.
        """
        counters = self.counters
        finding = self._ladder.look(self.theta, counters.step, counters.examples)
        if finding is not None:
            self._follow(finding)

    def _rescue(self, error: Diverged) -> None:
        """Make another start if one is left for a run that diverged; raise the error otherwise."""
        finding = self._ladder.rescue(error, self.counters.step, self.counters.examples)
        if finding is None:
            raise error
        self._follow(finding)

    def _follow(self, finding: Finding) -> None:
        self._say(finding.text)
        if finding.theta is not None:
            self.theta = finding.theta
        if finding.anew:
            self.state = self.experiment.optimizer.init(self.theta)

    def _after_update(self) -> TrainingOutcome | None:
        last = self.finished()
        due = last or is_due(self.counters.step, self._settings.evaluate_every)
        outcome = self._evaluate() if due else None
        if last or is_due(self.counters.step, self._settings.checkpoint_every):
            self._save(outcome)
        return outcome

    def _close(self, outcome: TrainingOutcome | None) -> TrainingOutcome:
        """Choose the weights to publish at the end of a run, and return their evaluation.

        Every step is judged by the batch after it. The last step has had no such batch yet, so it
        is judged here by the batch that would come next. If the optimizer rejects the step, other
        weights are published: they are evaluated, logged and saved. ``outcome`` is the evaluation
        of the weights after the last step, or None if this call made no update.
        """
        e, counters = self.experiment, self.counters
        count = e.optimizer.batch_size(self.state, self._settings.batch_size)
        batch = self._batches.take(counters.examples, count)
        self._closing = (
            e.optimizer.closing_weights(self.theta, self.state, *batch) if counters.step else None
        )
        if outcome is None:
            return self._evaluate(write=False)
        if self._closing is None:
            return outcome
        left, outcome = outcome, self._evaluate()
        text = (
            f"update {counters.step}, the last, made the loss of the batch after it jump and "
            "is not handed out: "
            f"{left.train.loss:.6g} on the training rows, {outcome.train.loss:.6g} without it"
        )
        self._say(text)
        self._save(outcome)
        return outcome

    def _say(self, text: str) -> None:
        """Tell the user, on the display and in the log."""
        self.run.log(text)
        self.reporter.note(text)

    def _show_constant(self, outcome: TrainingOutcome) -> None:
        constant = outcome.train_constant
        if constant is not None and constant.gap > 0.0:
            self._say(f"constant {constant.loss:.4f}: the objective of the best constant predictor")

    def _constant_loss(self, split: Split, limit: int) -> ConstantLoss | None:
        """Return the loss of the best constant on the rows that an evaluation takes."""
        if self._constant is None:
            return None
        if split.name not in self._constants:
            e = self.experiment
            self._constants[split.name] = self._constant.loss_on(e.loss, e.ops, split, limit)
        return self._constants[split.name]

    def _weights(self) -> Array:
        if self._closing is not None:
            return self._closing
        return self.experiment.optimizer.weights(self.theta, self.state)

    def _evaluate(self, write: bool = True) -> TrainingOutcome:
        e, counters, theta = self.experiment, self.counters, self._weights()
        limit = self._settings.evaluate_rows
        train = evaluate(e.net, e.loss, theta, e.data.train, limit)
        train_constant = self._constant_loss(e.data.train, limit)
        validation, validation_constant = None, None
        if e.data.validation:
            validation = evaluate(e.net, e.loss, theta, e.data.validation)
            validation_constant = self._constant_loss(e.data.validation, 0)
        row: Row = {
            "step": counters.step,
            "epoch": counters.examples / e.data.train.rows,
            "seconds": counters.seconds,
            "train_loss": train.loss,
            "train_error": train.error,
            "validation_loss": None,
            "validation_error": None,
        }
        if validation:
            row |= {"validation_loss": validation.loss, "validation_error": validation.error}
        if write:
            self.run.add_eval(row)
            self.run.log(
                f"update {counters.step}: "
                + ", ".join(
                    f"{name} {value:.6g}"
                    for name, value in list(row.items())[2:]
                    if value is not None
                )
            )
            self.reporter.evaluated(counters, row, train.floor)
        for name in ("train_loss", "validation_loss"):
            value = row[name]
            if value is not None and not math.isfinite(value):
                raise Diverged(f"evaluation after update {counters.step}: {name} is {value}")
        return TrainingOutcome(counters, train, validation, train_constant, validation_constant)

    def _save(self, outcome: TrainingOutcome | None) -> None:
        """Write a checkpoint, and point ``best`` to it if its evaluation beats those before.

        ``outcome`` is the evaluation of these weights, or None if they were not evaluated.
        """
        e, folder, theta = self.experiment, self.run.checkpoints, self._weights()
        if not math.isfinite(e.ops.scalars(theta.sum(dtype="float64"))[0]):
            raise Diverged(f"update {self.counters.step}: the weights are not finite")
        losses = outcome.losses() if outcome else {}
        judged = losses.get("validation_loss", losses.get("train_loss", math.nan))
        best = judged <= self.counters.best
        # Only checkpoints on the regular schedule count for `best` in the counters; otherwise an
        # interrupted and resumed run could choose another one than a run never interrupted.
        if best and self._on_schedule() and self._closing is None:
            self.counters.best, self.counters.best_step = judged, self.counters.step
        self.counters.wall = self._clock() - self._started
        state = {
            "counters": asdict(self.counters),
            "watch": to_tree(self.watch, e.ops),
            "optimizer": to_tree(self.state, e.ops),
        }
        if theta is not self.theta:
            state["theta"] = e.ops.to_host(self.theta)
        path = folder / checkpoint.checkpoint_name(self.counters.step)
        outputs = self._constant.outputs if self._constant else None
        stored = replace(e.stored(theta, self.counters.step, **losses), constant=outputs)
        checkpoint.save(path, stored, state)
        if best:
            checkpoint.point(folder, "best", path)
        checkpoint.point(folder, "latest", path)
        settings = self._settings
        checkpoint.prune(
            folder,
            settings.keep_checkpoints,
            settings.checkpoint_every,
            folder / checkpoint.checkpoint_name(self.counters.best_step),
        )
        self.saved = path
        self.run.log(f"saved {path.name}")

    def _on_schedule(self) -> bool:
        """Return whether a run of any length evaluates and saves after this step."""
        periods = self._settings.evaluate_every, self._settings.checkpoint_every
        return self.counters.step == 0 or all(
            is_due(self.counters.step, period) for period in periods
        )

    def _stop(self, number: int) -> None:
        if self.saved is None or checkpoint.step_of(self.saved) != self.counters.step:
            self._save(None)
        raise Interrupted(
            f"{signal.Signals(number).name}: stopped after update {self.counters.step}, "
            f"saved {self.saved}\nresume with: {resume_command(self.run.path)}",
            number,
        )


def is_due(step: int, period: int) -> bool:
    """Return whether something done every ``period`` steps (never if 0) is due after ``step``."""
    return period > 0 and step % period == 0


def run_to_end(trainer: Trainer) -> TrainingOutcome:
    """Run ``trainer`` to its end and record in run.json how it ended; raise the loop's error."""
    run, reporter = trainer.run, trainer.reporter
    try:
        run.log(
            f"{'going on' if trainer.counters.step else 'starting'} at update "
            f"{trainer.counters.step}: {shlex.join(run.info['argv'])}"
        )
        reporter.begin(trainer.experiment, run, trainer.counters)
        for text in trainer.first_notes() if trainer.counters.step == 0 else ():
            run.log(text)
            reporter.note(text)
        with np.errstate(all="ignore"):  # the loop checks for numbers that are not finite itself
            outcome = trainer.train()
    except BaseException as error:
        status = {Diverged: "diverged", Interrupted: "interrupted"}.get(type(error), "failed")
        code = error.exit_code if isinstance(error, GnoptError) else 1
        with contextlib.suppress(OSError):  # a full disk must not hide the error
            run.log(f"{status}: {error}")
            run.finish(status, code, step=trainer.counters.step)
        raise
    else:
        run.log("done")
        run.finish(
            "done",
            0,
            step=trainer.counters.step,
            peak_bytes=machine.peak_memory(),
            starts=trainer.watch.starts + 1,
            shortcomings=outcome.shortcomings(),
        )
        return outcome
    finally:
        reporter.end()
        run.close()
