"""Draw the objective at the end of the budget over a grid of settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt.compare.choice import PointResult, VariantResult
from gnopt.compare.grid import DECAY_SHARE, setting_text
from gnopt.plots.figure import new_figure, plain, save_all, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_heatmap(chosen: Sequence[VariantResult], out: Path) -> list[Path]:
    """Draw the grid of every variant that has one, and return the files.

    The best point is framed, points that diverged are hatched. Of a grid with more than two axes,
    the first two are shown, and a cell has the best result over the others.
    """
    gridded = [one for one in chosen if one.default is not None]
    if not gridded:
        return []
    sizes = [_axes(one) for one in gridded]
    with style():
        widths = [1.6 + 0.62 * len(x[1]) for x, _ in sizes]
        height = 1.5 + 0.42 * max(len(y[1]) for _, y in sizes)
        figure = new_figure(max(4.0, sum(widths)), height)
        axes = figure.subplots(1, len(gridded), squeeze=False, width_ratios=widths)[0]
        for axis, one, (x, y) in zip(axes, gridded, sizes, strict=True):
            _draw(axis, one, x, y)
        return save_all(figure, out)


Axis = tuple[str, list[object]]


def _axes(one: VariantResult) -> tuple[Axis, Axis]:
    names = list(one.variant.grid)
    if len(names) == 1:
        return (names[0], one.variant.grid[names[0]]), ("", [None])
    return (names[0], one.variant.grid[names[0]]), (names[1], one.variant.grid[names[1]])


def _draw(axis: Axes, one: VariantResult, x: Axis, y: Axis) -> None:
    from matplotlib.patches import Rectangle

    cells = [[_best(one, x, i, y, j) for i in range(len(x[1]))] for j in range(len(y[1]))]
    values = np.array([[_value(result) for result in row] for row in cells])
    finite = values[np.isfinite(values)]
    # Bad points would squeeze all others into one shade: colours end at three times the better
    # half's range.
    top = None
    if len(finite):
        top = min(
            finite.max(), finite.min() + 3.0 * (np.median(finite) - finite.min()) or finite.max()
        )
    axis.imshow(
        values, cmap="viridis_r", aspect="auto", vmin=finite.min() if len(finite) else 0, vmax=top
    )
    for j, row in enumerate(cells):
        for i, result in enumerate(row):
            _write(axis, i, j, result, values[j, i], finite, top)
            if result is one.best:
                axis.add_patch(
                    Rectangle(
                        (i - 0.5, j - 0.5),
                        1,
                        1,
                        fill=False,
                        edgecolor="#D55E00",
                        linewidth=2.5,
                        clip_on=False,
                        zorder=3,
                    )
                )
    axis.set_xticks(range(len(x[1])), [_tick(x[0], v) for v in x[1]])
    axis.set_yticks(range(len(y[1])), [_tick(y[0], v) for v in y[1]])
    axis.set_xlabel(_name(x[0]))
    axis.set_ylabel(_name(y[0]))
    axis.grid(False)
    others = list(one.variant.grid)[2:]
    title = f"{one.variant.name}: objective"
    axis.set_title(plain(title + (f", best over {', '.join(others)}" if others else "")))


def _write(
    axis: Axes,
    i: int,
    j: int,
    result: PointResult | None,
    value: float,
    finite: np.ndarray,
    top: float | None,
) -> None:
    from matplotlib.patches import Rectangle

    if np.isfinite(value):
        dark = top is not None and value > (finite.min() + top) / 2
        axis.text(
            i,
            j,
            f"{value:.4g}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else "black",
        )
        return
    axis.add_patch(
        Rectangle((i - 0.5, j - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.6", linewidth=0)
    )
    text = "none" if result is None else "diverged" if result.count("diverged") else "failed"
    axis.text(i, j, text, ha="center", va="center", fontsize=7, color="0.2")


def _best(one: VariantResult, x: Axis, i: int, y: Axis, j: int) -> PointResult | None:
    results = [
        result
        for result in one.results
        if result.point.values
        and result.point.values[x[0]] == x[1][i]
        and (not y[0] or result.point.values[y[0]] == y[1][j])
    ]
    return min(results, key=lambda result: result.rank, default=None)


def _value(result: PointResult | None) -> float:
    return result.mean("objective") if result is not None and result.complete else float("nan")


def _name(name: str) -> str:
    return {"learning_rate": "learning rate", DECAY_SHARE: "halved every\n(share of updates)"}.get(
        name, plain(name)
    )


def _tick(name: str, value: object) -> str:
    if value is None:
        return ""
    text = setting_text(name, value)
    return f"$2^{{{text[2:]}}}$" if text.startswith("2^") else plain(text)
