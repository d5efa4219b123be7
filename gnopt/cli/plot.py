"""``gnopt plot``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, print_json
from gnopt.errors import ConfigError


@click.command("plot", short_help="Figures of finished or running runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--reconstructions", "images", is_flag=True,
              help="Images beside their reconstructions (one RUN).")
@click.option("--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many images.")
@click.option("--checkpoint", "which", default="latest", show_default=True, metavar="latest|best|STEP",
              help="Which weights reconstruct.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE",
              help="Where to (.png, .pdf, .svg); default: into the first RUN.")
@as_json
@verbosity
def command(runs: tuple[Path, ...], images: bool, count: int, which: str, out: Path | None,
            as_json: bool) -> None:
    """Draw the objective of each RUN against updates and seconds, or an autoencoder's reconstructions."""
    if images and len(runs) > 1:
        raise ConfigError(f"--reconstructions: expected one RUN, found {len(runs)}")
    path = out or runs[0] / ("reconstructions.png" if images else "curves.png")
    if images:
        from gnopt.plots.reconstructions import reconstructions
        from gnopt.training.load import load_run

        reconstructions(load_run(runs[0], which), path, count)
    else:
        from gnopt.plots.curves import curves

        curves(runs, path)
    if as_json:
        print_json({"figure": str(path)})
    else:
        click.echo(path)
