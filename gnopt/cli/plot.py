"""``gnopt plot``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gnopt.cli import verbosity
from gnopt.cli.common import (
    allow_plugins,
    as_json,
    claim_beside,
    member,
    of_member,
    overwrite,
    print_json,
    tell,
    which_checkpoint,
)
from gnopt.errors import ConfigError, DataError, GnoptError

if TYPE_CHECKING:
    from gnopt.training.load import TrainedNetwork


_NAMES = ("curves.png", "steps.png")


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
    help="Where to: one figure as .png, .pdf or .svg, or a folder; default: into the first RUN, "
    "where figures of the same names are replaced.",
)
@overwrite
@allow_plugins
@as_json
@verbosity
def command(
    runs: tuple[Path, ...],
    images: bool,
    count: int,
    which: str | None,
    member: int | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw RUNs, finished or not: objective against updates and seconds, and what the method did.

    All members of a RUN that is an ensemble are drawn. A RUN may also be the directory of a
    comparison: several of them become the columns of one figure.
    """
    runs = tuple(of_member(run, member) for run in runs)
    place = _Place(runs, out, overwrite)
    if images and len(runs) > 1:
        raise ConfigError(f"--reconstructions: expected one RUN, found {len(runs)}")
    facts: dict[str, object] = {}
    if images:
        made, trained = _reconstructions(runs[0], place, which, count)
        facts = {"checkpoint": str(trained.path), "handed_out": trained.handed.facts()}
        tell(trained.told(), which)
    else:
        made = _figures(runs, place)
        if not made:
            raise GnoptError("nothing could be drawn")
    if as_json:
        print_json({"figures": [str(path) for path in made], **facts})
    else:
        click.echo("\n".join(str(path) for path in made))


def _reconstructions(
    run: Path, place: _Place, which: str | None, count: int
) -> tuple[list[Path], TrainedNetwork]:
    from gnopt.plots.reconstructions import draw_reconstructions
    from gnopt.training.load import load_run

    path = place.of("reconstructions.png")
    # A few images need no GPU, so this works where the run's own device is missing.
    on_host = {"training.device": ("gnopt plot", "cpu")}
    trained = load_run(run, which, on_host)
    draw_reconstructions(trained, path, count)
    return [path], trained


def _figures(runs: tuple[Path, ...], place: _Place) -> list[Path]:
    from gnopt.compare.plan import FILE

    compared = [run for run in runs if (run / FILE).is_file()]
    if compared and len(compared) < len(runs):
        raise ConfigError("RUN...: expected runs or comparisons, found both")
    if compared:
        return _compared(runs, place)
    from gnopt.plots.figure import drawn
    from gnopt.plots.run_curves import draw_runs
    from gnopt.plots.steps import draw_steps
    from gnopt.training.rundir import members

    single = [path for run in runs for path in members(run) or [run]]
    paths = [place.of(name) for name in (("curves.png",) if place.one_file else _NAMES)]
    return [
        made
        for path, draw in zip(paths, (draw_runs, draw_steps), strict=False)
        for made in drawn(path.name, draw, single, path)
    ]


@dataclass(frozen=True)
class _Place:
    """Where figures go: into the first run, or where --out says."""

    runs: tuple[Path, ...]
    out: Path | None
    overwrite: bool

    @property
    def one_file(self) -> bool:
        """Whether --out names a file, which takes one figure."""
        return self.out is not None and bool(self.out.suffix) and not self.out.is_dir()

    def of(self, name: str) -> Path:
        """Return the path of the figure ``name``; ConfigError if the user's files are in its way.

        Figures that gnopt has put into a run are replaced without a question.
        """
        from gnopt.plots.figure import picture_files

        if self.out is None:
            run = self.runs[0]
            return (run if run.is_dir() else run.parent) / name
        path = self.out if self.one_file else self.out / name
        files = [claim_beside(self.runs, file, self.overwrite) for file in picture_files(path)]
        return files[0] if path.suffix else path


def _compared(runs: tuple[Path, ...], place: _Place) -> list[Path]:
    """Draw comparisons: the training objective and, unless one file is asked for, validation."""
    from gnopt.plots.comparison import OBJECTIVE, VALIDATION, draw_comparison, read_panel
    from gnopt.plots.figure import drawn

    made: list[Path] = []
    for quantity in (OBJECTIVE,) if place.one_file else (OBJECTIVE, VALIDATION):
        panels = [read_panel(run, len(runs) > 1, quantity) for run in runs]
        if any(panel.curves for panel in panels):
            path = place.of(quantity.name)
            made += drawn(path.name, draw_comparison, panels, path, quantity)
        elif quantity is OBJECTIVE:
            raise DataError(f"{runs[0]}: no run of this comparison has made an update yet")
    return made
