"""Draw the spectra of one layer: input factor, output factors of each method, and blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt.inspection.factors import Factors
from gnopt.inspection.spectrum import product_values
from gnopt.plots.figure import colours_of, legend, log_axis, new_figure, save_all, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

DECADES = 12.0  # eigenvalues further below the largest are rounding errors
DASHES = ("-", "--", "-.", ":")


def draw_spectrum(factors: Factors, layer: int, out: Path) -> list[Path]:
    """Draw the eigenvalues, largest first, on logarithmic axes; return the files."""
    with style():
        figure = new_figure(10.0, 3.9)
        axes = figure.subplots(1, 3)
        A = factors.A[layer - 1].spectrum
        _line(
            axes[0], np.arange(1, len(A.values) + 1), A.values[::-1], "0.25", "-", "A, same for all"
        )
        lines = []
        shades = colours_of(factors.methods)
        for number, (name, method) in enumerate(factors.methods.items()):
            block = method.blocks[layer - 1]
            appearance = (shades[name], DASHES[number % len(DASHES)], name)
            if block.factored is not None:
                G = block.factored[1].spectrum
                _line(axes[1], np.arange(1, len(G.values) + 1), G.values[::-1], *appearance)
                places, values = product_values(A.values, G.values)
            else:
                values = block.spectrum.values[::-1]
                places = np.unique(np.geomspace(1, len(values), 2000).astype(int))
                values = values[places - 1]
            lines.append(_line(axes[2], places, values, *appearance))
        for axis, title in zip(
            axes,
            (f"input factor A, layer {layer}", "output factor G", "block (A ⊗ G)"),
            strict=True,
        ):
            axis.set_title(title)
            axis.set_xlabel("index")
            axis.set_yscale("log")
            if axis is axes[2]:
                axis.set_xscale("log")
            else:
                log_axis(axis.xaxis)
        axes[0].set_ylabel("eigenvalue")
        legend(figure, lines, list(factors.methods))
        return save_all(figure, out)


def _line(
    axis: Axes, places: np.ndarray, values: np.ndarray, shade: str, dash: str, name: str
) -> Line2D:
    values = np.asarray(values, dtype=np.float64)
    floor = max(float(values.max(initial=0.0)), 1e-300) * 10.0**-DECADES
    kept = np.where(values > floor, values, np.nan)
    return axis.plot(places, kept, dash, color=shade, label=name, linewidth=1.3)[0]
