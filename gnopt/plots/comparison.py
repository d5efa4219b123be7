"""Draw the loss of several methods, on one or several problems, against updates and seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gnopt.compare.choice import VariantResult, evaluate_plan
from gnopt.compare.loss_curves import Curve, run_curve, thinned, validation_curve
from gnopt.compare.plan import read_plan
from gnopt.compare.result_files import shown_curves
from gnopt.plots.figure import (
    colours_of,
    legend,
    lighter,
    log_axis,
    new_figure,
    plain,
    save_all,
    style,
)
from gnopt.training import rundir

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_DASHED = (0, (5, 2))
# Role → line style, line width, and the words after the name in the legend.
_ROLES = {
    "single": ("-", 1.7, ""),
    "best": ("-", 1.7, ", best of {points}"),
    "few": (":", 1.5, ", mean of the best {few}"),
    "default": ((0, (5, 1, 1, 1)), 1.2, ", default settings"),
}
_MAIN = ("single", "best")
_FAR = 4.0  # curves whose lengths differ by more than this factor need a logarithmic axis


@dataclass(frozen=True)
class Panel:
    """The curves of one problem: (variant, role, curve, whether the curve is cut short)."""

    title: str
    curves: Sequence[tuple[VariantResult, str, Curve, bool]]


@dataclass(frozen=True)
class Quantity:
    """What a figure of a comparison shows: the name of its file, the name of its vertical axis, and
    how the curve of a run is read.
    """

    name: str
    label: str
    read: Callable[[Path], Curve]


OBJECTIVE = Quantity("objective", "training objective per example", run_curve)
VALIDATION = Quantity("validation", "validation loss", validation_curve)


def read_panel(directory: Path, titled: bool, quantity: Quantity = OBJECTIVE) -> Panel:
    """Read the curves of a comparison, finished or not; there may be none."""
    plan = read_plan(directory)
    started = [run for run in plan.runs if rundir.is_run(plan.run_path(run))]
    present = {run.variant for run in started}
    plan = replace(plan, runs=started, variants=[v for v in plan.variants if v.name in present])
    curves = shown_curves(plan, evaluate_plan(plan), quantity.read)
    return Panel(directory.resolve().name if titled else "", curves)


def draw_comparison(
    panels: Sequence[Panel], out: Path, quantity: Quantity = OBJECTIVE
) -> list[Path]:
    """Draw the panels and return the files.

    One problem gives two panels side by side; several problems give a column each, with seconds
    above updates. Lines are averaged over seeds; bands reach from the lowest seed to the highest.
    """
    shades = _shades(panels)
    with style():
        if len(panels) == 1:
            figure = new_figure(9.2, 4.6)
            pairs = [figure.subplots(1, 2, sharey=True)]
        else:
            figure = new_figure(3.6 * len(panels), 6.8)
            grid = figure.subplots(2, len(panels), squeeze=False, sharey="col")
            pairs = [(grid[1, i], grid[0, i]) for i in range(len(panels))]
        handles: dict[str, Line2D] = {}
        for panel, (updates, seconds) in zip(panels, pairs, strict=True):
            _draw(panel, updates, seconds, shades, handles)
            if panel.title:
                (seconds if len(panels) > 1 else updates).set_title(plain(panel.title), loc="left")
        for axis in {pairs[0][0], pairs[0][1]} if len(panels) > 1 else {pairs[0][0]}:
            axis.set_ylabel(quantity.label)
        legend(figure, list(handles.values()), list(handles))
        return save_all(figure, out)


def _draw(
    panel: Panel,
    updates: Axes,
    seconds: Axes,
    shades: dict[tuple[str, str], str],
    handles: dict[str, Line2D],
) -> None:
    curves = [curve for _, _, curve, _ in panel.curves]
    for axis, name, text in (
        (updates, "updates", "updates"),
        (seconds, "seconds", "seconds of training"),
    ):
        logarithmic = _far_apart(curves, name)
        for one, role, curve, cut in panel.curves:
            line, width, _ = _ROLES[_kind(role)]
            x, at = getattr(curve, name), thinned(curve, 1000)
            if logarithmic:  # points at 0 have no place on the axis: they would draw a level line
                at = at[x[at] > 0.0]
            shade = shades[(one.variant.name, one.variant.method)]
            (handles[_label(one, role)],) = axis.plot(
                x[at],
                curve.loss[at],
                linestyle=_DASHED if one.variant.line == "dashed" else line,
                linewidth=width,
                color=shade,
                alpha=1.0 if role in _MAIN else 0.7,
            )
            if curve.runs > 1 and role in _MAIN:
                axis.fill_between(
                    x[at], curve.low[at], curve.high[at], color=shade, alpha=0.15, linewidth=0
                )
            if cut:
                axis.plot(x[-1], curve.loss[-1], "x", color=shade)
        axis.set_xlabel(text)
        if logarithmic:
            axis.set_xlim(min(float(getattr(c, name)[1]) for c in curves if len(c) > 1))
            log_axis(axis.xaxis)
        else:
            axis.set_xlim(left=0)
    _limit_loss(curves, updates)


def _kind(role: str) -> str:
    return "few" if role.startswith("best ") else role


def _label(one: VariantResult, role: str) -> str:
    points = sum(bool(result.point.values) for result in one.results)
    return one.variant.name + _ROLES[_kind(role)][2].format(points=points, few=len(one.few))


def _far_apart(curves: Sequence[Curve], name: str) -> bool:
    """Return whether the longest curve is more than ``_FAR`` times as long as the shortest."""
    lengths = [float(getattr(curve, name)[-1]) for curve in curves if len(curve) > 1]
    return bool(lengths) and min(lengths) > 0.0 and max(lengths) > _FAR * min(lengths)


def _limit_loss(curves: Sequence[Curve], axis: Axes) -> None:
    """Limit the axis to the range from the lowest loss to the first; higher losses are cut off."""
    if not curves:
        return
    first, lowest = max(float(c.loss[0]) for c in curves), min(float(c.low.min()) for c in curves)
    if lowest > 0.0 and first > 2.0 * lowest:
        margin = (first / lowest) ** 0.04
        axis.set_ylim(lowest / margin, first * margin)
        log_axis(axis.yaxis)
    elif first > lowest:
        margin = 0.04 * (first - lowest)
        axis.set_ylim(lowest - margin, first + margin)


def _shades(panels: Sequence[Panel]) -> dict[tuple[str, str], str]:
    """Return (variant, method) → colour: that of the method, lighter for each further variant of
    the method that is drawn in the same line.
    """
    variants = {
        (one.variant.name, one.variant.method): one.variant.line
        for panel in panels
        for one, *_ in panel.curves
    }
    bases = colours_of(dict.fromkeys(method for _, method in variants))
    shades = {}
    for (name, method), line in variants.items():
        alike = [n for (n, m), drawn in variants.items() if (m, drawn) == (method, line)]
        shades[name, method] = lighter(bases[method], alike.index(name), len(alike))
    return shades
