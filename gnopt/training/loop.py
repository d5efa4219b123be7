"""The training loop: batch → update → row → evaluation → checkpoint, until the budget or a signal
ends it.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gnopt import machine
from gnopt.engine.arrays import Array
from gnopt.errors import Diverged, GnoptError, Interrupted
from gnopt.optimizers.base import State
from gnopt.training import checkpoint
from gnopt.training.advice import scale_notes
from gnopt.training.batches import Batches
from gnopt.training.evaluate import Evaluation, evaluate
from gnopt.training.rundir import RunDirectory, resume_command
from gnopt.training.setup import Experiment
from gnopt.training.signals import Signals
from gnopt.training.state import to_tree

_GUARDED = (
    "loss",
    "grad_norm",
    "step_norm",
)  # finite, or the run has diverged; elsewhere NaN = n/a


@dataclass
class Counters:
    """Where a run stands; part of every checkpoint. ``seconds`` is training alone, ``wall``
    everything.
    """

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    best: float = (
        math.inf
    )  # lowest validation (else training) loss among the checkpoints written in turn
    best_step: int = 0


Row = dict[str, float | None]  # a row of steps.csv or eval.csv; None where a number is missing


class Reporter:
    """Hears what the loop does; the command line shows it, the base class keeps quiet."""

    def begin(self, experiment: Experiment, run: RunDirectory, counters: Counters) -> None:
        """The loop is about to start."""

    def update(self, counters: Counters, row: Row) -> None:
        """An update was made; ``row`` is its row of steps.csv."""

    def evaluated(self, counters: Counters, row: Row, floor: float) -> None:
        """An evaluation was made; ``row`` is its row of eval.csv."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""

    def end(self) -> None:
        """The loop is over, however it ended."""


@dataclass
class TrainingOutcome:
    """What a finished run came to."""

    counters: Counters
    train: Evaluation
    validation: Evaluation | None


class Trainer:
    """One run from wherever its counters stand to its budget."""

    def __init__(
        self,
        experiment: Experiment,
        run: RunDirectory,
        theta: Array,
        state: State,
        counters: Counters,
        reporter: Reporter,
    ) -> None:
        self.experiment, self.run, self.reporter = experiment, run, reporter
        self.theta, self.state, self.counters = theta, state, counters
        self.saved: Path | None = checkpoint.pointed(run.checkpoints, "latest")
        self._settings = experiment.config.training
        self._batches = Batches(experiment.data.train, experiment.loss, experiment.ops)
        self._closing: Array | None = None  # weights to hand out in place of those of the last step
        self._started = time.perf_counter() - counters.wall

    def finished(self) -> bool:
        """Whether the budget is used up."""
        limit = self._settings.max_seconds
        return self.counters.step >= self._settings.updates or 0 < limit <= self.counters.seconds

    def train(self) -> TrainingOutcome:
        """Run to the end of the budget.

        Raises Diverged (the last good checkpoint is kept and named) and Interrupted (after a
        checkpoint).
        """
        outcome: TrainingOutcome | None = None
        try:
            with Signals() as signals:
                if self.counters.step == 0:
                    outcome = self._evaluate()
                    self._save(outcome)
                while not self.finished() and not signals.received:
                    self._update()
                    outcome = self._after_update()
                if signals.received and not self.finished():
                    self._stop(signals.received)
                outcome = self._close(outcome)
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
        start = time.perf_counter()
        count = e.optimizer.batch_size(self.state, self._settings.batch_size)
        x, y = self._batches.take(counters.examples, count)
        if counters.step + 1 < self._settings.updates:
            self._batches.announce(counters.examples + count, count)
        stats = e.optimizer.update(self.theta, self.state, x, y, counters.step + 1)
        e.ops.synchronize()
        self._batches.settle()
        counters.seconds += time.perf_counter() - start
        counters.wall = time.perf_counter() - self._started
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

    def _after_update(self) -> TrainingOutcome | None:
        last = self.finished()
        due = last or is_due(self.counters.step, self._settings.evaluate_every)
        outcome = self._evaluate() if due else None
        if last or is_due(self.counters.step, self._settings.checkpoint_every):
            self._save(outcome)
        return outcome

    def _close(self, outcome: TrainingOutcome | None) -> TrainingOutcome:
        """Judge the last step as every other, by the batch that would come next; what it left is
        evaluated again where it is not handed out. ``outcome`` is None where no update was made.
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
        self.run.log(text)
        self.reporter.note(text)
        self._save(outcome)
        return outcome

    def _weights(self) -> Array:
        if self._closing is not None:
            return self._closing
        return self.experiment.optimizer.weights(self.theta, self.state)

    def _evaluate(self, write: bool = True) -> TrainingOutcome:
        e, counters, theta = self.experiment, self.counters, self._weights()
        train = evaluate(e.net, e.loss, theta, e.data.train, self._settings.evaluate_rows)
        validation = (
            evaluate(e.net, e.loss, theta, e.data.validation) if e.data.validation else None
        )
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
        return TrainingOutcome(counters, train, validation)

    def _save(self, outcome: TrainingOutcome | None) -> None:
        """Write a checkpoint; it becomes ``best`` where it was just evaluated and beats the ones
        before.
        """
        e, folder, theta = self.experiment, self.run.checkpoints, self._weights()
        if not math.isfinite(e.ops.scalars(theta.sum(dtype="float64"))[0]):
            raise Diverged(f"update {self.counters.step}: the weights are not finite")
        losses = {}
        if outcome:
            losses["train_loss"] = outcome.train.loss
            if outcome.validation:
                losses["validation_loss"] = outcome.validation.loss
        judged = losses.get("validation_loss", losses.get("train_loss", math.nan))
        best = judged <= self.counters.best
        if (
            best and self._in_turn() and self._closing is None
        ):  # else a run that goes on would not end as if it had not
            self.counters.best, self.counters.best_step = judged, self.counters.step
        self.counters.wall = time.perf_counter() - self._started
        state = {"counters": asdict(self.counters), "optimizer": to_tree(self.state, e.ops)}
        if theta is not self.theta:
            state["theta"] = e.ops.to_host(self.theta)
        path = folder / checkpoint.checkpoint_name(self.counters.step)
        checkpoint.save(path, e.stored(theta, self.counters.step, **losses), state)
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

    def _in_turn(self) -> bool:
        """Whether a run of any length would evaluate and save after this step."""
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
    """Train, and record in run.json how it ended; raises what the loop raised."""
    run, reporter = trainer.run, trainer.reporter
    try:
        run.log(
            f"{'going on' if trainer.counters.step else 'starting'} at update "
            f"{trainer.counters.step}: "
            f"{shlex.join(run.info['argv'])}"
        )
        reporter.begin(trainer.experiment, run, trainer.counters)
        for text in scale_notes(trainer.experiment) if trainer.counters.step == 0 else ():
            run.log(text)
            reporter.note(text)
        with np.errstate(all="ignore"):  # what is not finite is looked for, update by update
            outcome = trainer.train()
    except BaseException as error:
        status = {Diverged: "diverged", Interrupted: "interrupted"}.get(type(error), "failed")
        code = error.exit_code if isinstance(error, GnoptError) else 1
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            run.log(f"{status}: {error}")
            run.finish(status, code, step=trainer.counters.step)
        raise
    else:
        run.log("done")
        run.finish("done", 0, step=trainer.counters.step, peak_bytes=machine.peak_memory())
        return outcome
    finally:
        reporter.end()
        run.close()
