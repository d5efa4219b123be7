"""Figures of the curvature: which of them an inspection has the numbers for, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnopt.inspection.inspect import Findings
from gnopt.plots.inspect_alignment import alignment
from gnopt.plots.inspect_density import density
from gnopt.plots.inspect_spectrum import spectrum
from gnopt.plots.inspect_surface import surface_contours, surface_in_3d


def draw(findings: Sequence[Findings], folder: Path) -> list[Path]:
    """Draw everything that was found into ``folder``; several findings (runs) share the figure of
    alignment.
    """
    last, made = findings[-1], []
    if last.summaries and last.factors is not None:
        for layer in last.layers:
            made += spectrum(last.factors, layer, folder / f"spectrum-layer-{layer}.png")
    aligned = [a for found in findings for a in found.alignments]
    if aligned:
        made += alignment(aligned, folder / "alignment.png")
    if last.densities:
        made += density(last.densities, folder / "density.png")
    if last.surfaces:
        made += surface_contours(last.surfaces, folder / "surface-contour.png")
        made += surface_in_3d(last.surfaces, folder / "surface-3d.png")
    return made
