"""Make the blocks of every layer by every requested method on one sample, and count their cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gnopt.curvature import Curvature, CurvatureSample, cost, get_curvature
from gnopt.curvature.blocks import Block, LayerPlan
from gnopt.curvature.exact import ExactFactors
from gnopt.curvature.factors import Factor, Forms
from gnopt.inspection.blocks import InspectedBlock, InspectedFactor
from gnopt.inspection.subject import Snapshot, settings_for
from gnopt.optimizers.second_order import SecondOrderSettings

EXPORT_FLOPS = 2e10  # of an export for drawn targets, if their number is not given
MOST_SAMPLES = 1000

Note = Callable[[str], None]


@dataclass
class InspectedMethod:
    """One method's blocks of all layers, and the time and work that they took."""

    curvature: Curvature
    settings: SecondOrderSettings
    blocks: list[InspectedBlock]  # of layers 1..L
    G: list[Factor] | None  # output factors; None for a method without factors
    seconds: float
    flops: dict[str, float]  # of statistics, inverse and solve

    @property
    def name(self) -> str:
        """The method's name."""
        return self.curvature.name

    @property
    def bytes(self) -> int:
        """Bytes that the method keeps for all layers."""
        return sum(block.bytes() for block in self.blocks)


@dataclass
class Factors:
    """The input factors, which all methods share, and the methods by name."""

    A: list[InspectedFactor]  # A_0..A_{L-1}
    methods: dict[str, InspectedMethod]

    def reference(self) -> InspectedMethod:
        """Return the best approximation of the Gauss-Newton matrix at hand.

        It sets the scale of λ and preconditions the exact solve: factors before diagonals, those
        of 𝒢 before those of the data's gradients, exact output layers first, then the cheapest.
        """

        def rank(method: InspectedMethod) -> tuple[bool, bool, bool, float]:
            c = method.curvature
            return (
                not c.block.factored,
                c.from_targets,
                not c.exact_output,
                method.flops["statistics"],
            )

        return min(self.methods.values(), key=rank)


def samples_for(snapshot: Snapshot, given: int | None, export: bool) -> int:
    """Return how many targets a sampling curvature draws for each data point.

    The number is ``given`` or configured. An export without a given number draws at least the
    configured number, and up to 1000 if they are cheap.
    """
    configured = int(snapshot.subject.config.optimizer.values().get("samples", 1))
    if given is not None or not export:
        return given or configured
    cheap = EXPORT_FLOPS // cost.column_factors(snapshot.net.sizes, snapshot.tape.rows, 1)
    return int(min(MOST_SAMPLES, max(configured, cheap)))


def compute(snapshot: Snapshot, names: Sequence[str], samples: int, note: Note) -> Factors:
    """Make the blocks of the methods ``names``.

    A name is a curvature of the registry, or ``exact`` for the recursion per data point. ``note``
    is called with a line after each method.
    """
    plans = [
        LayerPlan(snapshot.net.ops, l, shape, snapshot.net.dtype, Forms(), period=2)
        for l, shape in enumerate(snapshot.net.shapes, start=1)
    ]
    sample = snapshot.sample()
    A = [InspectedFactor(p, sample.input_factor(p.layer)) for p in plans]
    factors = Factors(A, {})
    for name in names:
        factors.methods[name] = _method(snapshot, name, samples, A)
        note(f"{name}: {factors.methods[name].seconds:.1f} s")
    return factors


def curvature_of(
    snapshot: Snapshot, name: str, samples: int
) -> tuple[Curvature, SecondOrderSettings]:
    """Return the curvature called ``name`` as exact as it can be, and its method's settings."""
    kind = ExactFactors if name == ExactFactors.name else get_curvature(name)
    settings = settings_for(snapshot.subject.config, kind, samples=samples)
    return kind(kind.most_exact(settings.curvature)), settings


def _method(
    snapshot: Snapshot, name: str, samples: int, A: list[InspectedFactor]
) -> InspectedMethod:
    curvature, settings = curvature_of(snapshot, name, samples)
    sample = snapshot.sample(name)
    start = time.perf_counter()
    G = curvature.output_factors(sample) if curvature.block.factored else None
    blocks = _blocks(curvature, sample, A, G)
    snapshot.net.ops.synchronize()
    seconds = time.perf_counter() - start
    inspected = [
        InspectedBlock(a.plan, block, a, InspectedFactor(a.plan, G[l]))
        if G
        else InspectedBlock(a.plan, block)
        for l, (a, block) in enumerate(zip(A, blocks, strict=True))
    ]
    return InspectedMethod(
        curvature,
        settings,
        inspected,
        G,
        seconds,
        _flops(snapshot, curvature, settings, [a.plan for a in A]),
    )


def _blocks(
    curvature: Curvature, sample: CurvatureSample, A: list[InspectedFactor], G: list[Factor] | None
) -> list[Block]:
    """Return the blocks that training makes of these factors, and of scales in their bases."""
    plans = [a.plan for a in A]
    blocks = [
        curvature.block.of_factors(p, a.factor, G[l] if G else None)
        for l, (p, a) in enumerate(zip(plans, A, strict=True))
    ]
    if curvature.estimates_scales:
        bases = [block.bases() for block in blocks]
        scales = curvature.scales(sample, [pair for pair in bases if pair is not None])
        for plan, block, S in zip(plans, blocks, scales, strict=True):
            block.observe_scales(plan, S, decay=0.0, share=1.0, new=True)
    return blocks


def _flops(
    snapshot: Snapshot,
    curvature: Curvature,
    settings: SecondOrderSettings,
    plans: Sequence[LayerPlan],
) -> dict[str, float]:
    """Return the flops of the statistics on this sample, of the inverses and of one solve."""
    net, rows, loss = snapshot.net, snapshot.tape.rows, snapshot.subject.loss
    statistics = curvature.flops(net, loss, rows)
    if curvature.block.factored:
        statistics += cost.input_factors(net.sizes, rows)
    chosen = curvature.block.chosen(settings.block)
    diagonal = curvature.diagonal_factors(net, loss)
    each = [
        chosen.cost(replace(plan, diagonal_G=known))
        for plan, known in zip(plans, diagonal, strict=True)
    ]
    return {
        "statistics": statistics,
        "inverse": sum(c.refresh for c in each),
        "solve": sum(c.solve for c in each),
    }


def recursion_flops(snapshot: Snapshot) -> float:
    """Return the flops of the recursion per data point, over the whole sample."""
    return cost.recursion_by_row(snapshot.net.sizes, snapshot.tape.rows)
