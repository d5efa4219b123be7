"""The training loop: take a batch, update, log; evaluate and save when due; stop at the budget."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from gnopt import machine
from gnopt.engine.arrays import Array
from gnopt.errors import DataError, Diverged, GnoptError, Interrupted
from gnopt.optimizers.base import State, Stats
from gnopt.training import checkpoint
from gnopt.training.advice import label_notes, scale_notes
from gnopt.training.batches import Batches
from gnopt.training.cadence import Cadence, rows_of_training
from gnopt.training.evaluate import Evaluation
from gnopt.training.handout import HandedOut
from gnopt.training.judge import Rank
from gnopt.training.ladder import Finding, Ladder
from gnopt.training.measured import Measure, Measured
from gnopt.training.recovery import best_whole
from gnopt.training.rundir import RunDirectory, resume_command
from gnopt.training.sense import doubts
from gnopt.training.setup import Experiment, flat
from gnopt.training.signals import Signals
from gnopt.training.state import to_tree
from gnopt.training.stopping import Ends, Stop, stop
from gnopt.training.watch import Watch

# A run has diverged if one of these is not finite. In other columns NaN means "not applicable".
DECAY_LOGGED = 50  # updates
_GUARDED = ("loss", "grad_norm", "step_norm")


@dataclass
class Counters:
    """The position of a run; every checkpoint stores it, and a resumed run continues from it."""

    step: int = 0  # updates made
    examples: int = 0
    seconds: float = 0.0  # of updates alone
    wall: float = 0.0  # seconds since the start, with evaluation and checkpoints
    # Lowest rank (`Judged`) among the evaluations on schedule, and its step: the validation loss
    # (training objective without validation rows) twice, or what follows from the metric that
    # judges, and the loss.
    best: float = math.inf
    best_loss: float = math.inf
    best_step: int = 0

    @property
    def rank(self) -> Rank:
        """The rank of the best evaluation."""
        return self.best, self.best_loss

    def forget_best(self) -> None:
        """Let the next evaluation be the best, because the network of the best one is lost."""
        self.best, self.best_loss, self.best_step = math.inf, math.inf, 0


Row = dict[str, float | None]  # a row of steps.csv or eval.csv; None where a number is missing


class Reporter:
    """The loop calls these methods as it goes. The base class does nothing; subclasses print."""

    def begin(
        self, experiment: Experiment, run: RunDirectory, counters: Counters, ends: Ends
    ) -> None:
        """Called before the first update; the loop keeps ``ends`` up to date as it goes."""

    def update(self, counters: Counters, row: Row) -> None:
        """Called after each update; ``row`` is its row of steps.csv."""

    def evaluated(self, counters: Counters, measured: Measured) -> None:
        """Called after each evaluation, before its network is compared with the best so far."""

    def note(self, text: str) -> None:
        """Called with a line of text that the user should see."""

    def end(self) -> None:
        """Called once when the loop is over, even after an error."""


@dataclass(frozen=True)
class TrainingOutcome:
    """How a finished run ended: why, with what weights, and the network that it hands out."""

    counters: Counters
    stop: Stop
    handed: HandedOut
    path: Path  # the checkpoint that holds the network handed out
    measured: Measured  # the evaluation of the network handed out
    last: Measured  # and of the weights at the end

    @property
    def train(self) -> Evaluation:
        """The network handed out, on training rows."""
        return self.measured.train

    @property
    def validation(self) -> Evaluation | None:
        """The network handed out, on the validation rows."""
        return self.measured.validation

    def shortcomings(self) -> list[str]:
        """Return lines on a network handed out that is no better than a constant or untrained."""
        updates = self.counters.step
        if not updates:
            return []
        return [*self.handed.complaint(updates), *self.measured.shortcomings()]


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
        ends: Ends,
        reporter: Reporter,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self.experiment, self.run, self.reporter = experiment, run, reporter
        self.theta, self.state, self.counters = theta, state, counters
        self.watch, self.ends = watch, ends
        run.checkpoints.mkdir(exist_ok=True)
        self.saved: Path | None = checkpoint.pointed(run.checkpoints, "latest")
        self._settings = experiment.config.training
        self._batches = Batches(experiment.data.train, experiment.loss, experiment.ops)
        # The weights to publish instead of those after the last step; see `_close`.
        self._closing: Array | None = None
        # Which of the optimizer's candidates the last evaluation of these weights found best.
        self._better = 0
        self._measure = Measure(experiment)
        self._cadence = Cadence.of(experiment)
        self._rows = rows_of_training(experiment)
        self._at_end: Measured | None = (
            None  # the evaluation after the last update, if there is one
        )
        self._updated = False  # by this object
        # The best before the last evaluation on schedule, and the best as of the last checkpoint.
        self._former, self._safe = (counters.rank, counters.best_step), counters.best_step
        self._ladder = Ladder(experiment, watch, bool(run.info.get("init_from")))
        self._started = self._clock() - counters.wall

    def first_notes(self) -> list[str]:
        """Return lines that a user should read before the first update."""
        e, batch = self.experiment, self._settings.batch_size
        notes = [
            *([e.why_method] if e.why_method else []),
            *e.weighting.notes,
            *label_notes(e),
            *doubts(e.config, e.data, e.loss),
            *scale_notes(e),
            *e.optimizer.notes(batch),
        ]
        decided = e.config.decisions.lines() if e.config.decisions else e.data.notes
        return [*decided, *([e.start_note] if e.start_note else []), *notes]

    def stop(self) -> Stop | None:
        """Return why the run is over, or None if it goes on."""
        return stop(self.ends, self._settings, self.counters.step, self.counters.seconds)

    def train(self) -> TrainingOutcome:
        """Train until the run is over and return what it hands out.

        Raises Diverged, naming the last good checkpoint, if numbers are not finite, and Interrupted
        after a signal, once a checkpoint is written.
        """
        try:
            with Signals() as signals:
                self._begin()
                while self.stop() is None and not signals.received:
                    if self._ladder.due(self.counters.step):
                        self._look()
                    try:
                        self._update()
                    except Diverged as error:
                        self._rescue(error)
                    self._updated = True
                    self._after_update()
                    if signals.hung_up:
                        signals.hung_up = False
                        self._outlive_terminal()
                if signals.received and self.stop() is None:
                    self._interrupt(signals.received)
                outcome = self._close()
        except Diverged as error:
            where = (
                f"last good checkpoint: {self.saved}"
                if self.saved
                else "there is no checkpoint yet"
            )
            raise Diverged(f"{error}\n{where}") from error
        finally:
            self._batches.close()
        if outcome.stop.early:
            self._say(outcome.stop.text)
        else:
            self.run.log(outcome.stop.text)
        self.run.log(f"handed out: update {outcome.handed.step}, {outcome.handed.reason()}")
        for text in outcome.shortcomings():
            self._say(text)
        return outcome

    def _begin(self) -> None:
        """Evaluate the weights that a run begins with, or that a resumed run goes on from where
        an evaluation is due there.
        """
        self._ladder.constant = self.experiment.constant
        step = self.counters.step
        if step == 0:
            measured = self._evaluate()
            self._judge(measured)
            self._save(measured)
        elif self.stop() is None:
            # The end of a run may have left another evaluation, and other weights, in its files.
            due = self._cadence.due(step - self.watch.begun)
            self._save(self._evaluate() if due else None)

    def _update(self) -> None:
        e, counters = self.experiment, self.counters
        start = self._clock()
        count = e.optimizer.batch_size(self.state, self._settings.batch_size)
        place, keeps = e.optimizer.place, e.optimizer.keeps_rows
        x, y = self._batches.take(place(counters.examples), count, keeps)
        if counters.step + 1 < self._settings.updates and not keeps:
            self._batches.announce(place(counters.examples + count), count)
        number = counters.step + 1 - self.watch.begun
        stats = e.optimizer.update(self.theta, self.state, x, y, number)
        e.ops.synchronize()
        self._batches.settle()
        self._better = 0
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
        chosen = math.isfinite(stats.get("log_evidence", math.nan))
        # A method that chooses weight decay at every update says so now and then.
        chosen |= math.isfinite(stats.get("effective", math.nan)) and is_due(number, DECAY_LOGGED)
        if chosen:
            self.run.log(decay_text(counters.step, stats, e.net.size))
        self._still(stats)
        self.ends.finished = e.optimizer.finished(self.state)
        for name in _GUARDED:
            if not math.isfinite(stats.get(name) or 0.0):
                raise Diverged(f"update {counters.step}: {name} is {stats[name]}")
        self._ladder.observe(counters.step, count, stats)
        for text in self._ladder.dead(self.theta, stats.get("dead_units", 0.0)):
            self._say(f"update {counters.step}: {text}")

    def _still(self, stats: Stats) -> None:
        """Notice a run that has converged."""
        e, stillness = self.experiment, self.ends.stillness
        rounding = float(np.finfo(e.net.dtype).eps)
        if stillness.observe(stats["loss"], stats["step_norm"], rounding):
            (squared,) = e.ops.scalars(e.ops.xp.vdot(self.theta, self.theta))
            stillness.conclude(math.sqrt(squared), rounding)

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
            self.ends.patience.start_again(self.counters.step)
        if finding.anew:
            self.state = self.experiment.optimizer.init(self.theta)

    def _after_update(self) -> None:
        """Evaluate and save where this is due; `_close` does so at the end of the budget."""
        self._at_end = None
        settings, step = self._settings, self.counters.step
        if self.stop() is not None:
            return
        measured = None
        if self._cadence.due(step - self.watch.begun):
            measured = self._at_end = self._evaluate()
        best = measured is not None and self._judge(measured)
        if is_due(step, settings.checkpoint_every):
            self._save(measured)
        elif best and measured is not None:
            self._save_best(measured)

    def _judge(self, measured: Measured) -> bool:
        """Take note of an evaluation on schedule; return whether it is the best so far."""
        counters, rank = self.counters, measured.judged.rank
        self._former = counters.rank, counters.best_step
        if measured.tells_of_new_data:
            self.ends.patience.observe(counters.step, rank, self._ladder.settled())
        if not beats(rank, *self._former):
            return False
        (counters.best, counters.best_loss), counters.best_step = rank, counters.step
        return True

    def _close(self) -> TrainingOutcome:
        """Choose the network to hand out at the end of a run.

        Every step is judged by the batch after it. The last step has had no such batch yet, so it
        is judged here by the batch that would come next. If the optimizer rejects the step, other
        weights are published: they are evaluated, logged and saved. The network of the best
        evaluation is handed out.
        """
        why = self.stop()
        assert why is not None
        if not self._updated:
            return self._outcome(why, None)
        e, counters = self.experiment, self.counters
        former = counters.rank, counters.best_step
        measured = self._at_end
        if measured is None:
            measured = self._evaluate(at_end=True)
            if self._cadence.due(counters.step - self.watch.begun):
                self._judge(measured)
        elif counters.best_step == counters.step:
            former = self._former
        count = e.optimizer.batch_size(self.state, self._settings.batch_size)
        batch = self._batches.take(e.optimizer.place(counters.examples), count)
        self._closing = e.optimizer.closing_weights(self.theta, self.state, *batch)
        if self._closing is not None:
            left, measured = measured, self._evaluate(at_end=True)
            self._say(
                f"update {counters.step}, the last, made the loss of the batch after it jump and "
                "is not handed out: "
                f"{left.train.loss:.6g} on the training rows, {measured.train.loss:.6g} without it"
            )
        last = beats(measured.judged.rank, *former) or not self._path(former[1]).is_file()
        self._save(measured, counters.step if last else former[1])
        return self._outcome(why, measured)

    def _outcome(self, why: Stop, last: Measured | None) -> TrainingOutcome:
        """Measure the network that ``best`` names, on as many training rows as at any end.

        ``last`` is the evaluation of the weights at the end, where this call made some.
        """
        e, counters = self.experiment, self.counters
        path = best_whole(self.run.checkpoints) or self.saved
        assert path is not None
        stored = checkpoint.load_network(path)
        theta = e.ops.asarray(flat(stored.weights, e.net.dtype))
        measured = self._measure(theta, self._settings.evaluate_rows)
        handed = HandedOut.of(stored.step, stored.judged)
        return TrainingOutcome(counters, why, handed, path, measured, last or measured)

    def _say(self, text: str) -> None:
        """Tell the user, on the display and in the log."""
        self.run.log(text)
        self.reporter.note(text)

    def _weights(self) -> Array:
        if self._closing is not None:
            return self._closing
        return self._candidates()[self._better]

    def _candidates(self) -> list[Array]:
        return self.experiment.optimizer.candidates(self.theta, self.state)

    def _evaluate(self, at_end: bool = False) -> Measured:
        """Measure the present weights and log it; ``at_end`` on more training rows than else."""
        e, counters = self.experiment, self.counters
        limit = self._settings.evaluate_rows if at_end else self._rows
        measured = self._best_measured(limit)
        train, validation = measured.train, measured.validation
        row: Row = {
            "step": counters.step,
            "epoch": counters.examples / e.data.train.rows,
            "seconds": counters.seconds,
            "train_loss": train.loss,
            "train_error": train.error,
            "validation_loss": validation.loss if validation else None,
            "validation_error": validation.error if validation else None,
            **measured.scores(),
        }
        self.run.add_eval(row)
        self.run.log(
            f"update {counters.step}: "
            + ", ".join(
                f"{name} {value:.6g}" for name, value in list(row.items())[2:] if value is not None
            )
        )
        self.reporter.evaluated(counters, measured)
        for name in ("train_loss", "validation_loss"):
            value = row[name]
            if value is not None and not math.isfinite(value):
                raise Diverged(f"evaluation after update {counters.step}: {name} is {value}")
        return measured

    def _best_measured(self, limit: int) -> Measured:
        """Measure the weights to publish: the best of what the optimizer offers."""
        if self._closing is not None:
            return self._measured(self._closing, limit)
        found = [self._measured(theta, limit) for theta in self._candidates()]
        self._better = min(range(len(found)), key=lambda i: found[i].judged.rank)
        return found[self._better]

    def _measured(self, theta: Array, limit: int) -> Measured:
        measured = self._measure(theta, limit)
        optimizer = self.experiment.optimizer
        evidence = optimizer.log_evidence(theta, self.state, measured.train.loss)
        return replace(measured, log_evidence=evidence)

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / checkpoint.checkpoint_name(step)

    def _stored(self, measured: Measured | None) -> checkpoint.StoredNetwork:
        """Return the present network as a checkpoint stores it, with its evaluation if it has one.

        Raises Diverged if the weights are not finite.
        """
        e, step, theta = self.experiment, self.counters.step, self._weights()
        if not math.isfinite(e.ops.scalars(theta.sum(dtype="float64"))[0]):
            raise Diverged(f"update {step}: the weights are not finite")
        self.counters.wall = self._clock() - self._started
        constant = self.experiment.constant
        losses = measured.losses() if measured else {}
        return replace(
            e.stored(theta, step, **losses),
            constant=constant.outputs if constant else None,
            noise=measured.noise if measured else None,
            judged=measured.judged if measured else None,
        )

    def _save(self, measured: Measured | None, best: int | None = None) -> None:
        """Write a checkpoint from which the run can go on.

        ``measured`` is the evaluation of these weights, or None if they were not evaluated;
        ``best`` is the step to hand out, if it is not that of the best evaluation on schedule.
        """
        e, settings = self.experiment, self._settings
        stored, theta = self._stored(measured), self._weights()
        state = {
            "counters": asdict(self.counters),
            "watch": to_tree(self.watch, e.ops),
            "ends": to_tree(self.ends, e.ops),
            "optimizer": to_tree(self.state, e.ops),
        }
        if theta is not self.theta:
            state["theta"] = e.ops.to_host(self.theta)
        folder, path = self.run.checkpoints, self._path(self.counters.step)
        checkpoint.save(path, stored, state, str(self.run.marks(self.counters.step)))
        of_schedule = self._path(self.counters.best_step)
        named = of_schedule if best is None else self._path(best)
        if named.is_file():
            checkpoint.point(folder, "best", named)
        checkpoint.point(folder, "latest", path)
        checkpoint.prune(folder, settings.keep_checkpoints, settings.checkpoint_every, of_schedule)
        self.saved, self._safe = path, self.counters.best_step
        self.run.log(f"saved {path.name}")

    def _save_best(self, measured: Measured) -> None:
        """Write the network of the best evaluation at once, between checkpoints.

        The best as of the last checkpoint stays, because a run that is killed goes on from there.
        """
        folder, path = self.run.checkpoints, self._path(self.counters.step)
        checkpoint.save(path, self._stored(measured), {"counters": asdict(self.counters)})
        checkpoint.point(folder, "best", path)
        before = self._path(self._former[1])
        if self._former[1] != self._safe and before.is_file():
            with contextlib.suppress(DataError):  # a damaged file is left to its reader
                if not checkpoint.resumable(before):
                    before.unlink()

    def _outlive_terminal(self) -> None:
        """Go on without a terminal, but save: a log-out may end the process soon."""
        self._save_here()
        self._say(
            "SIGHUP: the terminal has closed; the run goes on, and its progress is in "
            f"{self.run.path / 'log.txt'}. To end it after a checkpoint: kill {os.getpid()}"
        )

    def _save_here(self) -> None:
        """Write a checkpoint after an update that has none yet."""
        if self.saved is None or checkpoint.step_of(self.saved) != self.counters.step:
            self._save(self._at_end)

    def _interrupt(self, number: int) -> None:
        self._save_here()
        raise Interrupted(
            f"{signal.Signals(number).name}: stopped after update {self.counters.step}, "
            f"saved {self.saved}\nresume with: {resume_command(self.run.path)}",
            number,
        )


def decay_text(step: int, stats: Stats, parameters: int) -> str:
    """Return the line of the log on weight decay, where its evidence was computed."""
    text = (
        f"update {step}: weight decay {stats['weight_decay']:.3g}, {stats['effective']:,.0f} of "
        f"{parameters:,} weights in use, noise {stats['noise']:.3g}"
    )
    evidence = stats.get("log_evidence", math.nan)
    return f"{text}, log evidence {evidence:.4g} a row" if math.isfinite(evidence) else text


def beats(rank: Rank, best: Rank, best_step: int) -> bool:
    """Return whether an evaluation is better than the best so far; a trained network beats an
    untrained one that is as good.
    """
    return rank < best or (best_step == 0 and rank == best)


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
        reporter.begin(trainer.experiment, run, trainer.counters, trainer.ends)
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
            stop=outcome.stop.reason,
            handed_out={"checkpoint": outcome.path.name, **outcome.handed.facts()},
            shortcomings=outcome.shortcomings(),
        )
        return outcome
    finally:
        reporter.end()
        run.close()
