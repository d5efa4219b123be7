"""Run an inspection: look at every requested set of weights and collect the findings."""

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
from gnopt.inspection.subject import Snapshot, Subject, take_snapshot
from gnopt.inspection.summary import Summary, summarise
from gnopt.inspection.surface import Surface, surfaces


@dataclass(frozen=True)
class InspectionRequest:
    """What the command line asks for."""

    curvature: str | None = None
    layers: str = "all"
    summary: bool = True
    kfac_samples: int | None = None
    theorem_rows: int | None = None
    solve: Solve | None = None  # for the alignment; None leaves it out
    lanczos: tuple[int, int] | None = None  # steps and probes of the density; None leaves it out
    surface: float | None = None  # how far, in norms of the weights; None leaves it out
    export: Path | None = None


@dataclass
class Findings:
    """The results of an inspection. Those that are not lists belong to the last weights."""

    summaries: list[Summary] = field(default_factory=list)
    alignments: list[Alignment] = field(default_factory=list)
    densities: dict[str, Density] = field(default_factory=dict)
    surfaces: list[Surface] = field(default_factory=list)
    factors: Factors | None = None
    layers: list[int] = field(default_factory=list)
    samples: int = 0
    rows: int = 0


def inspect(subject: Subject, request: InspectionRequest, note: Note) -> Findings:
    """Do what ``request`` asks for and return the findings; raises GnoptError.

    ``note`` is called with a line after each part that takes time.
    """
    choice = choose_curvatures(request.curvature, subject.loss)
    layers = choose_layers(request.layers, subject.net.layers)
    dense.refuse(subject, layers, choice.kinds)
    findings = Findings(layers=layers, rows=subject.rows)
    for weights in subject.every():
        at = take_snapshot(subject, weights)
        _at(at, request, choice, findings, note)
    return findings


def _at(
    at: Snapshot, request: InspectionRequest, choice: Choice, findings: Findings, note: Note
) -> None:
    findings.samples = samples_for(at, request.kfac_samples, request.export is not None)
    factors = findings.factors = compute(at, choice.methods, findings.samples, note)
    if request.summary or request.export:
        blocks = dense.dense_blocks(at, findings.layers, choice.kinds)
        if request.export:
            matrix_file.export_matrices(request.export, at, factors, blocks, findings.layers)
            note(f"wrote {request.export}")
        if request.summary:
            findings.summaries.append(_summary(at, request, factors, blocks, findings.layers, note))
        del blocks
    if request.solve is not None:
        findings.alignments += align(at, factors, request.solve, note)
    if request.lanczos is not None:
        for kind in dense.KINDS:
            findings.densities[kind] = whole_density(at, kind, *request.lanczos)
            note(f"density of the {kind.replace('_', '-')} matrix")
    if request.surface is not None:
        findings.surfaces = surfaces(at, findings.layers, request.surface)
        note("objective over two directions")


def _summary(
    at: Snapshot,
    request: InspectionRequest,
    factors: Factors,
    blocks: dict[str, dict[int, Array]],
    layers: list[int],
    note: Note,
) -> Summary:
    products = agreement.products(at, [method.blocks for method in factors.methods.values()])
    note("distance to the exact blocks")
    spectra = {kind: dense.spectra(at, of_layer) for kind, of_layer in blocks.items()}
    summary = summarise(
        at, factors, products, spectra, layers, rank.ranks(at), signs(at, request.theorem_rows)
    )
    note("spectra, ranks and signs")
    return summary
