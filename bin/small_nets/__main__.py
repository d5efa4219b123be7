"""``python -m small_nets``: fits every problem from several seeds and prints a table of medians."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from gnopt.machine import thread_environment

if TYPE_CHECKING:
    from small_nets.contestants import Fit

SHOWN = ("problem", "who", "weights", "steps", "seconds", "median", "worst", "test median")


@click.command()
@click.option("--problems", "names", default="", metavar="NAMES", help="These alone; default all.")
@click.option("--seeds", default=8, show_default=True, help="Initial weights.")
@click.option("--first-seed", default=0, show_default=True)
@click.option("--peers/--no-peers", default=True, show_default=True, help="Run the others as well.")
@click.option("--out", type=click.Path(path_type=Path), help="A CSV to which rows are added.")
def command(names: str, seeds: int, first_seed: int, peers: bool, out: Path | None) -> None:
    """Fit small nets to noiseless functions, each contestant for as many seconds as gnopt takes."""
    os.environ.update(thread_environment(1))  # before BLAS is first used
    from small_nets.contestants import Contest
    from small_nets.problems import FUNCTIONS, problem

    click.echo("  ".join(f"{name:>11}" for name in SHOWN))
    for function in FUNCTIONS:
        if names and function.name not in names.split(","):
            continue
        found: dict[str, list[Fit]] = {}
        for seed in range(first_seed, first_seed + seeds):
            contest = Contest(problem(function), seed)
            own = contest.gnopt(function.updates)
            found.setdefault("gnopt", []).append(own)
            if peers:
                others: dict[str, Callable[[], Fit]] = {
                    "scipy lm": lambda c=contest, s=own.seconds: c.minpack(s),  # type: ignore[misc]
                    "L-BFGS": lambda c=contest, s=own.seconds: c.lbfgs(s),  # type: ignore[misc]
                    "sklearn": contest.sklearn,
                }
                for name, run in others.items():
                    found.setdefault(name, []).append(run())
        for name, fits in found.items():
            row = [
                function.name,
                name,
                contest.net.size,
                round(float(np.median([fit.steps for fit in fits]))),
                round(float(np.median([fit.seconds for fit in fits])), 2),
                *(f"{value:.1e}" for value in _errors(fits)),
            ]
            click.echo("  ".join(f"{cell!s:>11}" for cell in row))
            if out is not None:
                _add(out, row)


def _errors(fits: list[Fit]) -> tuple[float, float, float]:
    train, test = [fit.train for fit in fits], [fit.test for fit in fits]
    return float(np.median(train)), max(train), float(np.median(test))


def _add(out: Path, row: list[object]) -> None:
    new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(SHOWN)
        writer.writerow(row)


if __name__ == "__main__":
    command()
