"""Draw the loss of runs against updates and seconds of training, and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt.compare.loss_curves import Curve, run_curve, thinned
from gnopt.config import Config
from gnopt.data.classes import LabelRule
from gnopt.data.source import open_data
from gnopt.engine.losses import get_loss
from gnopt.engine.weighted import Weighted
from gnopt.errors import DataError, GnoptError
from gnopt.notes import note
from gnopt.plots.figure import (
    colours_of_runs,
    distinct,
    legend,
    log_axis,
    new_figure,
    plain,
    save_all,
    style,
)
from gnopt.training import checkpoint
from gnopt.training.csv_table import read_columns
from gnopt.training.evaluate import chunks
from gnopt.training.origin import data_difference, own_config
from gnopt.training.rundir import read_info

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIXED = ("step", "seconds", "train_loss", "validation_loss")
_MOST = 4  # panels of metrics
_FAR = 20.0  # metrics that fall by more than this factor get a logarithmic axis


@dataclass(frozen=True)
class RunLines:
    """The lines that are drawn for one run, and what a title says of it."""

    evaluations: dict[str, np.ndarray]  # columns of eval.csv
    batches: Curve  # sliding mean of the batches' loss
    floor: float  # lowest loss that the targets allow; 0 if it is not known
    metrics: dict[str, str]  # end of a column of eval.csv → its name in words
    best: int | None  # the update of the best network
    method: str
    subject: str  # data and network
    handed_out: str  # which network is the best, and why; empty while the run goes on

    @property
    def validated(self) -> bool:
        """Whether there are validation rows."""
        return bool(np.isfinite(self.evaluations["validation_loss"]).any())

    def at_best(self, column: str) -> tuple[float, float, float] | None:
        """Return update, seconds and the value in ``column`` of the best network, or None."""
        (places,) = np.nonzero(self.evaluations["step"] == self.best)
        if not len(places):
            return None
        row = {name: float(values[places[-1]]) for name, values in self.evaluations.items()}
        return row["step"], row["seconds"], row[column]


def read_run(run: Path) -> RunLines:
    """Read the lines of a run, finished or not; DataError if it has no evaluations yet."""
    if not len(read_columns(run / "eval.csv", ("step",))["step"]):
        raise DataError(f"{run / 'eval.csv'}: no evaluations to draw")
    config, info = own_config(run), read_info(run)
    metrics = _metrics(config)
    columns = [f"{rows}_{name}" for name in metrics for rows in ("train", "validation")]
    best = checkpoint.pointed(run / "checkpoints", "best")
    handed = info.get("handed_out") or {}
    sizes = "-".join(map(str, info.get("sizes", [])))
    return RunLines(
        read_columns(run / "eval.csv", [*_FIXED, *columns]),
        run_curve(run),
        _floor(run, config),
        metrics,
        handed.get("step", checkpoint.step_of(best) if best else None),
        config.method,
        f"{Path(config.data.file).name}, network {sizes}",
        f"best: update {handed['step']}, {handed['reason']}" if handed else "",
    )


def _metrics(config: Config) -> dict[str, str]:
    """Return the metrics that a run was asked for, the one that judges it first, or the error."""
    training = config.training
    names = sorted(training.measured, key=lambda name: name != training.judge)
    if not names:
        return {"error": get_loss(config.network.loss).error_name}
    return {name: name.replace("_", " ") for name in names[:_MOST]}


def _floor(run: Path, config: Config) -> float:
    """Return the floor over the rows that evaluations use; 0 if the data cannot be opened, or are
    not those that the run was started with, which is noted.
    """
    try:
        loss = get_loss(config.network.loss)
        training = config.training
        labels = LabelRule.of(loss)
        with open_data(
            config.data, seed=training.seed, dtype=training.dtype, labels=labels
        ) as data:
            difference = data_difference(run, data.fingerprint)
            if difference:
                note(f"{difference}; the floor is not drawn")
                return 0.0
            if data.train.weights is not None:
                loss = Weighted(loss, training.dtype)
            targets = (
                loss.convert_targets(y) for _, y in chunks(data.train, training.evaluate_rows)
            )
            sums = [(loss.floor(y).sum(dtype=np.float64), loss.totals(y)[0]) for y in targets]
    except (GnoptError, OSError):  # the run was copied here without its data
        return 0.0
    return float(sum(total for total, _ in sums) / sum(count for _, count in sums))


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: a quantity of eval.csv against updates or seconds."""

    quantity: str  # end of the names of its columns
    across: str  # column of eval.csv
    title: str
    label: str  # of the horizontal axis


def draw_runs(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draw losses and metrics of runs, and mark the best network of each; return the files.

    Lines are solid on the training rows, dashed on the validation rows, and faint for batches.
    """
    lines = [read_run(run) for run in runs]
    names = distinct(runs) if len(runs) > 1 else [""]
    metrics = {key: title for line in lines for key, title in line.metrics.items()}
    panels = [
        _Panel("loss", "step", "loss", "updates"),
        _Panel("loss", "seconds", "loss", "seconds of training"),
        *(_Panel(key, "step", title, "updates") for key, title in metrics.items()),
    ]
    with style():
        width = len(panels) if len(panels) < 4 else -(-len(panels) // 2)
        height = -(-len(panels) // width)
        figure = new_figure(4.2 * width, 3.6 * height + 0.7)
        axes = list(figure.subplots(height, width, squeeze=False).flat)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis, panel in zip(axes, panels, strict=False):
            for line, name, colour in zip(lines, names, colours_of_runs(runs), strict=True):
                _draw(axis, panel, line, colour, name)
            axis.set_title(panel.title)
            axis.set_xlabel(panel.label)
            axis.set_xlim(left=0)
        axes[1].sharey(axes[0])
        _draw_floors(axes[:2], lines)
        if all(np.nanmin(line.evaluations["train_loss"]) > 0.0 for line in lines):
            log_axis(axes[0].yaxis)
        for axis, panel in zip(axes[2:], panels[2:], strict=False):
            if _falls_far([line.evaluations.get(f"train_{panel.quantity}") for line in lines]):
                log_axis(axis.yaxis)
        figure.suptitle("\n".join(map(plain, _title(lines).split("\n"))), fontsize=10.5)
        handles, labels = axes[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        order = sorted(unique, key=lambda label: label not in names)  # the runs come first
        legend(figure, [unique[label] for label in order], order)
        return save_all(figure, out)


def _draw(axis: Axes, panel: _Panel, line: RunLines, colour: str, name: str) -> None:
    """Draw one run into a panel. With a ``name``, the legend has it, else the kinds of lines."""
    columns, batches = line.evaluations, line.batches
    across = columns[panel.across]
    if panel.quantity == "loss" and len(batches):
        at = thinned(batches, 2000)
        x = batches.updates if panel.across == "step" else batches.seconds
        axis.plot(
            x[at],
            batches.loss[at],
            color=colour,
            alpha=0.3,
            linewidth=1.0,
            label="batches, sliding mean",
        )
    train, validation = f"train_{panel.quantity}", f"validation_{panel.quantity}"
    if train in columns and np.isfinite(columns[train]).any():
        axis.plot(across, columns[train], color=colour, label=name or "training rows")
    if line.validated and validation in columns:
        axis.plot(across, columns[validation], "--", color=colour, label="validation rows")
    best = line.at_best(validation if line.validated else train) if train in columns else None
    if best is not None:
        step, seconds, value = best
        axis.plot(
            [step if panel.across == "step" else seconds],
            [value],
            "o",
            markersize=7,
            markerfacecolor="white",
            markeredgewidth=1.8,
            color=colour,
            label="best network",
            zorder=4,
        )


def _draw_floors(axes: Sequence[Axes], lines: Sequence[RunLines]) -> None:
    """Draw the lowest possible loss as a dotted line where the runs come near it."""
    lowest = min(float(np.nanmin(line.evaluations["train_loss"])) for line in lines)
    for floor in sorted({line.floor for line in lines if line.floor > 0.6 * lowest}):
        for axis in axes:
            axis.axhline(
                floor,
                color="0.45",
                linestyle=":",
                linewidth=1.2,
                label="lowest loss that the targets allow",
            )


def _title(lines: Sequence[RunLines]) -> str:
    """Return the title of the figure: what was trained on what, and which network is the best."""
    first = lines[0]
    if len(lines) == 1:
        texts = [f"{first.method} on {first.subject}", first.handed_out]
        return "\n".join(filter(None, texts))
    same = all(line.subject == first.subject for line in lines)
    return f"{len(lines)} runs on {first.subject}" if same else f"{len(lines)} runs"


def _falls_far(columns: Sequence[np.ndarray | None]) -> bool:
    """Return whether positive numbers reach over more than ``_FAR`` times the lowest."""
    known = np.concatenate(
        [column[np.isfinite(column)] for column in columns if column is not None]
    )
    return bool(len(known)) and 0.0 < _FAR * float(known.min()) < float(known.max())
