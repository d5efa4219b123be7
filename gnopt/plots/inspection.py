"""Draw all figures that the findings of an inspection have numbers for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnopt.inspection.inspect import Findings
from gnopt.plots.figure import drawn
from gnopt.plots.inspect_alignment import draw_alignment
from gnopt.plots.inspect_density import draw_density
from gnopt.plots.inspect_spectrum import draw_spectrum
from gnopt.plots.inspect_surface import draw_surface_contours, draw_surfaces_in_3d

_NAMES = ("spectrum-layer-*.png", "alignment.png", "density.png", "surface-*.png")


def drawn_before(folder: Path) -> list[Path]:
    """Return the figures of an earlier inspection in ``folder``, which `draw_findings` may
    replace.
    """
    return sorted(path for name in _NAMES for path in folder.glob(name))


def draw_findings(findings: Sequence[Findings], folder: Path) -> list[Path]:
    """Draw all findings into ``folder`` and return the files.

    Several findings, of several runs, share one figure of alignment; other figures show the last.
    """
    last, made = findings[-1], []
    if last.summaries and last.factors is not None:
        for layer in last.layers:
            path = folder / f"spectrum-layer-{layer}.png"
            made += drawn(path.name, draw_spectrum, last.factors, layer, path)
    aligned = [a for one in findings for a in one.alignments]
    if aligned:
        made += drawn("alignment", draw_alignment, aligned, folder / "alignment.png")
    if last.densities:
        made += drawn("density", draw_density, last.densities, folder / "density.png")
    if last.surfaces:
        for name, draw in (
            ("surface-contour", draw_surface_contours),
            ("surface-3d", draw_surfaces_in_3d),
        ):
            made += drawn(name, draw, last.surfaces, folder / f"{name}.png")
    return made
