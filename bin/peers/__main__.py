"""``python -m peers``: the command behind bin/benchmark."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gnopt.errors import GnoptError
from gnopt.machine import thread_environment


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99})
@click.option(
    "--net", type=click.Choice(["mnist10k", "classifier", "all"]), default="all", show_default=True
)
@click.option(
    "--methods",
    default="",
    metavar="NAMES",
    help="Comma-separated variants; default: all quick enough.",
)
@click.option(
    "--rounds", type=click.IntRange(1), help="Interleaved rounds (default 20; --quick: 10)."
)
@click.option(
    "--quick", is_flag=True, help="Small stand-in networks: seconds, to see that everything works."
)
@click.option("--slow", is_flag=True, help="Also what takes minutes: exact KFLR on 784 outputs.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of linear algebra.",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: processor time, for one thread on a machine that others use.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
@click.option(
    "--peers", is_flag=True, help="Also torch, BackPACK and kfac-jax, where --peer-python has them."
)
@click.option(
    "--peer-python",
    default=sys.executable,
    metavar="PATH",
    help="Interpreter that the peers run under.",
)
@click.option(
    "--time-to-target",
    is_flag=True,
    help="Also `gnopt train` to given objectives, with peak memory.",
)
@click.option(
    "--targets", default="", metavar="NUMBERS", help="Objectives for it, comma-separated."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    help="Configuration for it (default: configs/mnist10k.toml).",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Most seconds of training in each run to a target.",
)
@click.option(
    "--baseline-seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Let Adam (with --peers: each peer) train for S seconds first; what it reaches is a "
    "target.",
)
@click.option(
    "--exact", is_flag=True, help="Also exact KFLR, time and peak memory in a process of its own."
)
@click.option(
    "--growth",
    is_flag=True,
    help="Also cost against batch, width, depth and outputs, with a figure.",
)
@click.option("--only", is_flag=True, help="Leave out the phases: only what else was asked for.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/benchmark"), show_default=True
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there."
)
def command(threads: int, **options: object) -> None:
    """Measure what updates cost on this machine, phase by phase, beside the least they could cost.

    Tables on stdout; phases.csv, rates.csv, benchmark.json and what else was asked for in --out.
    """
    os.environ.update(thread_environment(threads))  # before NumPy is imported
    from peers.session import Settings, run

    try:
        run(Settings(threads=threads, **options))  # type: ignore[arg-type]
    except GnoptError as error:
        click.echo(f"benchmark: error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    command()
