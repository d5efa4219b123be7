"""One inspection from beginning to end: look at every set of weights that was asked for, and
collect what is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gnopt.engine.arrays import Array
from gnopt.inspection import agreement, dense, matrix_file, rank
from gnopt.inspection.alignment import Alignment, Solve, align
from gnopt.inspection.choices import Choice, choose_curvatures, choose_layers
from gnopt.inspection.definite import signs
from gnopt.inspection.density import whole_density
from gnopt.inspection.factors import Factors, Note, compute, samples_for
from gnopt.inspection.lanczos import Density
from gnopt.inspection.subject import Look, Subject, look
from gnopt.inspection.summary import Summary, summarise
from gnopt.inspection.surface import Surface, surfaces


@dataclass(frozen=True)
class InspectionRequest:
    """What to look at; ``solve`` None: no alignment, ``lanczos`` (steps, probes) None: no
    density.
    """

    curvature: str | None = None
    layers: str = "all"
    summary: bool = True
    kfac_samples: int | None = None
    theorem_rows: int | None = None
    solve: Solve | None = None
    lanczos: tuple[int, int] | None = None
    surface: float | None = None  # how far, in norms of the weights
    export: Path | None = None


@dataclass
class Findings:
    """Everything that was found; ``factors`` and ``densities`` are those of the last weights."""

    summaries: list[Summary] = field(default_factory=list)
    alignments: list[Alignment] = field(default_factory=list)
    densities: dict[str, Density] = field(default_factory=dict)
    surfaces: list[Surface] = field(default_factory=list)
    factors: Factors | None = None
    layers: list[int] = field(default_factory=list)
    samples: int = 0
    rows: int = 0


def inspect(subject: Subject, request: InspectionRequest, note: Note) -> Findings:
    """Do what ``request`` says, with a line to ``note`` for everything that takes time. Raises
    GnoptError.
    """
    choice = choose_curvatures(request.curvature, subject.loss)
    layers = choose_layers(request.layers, subject.net.layers)
    dense.refuse(subject, layers, choice.kinds)
    found = Findings(layers=layers, rows=subject.rows)
    for weights in subject.every():
        at = look(subject, weights)
        _at(at, request, choice, found, note)
    return found


def _at(at: Look, request: InspectionRequest, choice: Choice, found: Findings, note: Note) -> None:
    found.samples = samples_for(at, request.kfac_samples, request.export is not None)
    factors = found.factors = compute(at, choice.methods, found.samples, note)
    if request.summary or request.export:
        blocks = dense.dense_blocks(at, found.layers, choice.kinds)
        if request.export:
            matrix_file.export_matrices(request.export, at, factors, blocks, found.layers)
            note(f"wrote {request.export}")
        if request.summary:
            found.summaries.append(_summary(at, request, factors, blocks, found.layers, note))
        del blocks
    if request.solve is not None:
        found.alignments += align(at, factors, request.solve, note)
    if request.lanczos is not None:
        for kind in dense.KINDS:
            found.densities[kind] = whole_density(at, kind, *request.lanczos)
            note(f"density of the {kind.replace('_', '-')} matrix")
    if request.surface is not None:
        found.surfaces = surfaces(at, found.layers, request.surface)
        note("objective over two directions")


def _summary(
    at: Look,
    request: InspectionRequest,
    factors: Factors,
    blocks: dict[str, dict[int, Array]],
    layers: list[int],
    note: Note,
) -> Summary:
    products = agreement.products(at, [method.blocks for method in factors.methods.values()])
    note("distance to the exact blocks")
    spectra = {kind: dense.spectra(at, of_layer) for kind, of_layer in blocks.items()}
    found = summarise(
        at, factors, products, spectra, layers, rank.ranks(at), signs(at, request.theorem_rows)
    )
    note("spectra, ranks and signs")
    return found
