"""Draw what a method did, update by update: norms, step sizes, damping and batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnopt.errors import DataError
from gnopt.plots.figure import (
    colours_of_runs,
    distinct,
    legend_below,
    log_axis,
    new_figure,
    save_all,
    style,
)
from gnopt.plots.thinning import read_lines

# Column of steps.csv → (title of its panel, whether the axis is logarithmic).
PANELS = {
    "grad_norm": ("norm of the gradient", True),
    "step_norm": ("norm of the step", True),
    "lr": ("learning rate", True),
    "alpha": ("α, step size of the direction", True),
    "damping": ("damping λ (relative rule: its multiple)", True),
    "rho": ("ρ, actual over predicted change", False),
    "mu": ("μ, share of the previous step", False),
    "nu": ("ν, share of the sum of past directions", False),
    "batch": ("rows per batch", False),
    "batch_noise": ("noise's share of the step", False),
    "weight_decay": ("weight decay", True),
    "effective": ("weights in use", False),
    "log_evidence": ("log evidence", False),
    "noise": ("noise", True),
    "rejected": ("rejected steps, cumulative", False),
}


def draw_steps(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draw a panel for each column of steps.csv that varies in some run; return the files.

    Raises DataError if no run has made an update.
    """
    tables = [read_lines(run / "steps.csv", list(PANELS), ["rejected"]) for run in runs]
    if not any(len(table["rejected"].steps) for table in tables):
        raise DataError(f"{runs[0] / 'steps.csv'}: no updates to draw")
    names = [name for name in PANELS if any(table[name].varies for table in tables)]
    lines = list(zip(colours_of_runs(runs), distinct(runs), tables, strict=True))
    with style():
        width = min(3, len(names)) or 1
        height = -(-len(names) // width) or 1
        figure = new_figure(3.4 * width, 2.2 * height + 0.5)
        axes = figure.subplots(height, width, squeeze=False, sharex=True)
        for axis, name in zip(axes.flat, names, strict=False):
            title, logarithmic = PANELS[name]
            for shade, label, table in lines:
                line = table[name]
                if len(line.steps):
                    axis.plot(line.steps, line.values, color=shade, linewidth=1.1, label=label)
            axis.set_title(title)
            if logarithmic and all(table[name].positive for table in tables):
                log_axis(axis.yaxis)
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
        for place in range(max(0, len(names) - width), len(names)):  # the lowest of each column
            axes.flat[place].set_xlabel("update")
            axes.flat[place].tick_params(labelbottom=True)
        if len(runs) > 1:
            legend_below(figure, axes.flat[0])
        return save_all(figure, out)
