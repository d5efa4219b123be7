"""The growth curves as a figure: seconds of an update with the least possible below, both axes
logarithmic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnopt.plots.figure import colours_of, legend_below, log_axis, new_figure, save, style
from peers.growth import exponents

LABELS = {
    "batch": "rows in the batch",
    "width": "width of the two hidden layers",
    "depth": "hidden layers",
    "outputs": "outputs",
}
MARKERS = ("o", "s", "^", "D")


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the figure; GnoptError without matplotlib."""
    slopes = {(r["axis"], r["method"]): r for r in exponents(rows)}
    axes_names = list(dict.fromkeys(r["axis"] for r in rows))
    with style():
        figure = new_figure(9.0, 6.6)
        panels = figure.subplots(2, 2).ravel()
        for panel, axis in zip(panels, axes_names, strict=True):
            own = [r for r in rows if r["axis"] == axis]
            shades = colours_of(r["method"] for r in own)
            for index, method in enumerate(dict.fromkeys(r["method"] for r in own)):
                line = [r for r in own if r["method"] == method]
                values = [r["value"] for r in line]
                panel.plot(
                    values,
                    [1e3 * r["seconds"] for r in line],
                    marker=MARKERS[index],
                    markersize=4.5,
                    color=shades[method],
                    label=method,
                )
                panel.plot(
                    values,
                    [1e3 * r["floor_seconds"] for r in line],
                    "--",
                    linewidth=1.0,
                    alpha=0.7,
                    color=shades[method],
                )
            panel.plot(
                [],
                [],
                "--",
                linewidth=1.0,
                color="0.4",
                label="least possible, in the same colours",
            )
            text = ", ".join(
                f"{m} {slopes[axis, m]['measured']:.2f} ({slopes[axis, m]['expected']:.2f})"
                for m in dict.fromkeys(r["method"] for r in own)
            )
            panel.set_title(f"exponents (expected):\n{text}", fontsize=7.5, loc="left")
            panel.set_xlabel(LABELS[axis])
            log_axis(panel.xaxis)
            log_axis(panel.yaxis)
        for panel in (panels[0], panels[2]):
            panel.set_ylabel("milliseconds per update")
        legend_below(figure, panels[0])
        save(figure, path)
