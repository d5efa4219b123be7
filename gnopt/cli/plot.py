"""``gnopt plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, member, of_member, print_json, tell, which_checkpoint
from gnopt.errors import ConfigError

if TYPE_CHECKING:
    from gnopt.training.load import TrainedNetwork


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--reconstructions",
    "images",
    is_flag=True,
    help="Images beside their reconstructions (one RUN).",
)
@click.option(
    "--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many images."
)
@which_checkpoint
@member
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Where to: one figure as .png, .pdf or .svg, or a folder; default: into the first RUN.",
)
@as_json
@verbosity
def command(
    runs: tuple[Path, ...],
    images: bool,
    count: int,
    which: str | None,
    member: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw RUNs, finished or not: objective against updates and seconds, and what the method did.

    All members of a RUN that is an ensemble are drawn. A RUN may also be the directory of a
    comparison: several of them become the columns of one figure.
    """
    runs = tuple(of_member(run, member) for run in runs)
    if images and len(runs) > 1:
        raise ConfigError(f"--reconstructions: expected one RUN, found {len(runs)}")
    facts: dict[str, object] = {}
    if images:
        made, trained = _reconstructions(runs[0], out, which, count)
        facts = {"checkpoint": str(trained.path), "handed_out": trained.handed.facts()}
        tell(trained.told(), which)
    else:
        made = _figures(runs, out)
    if as_json:
        print_json({"figures": [str(path) for path in made], **facts})
    else:
        click.echo("\n".join(str(path) for path in made))


def _reconstructions(
    run: Path, out: Path | None, which: str | None, count: int
) -> tuple[list[Path], TrainedNetwork]:
    from gnopt.plots.reconstructions import draw_reconstructions
    from gnopt.training.load import load_run

    path = _inside(out or (run if run.is_dir() else run.parent), "reconstructions.png")
    # A few images need no GPU, so this works where the run's own device is missing.
    on_host = {"training.device": ("gnopt plot", "cpu")}
    trained = load_run(run, which, on_host)
    draw_reconstructions(trained, path, count)
    return [path], trained


def _figures(runs: tuple[Path, ...], out: Path | None) -> list[Path]:
    from gnopt.compare.plan import FILE

    compared = [run for run in runs if (run / FILE).is_file()]
    if compared and len(compared) < len(runs):
        raise ConfigError("RUN...: expected runs or comparisons, found both")
    if compared:
        from gnopt.plots.comparison import draw_comparison, read_panel

        panels = [read_panel(run, titled=len(runs) > 1) for run in runs]
        return draw_comparison(panels, _inside(out or runs[0], "objective"))
    from gnopt.plots.run_curves import draw_runs
    from gnopt.plots.steps import draw_steps
    from gnopt.training.rundir import members

    single = [path for run in runs for path in members(run) or [run]]
    made = draw_runs(single, _inside(out or runs[0], "curves.png"))
    return (
        made
        if out and out.suffix
        else [*made, *draw_steps(single, _inside(out or runs[0], "steps.png"))]
    )


def _inside(place: Path, name: str) -> Path:
    """Return ``place`` if it is the name of a file, else the file ``name`` in the folder."""
    if place.suffix and not place.is_dir():
        return place
    return place / name
