"""Draw the cosine of each method's update with the exact Gauss-Newton update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt.inspection.alignment import Alignment
from gnopt.plots.figure import colours_of, legend_below, new_figure, save_all, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", "-.", ":")  # so that lines of methods that agree can be told apart
TITLES = (("cosine", "Euclidean cosine"), ("gn_cosine", "cosine in the Gauss-Newton inner product"))


def draw_alignment(alignments: Sequence[Alignment], out: Path) -> list[Path]:
    """Draw cosines against steps, or layer by layer if there is a single step; return the files.

    Over several runs, the mean and the range are drawn. Several λ give a row of panels each; a λ
    that the configuration chose differs from step to step and counts as one.
    """
    several = len({a.step for a in alignments}) > 1
    parts = _by_damping(alignments)
    with style():
        figure = new_figure(9.5, 0.7 + 3.2 * len(parts))
        axes = figure.subplots(len(parts), 2, sharey=True, squeeze=False)
        for row, (label, part) in zip(axes, parts.items(), strict=True):
            for axis, (field, title) in zip(row, TITLES, strict=True):
                (_by_step if several else _by_layer)(axis, part, field)
                axis.set_title(title + label)
            row[0].set_ylabel("cosine with the exact update")
        legend_below(figure, axes[0, 0])
        return save_all(figure, out)


def _by_damping(alignments: Sequence[Alignment]) -> dict[str, list[Alignment]]:
    """Return {end of the title: alignments with one λ}; a single group if each step has one λ."""
    per_step = {
        step: {a.damping for a in alignments if a.step == step and a.run == run}
        for step, run in {(a.step, a.run) for a in alignments}
    }
    if all(len(values) == 1 for values in per_step.values()):
        return {"": list(alignments)}
    return {
        f", λ = {value:.3g}": [a for a in alignments if a.damping == value]
        for value in dict.fromkeys(a.damping for a in alignments)
    }


def _methods(alignments: Sequence[Alignment]) -> list[str]:
    return list(dict.fromkeys(a.method for a in alignments))


def _by_step(axis: Axes, alignments: Sequence[Alignment], field: str) -> None:
    shades = colours_of(_methods(alignments))
    for number, method in enumerate(shades):
        mine = [a for a in alignments if a.method == method and a.layer == 0]
        steps = sorted({a.step for a in mine})
        values = [[getattr(a, field) for a in mine if a.step == step] for step in steps]
        axis.plot(
            steps,
            [np.mean(v) for v in values],
            DASHES[number % len(DASHES)],
            marker="o",
            markersize=3,
            color=shades[method],
            label=method,
        )
        if len({a.run for a in mine}) > 1:
            axis.fill_between(
                steps,
                [min(v) for v in values],
                [max(v) for v in values],
                color=shades[method],
                alpha=0.15,
                linewidth=0,
            )
    axis.set_xlabel("update")


def _by_layer(axis: Axes, alignments: Sequence[Alignment], field: str) -> None:
    methods = _methods(alignments)
    shades = colours_of(methods)
    layers = sorted({a.layer for a in alignments})
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        heights = [
            np.mean(
                [getattr(a, field) for a in alignments if (a.method, a.layer) == (method, layer)]
            )
            for layer in layers
        ]
        places = np.arange(len(layers)) + (number - (len(methods) - 1) / 2) * width
        axis.bar(places, heights, width, color=shades[method], label=method)
    axis.set_xticks(range(len(layers)), ["all", *map(str, layers[1:])])
    axis.set_xlabel("layer")
    axis.grid(axis="x", visible=False)
