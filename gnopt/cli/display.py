"""Show the progress of training on stderr: live on a terminal, else lines at growing intervals."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from gnopt.formatting import number
from gnopt.training.csv_table import EVAL_COLUMNS
from gnopt.training.loop import Counters, Reporter, Row
from gnopt.training.rundir import RunDirectory
from gnopt.training.setup import Experiment

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import Progress

_HISTORY = 8  # evaluations that the live display shows


def make_reporter(quiet: bool, every_update: bool = False) -> Reporter:
    """Return the reporter that suits stderr.

    ``quiet`` asks for none, ``every_update`` for a line after each update, on a terminal too.
    """
    if quiet:
        return Reporter()
    if every_update:
        return PlainReporter(0.0)
    if can_redraw():
        return LiveReporter()
    return PlainReporter()


def can_redraw() -> bool:
    """Return whether stderr is a terminal on which a display can be redrawn in place."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def progress_bar(console: Console, *middle: str, title: str = "") -> Progress:
    """Return a bar with a title, counts, ``middle`` texts, and the time passed and left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        *([TextColumn(title)] if title else []),
        BarColumn(),
        MofNCompleteColumn(),
        *map(TextColumn, middle),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def headline(experiment: Experiment, run: Path) -> str:
    """Return the run in the directory ``run`` in one line, shown when training starts."""
    config, net = experiment.config, experiment.net
    return (
        f"{config.method} on {experiment.data.fingerprint.file}: "
        f"{experiment.data.train.rows:,} rows, "
        f"{'-'.join(str(s) for s in net.sizes)}, {net.size:,} parameters, {config.network.loss}, "
        f"{config.training.dtype} → {run}"
    )


def floor_line(floor: float) -> str:
    """Return the line, shown once a run, with the lowest objective that the targets allow."""
    return f"floor {floor:.4f}: the lowest objective that these targets allow"


def metric_texts(row: Row) -> list[tuple[str, str]]:
    """Return name and value of each metric in a row of eval.csv: on the validation rows, or on the
    training rows where there are none.
    """
    names = [name.removeprefix("train_") for name in row if name.startswith("train_")]
    validated = row["validation_loss"] is not None
    return [
        (name, number(row[f"{'validation' if validated else 'train'}_{name}"]))
        for name in names
        if f"train_{name}" not in EVAL_COLUMNS
    ]


class PlainReporter(Reporter):
    """Prints lines for logs and pipes: often at first, then about one a minute."""

    def __init__(self, interval: float = 1.0) -> None:
        self._next, self._interval = 0.0, interval
        self._objective = ""
        self._updates = 0
        self._first: tuple[int, float] | None = None
        self._floor_shown = False

    def begin(self, experiment: Experiment, run: RunDirectory, counters: Counters) -> None:
        self._updates = experiment.config.training.updates
        self._first = (counters.step, counters.seconds)
        self.note(headline(experiment, run.path))

    def update(self, counters: Counters, row: Row) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._interval
        self._interval = min(self._interval * 1.4, 60.0)
        step, seconds = self._first or (0, 0.0)
        pace = (counters.seconds - seconds) / max(1, counters.step - step)
        self.note(
            f"update {counters.step}/{self._updates}  epoch {row['epoch']:.2f}  loss "
            f"{row['loss']:.4f}{self._objective}  {pace:.3g} s/update"
        )

    def evaluated(self, counters: Counters, row: Row, floor: float) -> None:
        if not self._floor_shown:
            self.note(floor_line(floor))
            self._floor_shown = True
        self._objective = f"  objective {row['train_loss']:.4f}"
        if row["validation_loss"] is not None:
            self._objective += f", validation {row['validation_loss']:.4f}"
        self._objective += "".join(f", {name} {text}" for name, text in metric_texts(row))
        self._objective += f" (at {counters.step})"

    def note(self, text: str) -> None:
        click.echo(text, err=True)


class LiveReporter(Reporter):
    """Redraws the last evaluations and, below them, a progress bar."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self._history: list[tuple[str, ...]] = []
        self._metrics: list[str] = []
        self._live: Live | None = None
        self._floor: float | None = None

    def begin(self, experiment: Experiment, run: RunDirectory, counters: Counters) -> None:
        from rich.live import Live

        self.console.print(headline(experiment, run.path), markup=False)
        self._progress = progress_bar(
            self.console,
            "loss {task.fields[loss]}",
            "λ {task.fields[damping]}  α {task.fields[alpha]}",
        )
        updates = experiment.config.training.updates
        self._task = self._progress.add_task(
            "", total=updates, completed=counters.step, loss="", damping="", alpha=""
        )
        self._live = Live(self._view(), console=self.console, refresh_per_second=8)
        self._live.start()

    def update(self, counters: Counters, row: Row) -> None:
        self._progress.update(
            self._task,
            completed=counters.step,
            loss=f"{row['loss']:.4f}",
            damping=number(row.get("damping")),
            alpha=number(row.get("alpha")),
        )

    def evaluated(self, counters: Counters, row: Row, floor: float) -> None:
        if self._floor is None:
            self._floor = floor
            self.console.print(floor_line(floor))
        names = ("train_loss", "train_error", "validation_loss", "validation_error")
        line = (
            str(counters.step),
            f"{counters.seconds:.1f}",
            *(number(row[name]) for name in names),
            *(text for _, text in metric_texts(row)),
        )
        self._metrics = [name for name, _ in metric_texts(row)]
        self._history.append(line)
        del self._history[:-_HISTORY]
        if self._live is not None:
            self._live.update(self._view())

    def _view(self) -> Group:
        from rich.console import Group
        from rich.table import Table

        view = Table(box=None, pad_edge=False)
        fixed = ("update", "seconds", "objective", "error", "validation", "error")
        for name in (*fixed, *self._metrics):
            view.add_column(name, justify="right")
        for line in self._history:
            view.add_row(*line)
        return Group(view, self._progress)

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()


class RunsReporter:
    """Prints a line for each run that ends, of several; on a terminal, with a progress bar below.

    ``title`` stands before the bar, and ``total`` is the number of runs.
    """

    def __init__(self, title: str, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.count = total, quiet, 0
        self._progress: Progress | None = None
        if not quiet and total and can_redraw():
            from rich.console import Console

            self._progress = progress_bar(Console(stderr=True, highlight=False), title=title)
            self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.stop()

    def count_run(self, text: str) -> None:
        """Print how a run ended; called after every run."""
        self.count += 1
        if self._progress:
            self._progress.advance(self._task)
        self.note(f"[{self.count}/{self.total}] {text}")

    def note(self, text: str) -> None:
        """Print a line of text, unless quiet."""
        if self._progress:
            self._progress.console.print(text, markup=False)
        elif not self.quiet:
            click.echo(text, err=True)
