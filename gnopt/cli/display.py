"""Show the progress of training on stderr: live on a terminal, else lines at growing intervals."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from gnopt.cli.course import Course
from gnopt.cli.evaluation_table import WIDTH, EvaluationTable
from gnopt.formatting import digits, duration, number, plain_console
from gnopt.training.loop import Counters, Reporter, Row
from gnopt.training.measured import Measured
from gnopt.training.rundir import RunDirectory
from gnopt.training.setup import Experiment
from gnopt.training.stopping import Ends

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.progress import Progress

_HISTORY = 8  # evaluations that the live display shows
_PATIENCE = 10.0  # seconds without a line in a log after which an update is spoken of
# Column of steps.csv → its name on the display.
_UPDATE = {
    "loss": "batch loss",
    "lr": "learning rate",
    "damping": "damping",
    "alpha": "step size",
}


def make_reporter(quiet: bool, every_update: bool = False) -> Reporter:
    """Return the reporter that suits stderr.

    ``quiet`` asks for none, ``every_update`` for a line after each update, on a terminal too.
    """
    if quiet:
        return Reporter()
    if every_update:
        return PlainReporter(every_update=True)
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
    """Return what is trained on what, and where to, in a few lines for the start of a training."""
    config, net, data = experiment.config, experiment.net, experiment.data
    held_out = f", {data.validation.rows:,} to validate" if data.validation else ""
    return (
        f"{config.method} on {data.fingerprint.file}: "
        f"{data.train.rows:,} rows to train on{held_out}\n"
        f"network {'-'.join(str(s) for s in net.sizes)}, {net.size:,} parameters, "
        f"{config.network.loss}, {config.training.dtype}\n"
        f"run {run}"
    )


def first_lines(measured: Measured) -> list[str]:
    """Return lines, shown once a run, that the losses in the table are to be compared with."""
    constant, floor = measured.train_constant, measured.train.floor
    lines = []
    if constant is not None and constant.gap > 0.0:
        lines.append(f"loss of the best constant prediction: {digits(constant.loss)}")
    if floor > 0.0:
        lines.append(f"the targets allow no loss below {digits(floor)}")
    return lines


class PlainReporter(Reporter):
    """Prints lines for logs and pipes: a table of evaluations, often at first, then about one a
    minute, and a sentence on the updates where evaluations are rare.

    With ``every_update``, each evaluation and each update gets a line.
    """

    def __init__(self, every_update: bool = False) -> None:
        self._interval = 0.0 if every_update else 0.1
        self._every_update = every_update
        self._next = 0.0  # when a line of the table is due
        self._table: EvaluationTable | None = None

    def begin(
        self, experiment: Experiment, run: RunDirectory, counters: Counters, ends: Ends
    ) -> None:
        self._error_name = experiment.loss.error_name
        self._course = Course(experiment, run, counters, ends)
        self._quiet_until = time.monotonic() + _PATIENCE
        self.note(headline(experiment, run.path))

    def update(self, counters: Counters, row: Row) -> None:
        self._course.update(counters)
        if self._every_update or time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + max(_PATIENCE, 2.0 * self._interval)
            words = [*update_words(row), self._course.range_left(counters)]
            self.note(f"update {counters.step:,}: {', '.join(filter(None, words))}")

    def evaluated(self, counters: Counters, measured: Measured) -> None:
        course, now = self._course, time.monotonic()
        course.evaluated(counters, measured)
        if self._table is None:
            self._table = EvaluationTable(
                measured, self._error_name, WIDTH, ("best\nat", "at most\nleft")
            )
            self.note("\n".join([*first_lines(measured), "", *self._table.header()]))
        if now < self._next:
            return
        self._next = now + self._interval
        self._interval = min(self._interval * 1.4, 60.0)
        self._quiet_until = now + max(_PATIENCE, 2.0 * self._interval)
        cells = f"{course.best_step:,}", course.at_most_left(counters)
        self.note(self._table.line(counters, measured, cells))

    def note(self, text: str) -> None:
        click.echo(text, err=True)


def update_words(row: Row) -> list[str]:
    """Return what an update did, each number with its name in words."""
    return [f"{words} {number(row[name], 3)}" for name, words in _UPDATE.items() if name in row]


class LiveReporter(Reporter):
    """Redraws the last evaluations and, below them, how far the run is."""

    def __init__(self) -> None:
        self.console = plain_console(stderr=True)
        self._history: list[tuple[int, str]] = []  # update and line of each evaluation
        self._table: EvaluationTable | None = None
        self._live: Live | None = None
        self._update: list[str] = []

    def begin(
        self, experiment: Experiment, run: RunDirectory, counters: Counters, ends: Ends
    ) -> None:
        from rich.live import Live

        self.note(headline(experiment, run.path))
        self._error_name = experiment.loss.error_name
        self._counters = counters
        self._course = Course(experiment, run, counters, ends)
        self._live = Live(
            get_renderable=self.view, console=self.console, refresh_per_second=8, transient=False
        )
        self._live.start()

    def update(self, counters: Counters, row: Row) -> None:
        self._course.update(counters)
        self._update = update_words(row)

    def evaluated(self, counters: Counters, measured: Measured) -> None:
        self._course.evaluated(counters, measured)
        if self._table is None:
            for line in first_lines(measured):
                self.note(line)
            self._table = EvaluationTable(
                measured, self._error_name, min(self.console.width, WIDTH), ("",)
            )
        self._history.append((counters.step, self._table.line(counters, measured, ("",))))

    def view(self) -> Group:
        """Return what the terminal shows now."""
        from rich.console import Group
        from rich.text import Text

        lines = [Text(line, no_wrap=True) for line in self._table_lines()]
        return Group(*lines, *self._progress())

    def _table_lines(self) -> list[str]:
        if self._table is None:
            return []
        best = self._course.best_step
        shown = self._history[-_HISTORY:]
        if best not in [step for step, _ in shown]:  # the best evaluation stays in sight
            shown[:1] = [pair for pair in self._history if pair[0] == best]
        lines = [f"{line}  best" if step == best else line for step, line in shown]
        return ["", *self._table.header(), *lines]

    def _progress(self) -> list[RenderableType]:
        """Return the lines below the table; none once the run is over."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._live is None:
            return []
        course, counters = self._course, self._counters
        line = Table.grid(padding=(0, 1))
        line.add_row(
            f"update {counters.step:,}",
            ProgressBar(1.0, course.share(counters), width=30),
            ", ".join(filter(None, [duration(counters.wall), course.range_left(counters)])),
        )
        texts = [", ".join(self._update), course.best_so_far()]
        return [Text(""), line, *(Text(text) for text in texts if text)]

    def note(self, text: str) -> None:
        self.console.print(text)

    def end(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()


class RunsReporter:
    """Prints a line for each run that ends, of several; on a terminal, with a progress bar below.

    ``title`` stands before the bar, and ``total`` is the number of runs.
    """

    def __init__(self, title: str, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.count = total, quiet, 0
        self._progress: Progress | None = None
        if not quiet and total and can_redraw():
            self._progress = progress_bar(plain_console(stderr=True), title=title)
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
            self._progress.console.print(text)
        elif not self.quiet:
            click.echo(text, err=True)
