"""Results as tables on the terminal and as rows of CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gnopt.files import write_text
from gnopt.optimizers.timing import PHASES
from peers.rounds import Figure, Row

COLUMNS = (*PHASES, "update")


def show(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = ""
) -> None:
    """Print a table: first column left, the others right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title,
        caption=caption or None,
        box=SIMPLE,
        title_justify="left",
        caption_justify="left",
    )
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or pipe has no width of its own
    console.print(table)


def show_phases(name: str, rows: Sequence[Row], quick: bool) -> None:
    """Milliseconds, then ratios to the floor, of every phase."""
    used = [c for c in COLUMNS if any(c in row.figures for row in rows)]
    scale = " (small stand-in network: for the form of the output alone)" if quick else ""
    show(
        f"{name}{scale}: milliseconds per update",
        ["method", *used, "/ passes"],
        [
            [
                row.name,
                *[_cell(row.figures.get(c), "ms") for c in used],
                _cell(row.figures.get("update"), "relative"),
            ]
            for row in rows
        ],
        "/ passes: the update over forward and backward passes of the same rounds",
    )
    show(
        f"{name}: times over the least",
        ["method", *used, "GFLOP", "% in products"],
        [
            [
                row.name,
                *[_cell(row.figures.get(c), "ratio") for c in used],
                _cell(row.figures.get("update"), "gflop"),
                _share(row),
            ]
            for row in rows
            if "update" in row.figures
        ],
        "seconds / (least flops / sgemm rate of the moment); -: no products. % in products: "
        "share of the update in phases that have a least",
    )


def _cell(figure: Figure | None, what: str) -> str:
    if figure is None:
        return ""
    values = {
        "ms": figure.seconds * 1e3,
        "ratio": figure.ratio,
        "relative": figure.relative,
        "gflop": None if figure.flops is None else figure.flops * 1e-9,
    }
    return number(values[what])


def _share(row: Row) -> str:
    timed = sum(f.seconds for name, f in row.figures.items() if name in PHASES and f.flops)
    return f"{100.0 * timed / row.figures['update'].seconds:.0f}" if timed else "-"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:.3g}"


def show_rates(seen: dict[str, list[float]], threads: str) -> None:
    """Median, lowest and highest rate over the rounds."""
    show(
        f"Rates, GFLOP/s, {threads} thread(s)",
        ["routine", "median", "lowest", "highest"],
        [[name, *(number(f(values)) for f in (median, min, max))] for name, values in seen.items()],
    )


def phase_rows(net: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One CSV row for every net, method and phase."""
    return [
        {
            "net": net,
            "method": row.name,
            "phase": phase,
            "seconds": figure.seconds,
            "gflop": None if figure.flops is None else figure.flops * 1e-9,
            "floor_seconds": figure.floor,
            "ratio_to_floor": figure.ratio,
            "ratio_to_passes": figure.relative,
            "samples": row.samples,
        }
        for row in rows
        for phase, figure in row.figures.items()
    ]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows that share their keys; an empty cell stands for None."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
