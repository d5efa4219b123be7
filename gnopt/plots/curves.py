"""The objective of runs against updates and against seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnopt.errors import DataError
from gnopt.plots.figure import new_figure, save
from gnopt.training.tables import read_table

_LINES = (("train_loss", "-"), ("validation_loss", "--"))


def curves(runs: Sequence[Path], out: Path) -> None:
    """Draw the evaluations of ``runs``, finished or not: training solid, validation dashed.

    Raises DataError for a run without evaluations.
    """
    figure = new_figure(10.0, 4.0)
    axes = figure.subplots(1, 2, sharey=True)
    for number, run in enumerate(runs):
        rows = read_table(run / "eval.csv")
        if not rows:
            raise DataError(f"{run / 'eval.csv'}: no evaluations to draw")
        for name, style in _LINES:
            chosen = [row for row in rows if row.get(name)]
            for axis, against in zip(axes, ("step", "seconds"), strict=True):
                axis.plot(*([float(row[key]) for row in chosen] for key in (against, name)), style,
                          color=f"C{number}", label=run.name if name == "train_loss" else None)
    for axis, text in zip(axes, ("updates", "seconds of training"), strict=True):
        axis.set_xlabel(text)
        axis.set_yscale("log")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("objective (dashed: validation)")
    axes[1].legend()
    save(figure, out)
