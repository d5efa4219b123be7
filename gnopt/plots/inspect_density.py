"""Draw the spectral density of the whole Gauss-Newton matrix and Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gnopt.inspection.lanczos import Density
from gnopt.plots.figure import colour, new_figure, save_all, style

NAMES = {"gauss_newton": "Gauss-Newton matrix", "hessian": "Hessian"}
# Bins over which a node of the quadrature is spread, because it stands for a part of the spectrum.
WIDTH = 1.5
DECADES = 6  # on either side of zero
BINS = 60


def draw_density(densities: Mapping[str, Density], out: Path) -> list[Path]:
    """Draw the share of eigenvalues in each bin; return the files.

    Bins have equal width on an axis that is logarithmic on both sides of zero.
    """
    top = max(max(abs(d.low), abs(d.high)) for d in densities.values())
    threshold = top * 10.0**-DECADES
    positive = np.geomspace(threshold, top * 1.3, BINS + 1)
    edges = np.concatenate([-positive[::-1], positive])
    with style():
        figure = new_figure(9.5, 3.6)
        axes = figure.subplots(1, len(densities), sharey=True, squeeze=False)[0]
        for number, (axis, (kind, d)) in enumerate(zip(axes, densities.items(), strict=True)):
            share = np.histogram(d.nodes, edges, weights=d.weights)[0]
            if not d.exact:
                share = _spread(share)
            axis.stairs(share, edges, color=colour(number), fill=True, baseline=1e-12)
            axis.set_xscale("symlog", linthresh=threshold, linscale=0.4)
            axis.set_yscale("log")
            axis.set_ylim(
                0.3 / d.size if d.exact else max(1e-8, 0.3 * share[share > 0].min(initial=1.0)), 1.5
            )
            axis.set_title(NAMES[kind])
            axis.set_xlabel("eigenvalue")
            ticks = [s * top * 10.0**-k for s in (-1, 1) for k in (0, 2, 4)] + [0.0]
            axis.set_xticks(sorted(ticks), [f"{t:.2g}" for t in sorted(ticks)])
        axes[0].set_ylabel("share of all eigenvalues")
        return save_all(figure, out)


def _spread(share: np.ndarray) -> np.ndarray:
    """Return a histogram convolved with a normal density; nothing is lost beyond the ends."""
    bins = np.arange(len(share))
    kernel = np.exp(-0.5 * ((bins[:, None] - bins[None, :]) / WIDTH) ** 2)
    spread: np.ndarray = (kernel / kernel.sum(axis=0)) @ share
    return spread
