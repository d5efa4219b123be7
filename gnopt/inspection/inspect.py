"""One inspection from beginning to end: look at every set of weights that was asked for, and
collect what is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gnopt.inspection import agreement, dense, matrix_file, rank
from gnopt.inspection.alignment import Alignment, Solve, align
from gnopt.inspection.choices import Choice, choose, choose_layers
from gnopt.inspection.definite import signs
from gnopt.inspection.density import whole
from gnopt.inspection.factors import Factors, Note, compute, kfac_samples
from gnopt.inspection.lanczos import Density
from gnopt.inspection.subject import Look, Subject, look
from gnopt.inspection.summary import Summary, summarise
from gnopt.inspection.surface import Surface, surfaces


@dataclass(frozen=True)
class Wishes:
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


def inspect(subject: Subject, wishes: Wishes, note: Note) -> Findings:
    """Do what ``wishes`` says, with a line to ``note`` for everything that takes time. Raises
    GnoptError.
    """
    choice = choose(wishes.curvature, subject.loss)
    layers = choose_layers(wishes.layers, subject.net.layers)
    dense.refuse(subject, layers, choice.kinds)
    found = Findings(layers=layers, rows=subject.rows)
    for weights in subject.every():
        at = look(subject, weights)
        _at(at, wishes, choice, found, note)
    return found


def _at(at: Look, wishes: Wishes, choice: Choice, found: Findings, note: Note) -> None:
    found.samples = kfac_samples(at, wishes.kfac_samples, wishes.export is not None)
    factors = found.factors = compute(at, choice.methods, found.samples, note)
    if wishes.summary or wishes.export:
        blocks = dense.dense_blocks(at, found.layers, choice.kinds)
        if wishes.export:
            matrix_file.export(wishes.export, at, factors, blocks, found.layers)
            note(f"wrote {wishes.export}")
        if wishes.summary:
            found.summaries.append(_summary(at, wishes, factors, blocks, found.layers, note))
        del blocks
    if wishes.solve is not None:
        found.alignments += align(at, factors, wishes.solve, note)
    if wishes.lanczos is not None:
        for kind in dense.KINDS:
            found.densities[kind] = whole(at, kind, *wishes.lanczos)
            note(f"density of the {kind.replace('_', '-')} matrix")
    if wishes.surface is not None:
        found.surfaces = surfaces(at, found.layers, wishes.surface)
        note("objective over two directions")


def _summary(
    at: Look, wishes: Wishes, factors: Factors, blocks: dict, layers: list[int], note: Note
) -> Summary:
    products = agreement.products(at, [method.blocks for method in factors.methods.values()])
    note("distance to the exact blocks")
    spectra = {kind: dense.spectra(at, of_layer) for kind, of_layer in blocks.items()}
    found = summarise(
        at, factors, products, spectra, layers, rank.ranks(at), signs(at, wishes.theorem_rows)
    )
    note("spectra, ranks and signs")
    return found
