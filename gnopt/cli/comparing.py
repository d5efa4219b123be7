"""Show a comparison: progress on stderr while runs are made, tables on stdout at the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gnopt.cli.display import RunsReporter
from gnopt.compare.grid import GridPoint
from gnopt.compare.outcome import RunOutcome
from gnopt.compare.plan import ComparisonPlan, Run
from gnopt.compare.result_files import SummaryRow
from gnopt.compare.result_texts import HEADER, summary_cells, target_rows
from gnopt.compare.targets import TimeToTarget
from gnopt.formatting import ABSENT, plain_console
from gnopt.workers.child import WorkerExit

if TYPE_CHECKING:
    from rich.table import Table


class CompareReporter(RunsReporter):
    """Prints a line for each run of a comparison."""

    def __init__(self, total: int, quiet: bool) -> None:
        super().__init__("runs", total, quiet)

    def ended(self, run: Run, outcome: RunOutcome, worker_exit: WorkerExit) -> None:
        """Print how a run ended; called after every run."""
        text = f"objective {outcome.objective:.6g}" if outcome.done else outcome.status
        if worker_exit.code and not outcome.done:
            lines = worker_exit.reason.splitlines()
            text += f" ({lines[-1 if 'Traceback' in worker_exit.reason else 0]})"
        self.count_run(
            f"{run.variant}, {GridPoint(run.point).label}, seed "
            f"{run.seed}: {text}, {outcome.updates} updates, {outcome.seconds:.1f} s"
        )


def print_tables(
    plan: ComparisonPlan,
    rows: Sequence[SummaryRow],
    times: Sequence[TimeToTarget],
    notes: Sequence[str],
    warnings: Sequence[str],
) -> None:
    """Print the summary, the times to targets, notes and warnings to stdout."""
    console = plain_console(None if sys.stdout.isatty() else 130)
    console.print(_summary_table(rows, console.width))
    if times:
        console.print(
            "\nTo bring the objective (sliding mean of the batches' loss) down to a target: "
            "updates, seconds"
        )
        console.print(_target_table(times))
    for line in notes:
        console.print(f"\n{line}" if line is notes[0] else line)
    for line in warnings:
        console.print(f"warning: {line}", style="yellow")
    report = plan.directory / "report.html"
    if report.is_file():
        console.print(f"report: {report}", soft_wrap=True)
    console.print(f"{plan.directory}", soft_wrap=True)


def _summary_table(rows: Sequence[SummaryRow], width: int) -> Table:
    """Return the table of results, without the columns that are empty, and without some where the
    terminal is narrow; report.html has all.
    """
    from rich.table import Table

    cells = [summary_cells(row) for row in rows if row.role != "grid"]
    columns = {name: [line[i] for line in cells] for i, name in enumerate(HEADER)}
    columns = {
        n: texts for n, texts in columns.items() if any(t not in ("", ABSENT) for t in texts)
    }
    for name in ("seconds per update", "training error", "validation error", "seconds"):
        if _total_width(columns) > width:
            columns.pop(name, None)
    table = Table(box=None, pad_edge=False)
    for name in columns:
        left = name in HEADER[:2]
        table.add_column(
            name.replace(" ", "\n"), justify="left" if left else "right", no_wrap=name != HEADER[1]
        )
    for line in zip(*columns.values(), strict=True):
        table.add_row(*line)
    return table


def _total_width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the characters of the widest line, two between columns."""
    return sum(
        2 + max(len(text) for text in [*name.split(), *texts]) for name, texts in columns.items()
    )


def _target_table(times: Sequence[TimeToTarget]) -> Table:
    from rich.table import Table

    header, rows = target_rows(times)
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table
