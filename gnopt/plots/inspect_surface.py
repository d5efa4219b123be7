"""Draw the objective over two random directions (Figure 1 of Botev et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gnopt.inspection.surface import Surface
from gnopt.plots.figure import new_figure, save_all, style

MAP = "viridis"


def _title(surface: Surface) -> str:
    return f"within layer {surface.layer}" if surface.layer else "over all layers jointly"


def _grid(count: int) -> tuple[int, int]:
    columns = min(3, count)
    return -(-count // columns), columns


def draw_surface_contours(surfaces: Sequence[Surface], out: Path) -> list[Path]:
    """Draw the contours of every surface, with the weights at the centre; return the files."""
    rows, columns = _grid(len(surfaces))
    with style():
        figure = new_figure(3.4 * columns + 0.4, 3.1 * rows)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, s in zip(axes.flat, surfaces, strict=False):
            levels = np.unique(np.quantile(s.values, np.linspace(0.0, 1.0, 25)))
            if len(levels) < 3:
                levels = np.linspace(s.values.min() - 1e-9, s.values.max() + 1e-9, 5)
            axis.contourf(s.at, s.at, s.values, levels=levels, cmap=MAP)
            axis.contour(s.at, s.at, s.values, levels=levels, colors="white", linewidths=0.35)
            axis.plot(0, 0, "+", color="white", markersize=9)
            axis.set_title(_title(s))
            axis.set_aspect("equal")
            axis.grid(visible=False)
        for axis in axes.flat[len(surfaces) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("along U, in norms of W")
        for axis in axes[:, 0]:
            axis.set_ylabel("along V")
        return save_all(figure, out)


def draw_surfaces_in_3d(surfaces: Sequence[Surface], out: Path) -> list[Path]:
    """Draw every surface in three dimensions; return the files."""
    rows, columns = _grid(len(surfaces))
    with style():
        figure = new_figure(3.7 * columns, 3.4 * rows)
        for place, s in enumerate(surfaces, start=1):
            axis = figure.add_subplot(rows, columns, place, projection="3d")
            x, y = np.meshgrid(s.at, s.at)
            axis.plot_surface(
                x, y, s.values, cmap=MAP, rstride=1, cstride=1, linewidth=0, antialiased=False
            )
            axis.set_title(_title(s))
            axis.set_xlabel("U")
            axis.set_ylabel("V")
            axis.set_xticks(s.at[[0, len(s.at) // 2, -1]])
            axis.set_yticks(s.at[[0, len(s.at) // 2, -1]])
            axis.tick_params(labelsize=7)
        return save_all(figure, out)
