"""``python -m battery``: runs what is missing in a folder, then writes its report."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gnopt.errors import GnoptError
from gnopt.machine import thread_environment, usable_cores


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder of runs.csv and the report.")
@click.option("--seed", default=0, show_default=True, help="Master seed; 0 is published.")
@click.option("--count", default=300, show_default=True, help="Number of problems.")
@click.option("--first", default=0, show_default=True, help="The first problem.")
@click.option("--problems", default="", metavar="N,N", help="These problems only.")
@click.option(
    "--methods", default="kfra,kflr,kfac,adam", show_default=True, metavar="NAMES",
    help="Methods to run; adam means five rates.",
)  # fmt: skip
@click.option("--again", default="", metavar="NAMES", help="Methods whose runs are made anew.")
@click.option(
    "--seconds-factor", "factor", default=1.0, show_default=True, metavar="F",
    help="Multiplies the seconds of every run.",
)  # fmt: skip
@click.option("--jobs", type=int, help="Runs at once (default: one for each core).")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE",
    help="A setting for every run whose method has it.",
)  # fmt: skip
@click.option("--show", type=int, metavar="N", help="Print a problem and end.")
@click.option(
    "--compare", type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="BEFORE AFTER", help="Compare the reports of two folders and end.",
)  # fmt: skip
def command(
    out: Path | None,
    show: int | None,
    compare: tuple[Path, Path] | None,
    seed: int,
    **options: object,
) -> None:
    """Train random problems with methods at their defaults and with Adam at the best of five rates.

    Every run gets the same seconds of the processor. Runs that DIR has are not made again.
    """
    os.environ.update(thread_environment(1))  # before NumPy is imported
    from battery import session

    try:
        if show is not None:
            click.echo(session.shown(show, seed))
        elif compare is not None:
            click.echo(session.compared(*compare))
        elif out is None:
            raise click.UsageError("--out is missing")
        else:
            settings = session.Settings(out=out, seed=seed, **options)  # type: ignore[arg-type]
            click.echo(session.run(settings, usable_cores()))
    except GnoptError as error:
        click.echo(f"battery: error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    command()
