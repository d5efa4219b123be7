"""Draw all figures that the findings of an inspection have numbers for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gnopt.inspection.inspect import Findings
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
            made += draw_spectrum(last.factors, layer, folder / f"spectrum-layer-{layer}.png")
    aligned = [a for one in findings for a in one.alignments]
    if aligned:
        made += draw_alignment(aligned, folder / "alignment.png")
    if last.densities:
        made += draw_density(last.densities, folder / "density.png")
    if last.surfaces:
        made += draw_surface_contours(last.surfaces, folder / "surface-contour.png")
        made += draw_surfaces_in_3d(last.surfaces, folder / "surface-3d.png")
    return made
