"""Draw the objective of runs against updates and against seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt.compare.loss_curves import Curve, run_curve, thinned
from gnopt.config import load
from gnopt.data.classes import LabelRule
from gnopt.data.source import open_data
from gnopt.engine.losses import get_loss
from gnopt.engine.weighted import Weighted
from gnopt.errors import DataError, GnoptError
from gnopt.plots.figure import colour, distinct, legend_below, log_axis, new_figure, save_all, style
from gnopt.training.csv_table import read_columns
from gnopt.training.evaluate import chunks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = ("step", "seconds", "train_loss", "validation_loss")


@dataclass(frozen=True)
class RunLines:
    """The lines that are drawn for one run."""

    evaluations: dict[str, np.ndarray]  # columns of eval.csv
    batches: Curve  # sliding mean of the batches' loss
    floor: float  # lowest objective that the targets allow; 0 if it is not known


def read_run(run: Path) -> RunLines:
    """Read the lines of a run, finished or not; DataError if it has no evaluations yet."""
    evaluations = read_columns(run / "eval.csv", _NAMES)
    if not len(evaluations["step"]):
        raise DataError(f"{run / 'eval.csv'}: no evaluations to draw")
    return RunLines(evaluations, run_curve(run), _floor(run))


def _floor(run: Path) -> float:
    """Return the floor over the rows that evaluations use; 0 if the data cannot be opened."""
    try:
        config = load(run / "config.toml")
        loss = get_loss(config.network.loss)
        training = config.training
        labels = LabelRule.of(loss)
        with open_data(
            config.data, seed=training.seed, dtype=training.dtype, labels=labels
        ) as data:
            if data.train.weights is not None:
                loss = Weighted(loss, training.dtype)
            targets = (
                loss.convert_targets(y) for _, y in chunks(data.train, training.evaluate_rows)
            )
            sums = [(loss.floor(y).sum(dtype=np.float64), loss.totals(y)[0]) for y in targets]
    except (GnoptError, OSError):  # the run was copied here without its data
        return 0.0
    return float(sum(total for total, _ in sums) / sum(count for _, count in sums))


def draw_runs(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draw objectives (solid), validation (dashed) and batches (faint); return the files."""
    lines = [read_run(run) for run in runs]
    names = distinct(runs)
    with style():
        figure = new_figure(9.0, 4.2)
        axes = figure.subplots(1, 2, sharey=True)
        for number, (line, name) in enumerate(zip(lines, names, strict=True)):
            _draw(axes, line, colour(number), name if len(runs) > 1 else "")
        floors = sorted({line.floor for line in lines if line.floor > 0.0})
        lowest = min(float(np.nanmin(line.evaluations["train_loss"])) for line in lines)
        for floor in floors:
            if floor > 0.6 * lowest:
                for axis in axes:
                    label = (
                        "lowest objective that the targets allow" if floor == floors[0] else None
                    )
                    axis.axhline(floor, color="0.45", linestyle=":", linewidth=1.2, label=label)
        for axis, text in zip(axes, ("updates", "seconds of training"), strict=True):
            axis.set_xlabel(text)
            axis.set_xlim(left=0)
        if _positive(lines):
            log_axis(axes[0].yaxis)
        axes[0].set_ylabel(
            "objective per example"
            if len(runs) == 1
            else "objective per example\n(dashed: validation; faint: batches)"
        )
        legend_below(figure, axes[0])
        return save_all(figure, out)


def _draw(axes: Sequence[Axes], line: RunLines, shade: str, name: str) -> None:
    """Draw a run into both panels. With a ``name`` the legend names the run, else its lines."""
    at, batches, columns = thinned(line.batches, 2000), line.batches, line.evaluations
    for axis, key, x in ((axes[0], "step", batches.updates), (axes[1], "seconds", batches.seconds)):
        if len(at):
            axis.plot(
                x[at],
                batches.loss[at],
                color=shade,
                alpha=0.35,
                linewidth=1.0,
                label=None if name else "batches, sliding mean",
            )
        axis.plot(columns[key], columns["train_loss"], color=shade, label=name or "training")
        if np.isfinite(columns["validation_loss"]).any():
            axis.plot(
                columns[key],
                columns["validation_loss"],
                "--",
                color=shade,
                label=None if name else "validation",
            )


def _positive(lines: Sequence[RunLines]) -> bool:
    return all(np.nanmin(line.evaluations["train_loss"]) > 0.0 for line in lines)
