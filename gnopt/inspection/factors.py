"""The blocks of every layer by every method that was asked for, on one sample, and what they
cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gnopt.curvature import Curvature, Sample, get_curvature
from gnopt.curvature.exact import mean_pre_activation
from gnopt.curvature.kfac import column_flops
from gnopt.curvature.kron import eigenbasis, input_factors
from gnopt.engine.arrays import Array
from gnopt.inspection.blocks import Block, DiagonalBlock, Factor, KroneckerBlock
from gnopt.inspection.subject import Look, settings_of

EXPORT_FLOPS = 2e10  # what an export spends on KFAC's samples where their number is not given
MOST_SAMPLES = 1000

Note = Callable[[str], None]


@dataclass
class Method:
    """One method's blocks, layer by layer (layers 1..L at 0..L-1), and what they took."""

    name: str
    blocks: list[Block]
    G: list[Array] | None  # output factors; None for a method without factors
    settings: dict[str, Any]
    seconds: float
    flops: dict[str, float] = field(default_factory=dict)  # statistics, inverse, solve

    @property
    def bytes(self) -> int:
        """Bytes kept over all layers."""
        return sum(block.bytes() for block in self.blocks)


@dataclass
class Factors:
    """A_0..A_{L-1}, and the methods by name."""

    A: list[Factor]
    methods: dict[str, Method]


def kfac_samples(look: Look, given: int | None, export: bool) -> int:
    """Samples a data point for KFAC and EKFAC: as given, else as configured, else (for an export)
    as many as are cheap, at most 1000.
    """
    configured = settings_of(look.subject.config, "kfac")["samples"]
    if given is not None or not export:
        return given or configured
    return int(
        min(MOST_SAMPLES, max(configured, EXPORT_FLOPS // column_flops(look.net, look.tape.rows)))
    )


def compute(look: Look, names: Sequence[str], samples: int, note: Note) -> Factors:
    """Blocks by the methods ``names``: curvatures of the registry, or ``exact`` for the recursion
    per data point.
    """
    found = Factors([Factor(look.net.ops, a) for a in input_factors(look.net, look.tape)], {})
    for name in names:
        found.methods[name] = _method(look, name, samples, found.A)
        note(f"{name}: {found.methods[name].seconds:.1f} s")
    return found


def _method(look: Look, name: str, samples: int, A: list[Factor]) -> Method:
    settings = settings_of(look.subject.config, name, samples=samples)
    if name == "kflr":
        settings["columns"] = 0  # the exact one, whatever training sketches
    sample = look.sample(name, settings)
    start = time.perf_counter()
    if name == "exact":
        G: list[Array] | None = mean_pre_activation(sample, hessian=False)
        flops = {"statistics": recursion_flops(look)}
    else:
        curvature = get_curvature(name)
        G = None if curvature.basis == "identity" else curvature.output_factors(sample)
        flops = _flops(look, name, settings)
    if G is None or name != "exact" and curvature.basis == "eigen":
        blocks = _diagonal_blocks(look, curvature, sample, A, G)
    else:
        ops = look.net.ops
        blocks = [KroneckerBlock(ops, a, Factor(ops, g)) for a, g in zip(A, G, strict=True)]
    look.net.ops.synchronize()
    return Method(name, blocks, G, settings, time.perf_counter() - start, flops)


def _diagonal_blocks(
    look: Look, curvature: Curvature, sample: Sample, A: list[Factor], G: list[Array] | None
) -> list[Block]:
    """Blocks of a method that estimates a diagonal, in the eigenbases of A and G where it has
    factors.
    """
    ops = look.net.ops
    bases: list[tuple[Array | None, Array | None]] = [(None, None)] * len(A)
    kept = [0] * len(A)
    if G is not None:
        bases = [
            (eigenbasis(ops, g, "factor G")[1], eigenbasis(ops, a.array, "factor A")[1])
            for a, g in zip(A, G, strict=True)
        ]
        kept = [2 * (a.array.nbytes + g.nbytes) for a, g in zip(A, G, strict=True)]
    scales = curvature.scales(sample, bases)
    return [
        DiagonalBlock(ops, S, *basis, k) for S, basis, k in zip(scales, bases, kept, strict=True)
    ]


def _flops(look: Look, name: str, settings: dict[str, Any]) -> dict[str, float]:
    """Flops of statistics on this sample, of preparing the inverses and of one solve."""
    net, rows, loss = look.net, look.tape.rows, look.subject.loss
    curvature = get_curvature(name)
    statistics = curvature.flops(net, loss, rows, settings)
    if curvature.basis == "identity":
        return {"statistics": statistics, "inverse": 0.0, "solve": float(net.size)}
    statistics += sum(rows * float(i) ** 2 for _, i in net.shapes)
    dims = [i for _, i in net.shapes] + [o for o, _ in net.shapes[: -1 if loss.diagonal else None]]
    eigen = curvature.basis == "eigen" or settings["damping_split"] == "exact"
    return {
        "statistics": statistics,
        "inverse": sum(float(d) ** 3 for d in dims) * (9.0 if eigen else 1.0),
        "solve": sum(2.0 * o * i * (o + i) for o, i in net.shapes) * (2.0 if eigen else 1.0),
    }


def recursion_flops(look: Look) -> float:
    """Flops of the recursion per data point over the whole sample."""
    net = look.net
    pairs = zip(net.sizes[1:-1], net.sizes[2:], strict=True)
    return look.tape.rows * sum(2.0 * above * d * (above + d) for d, above in pairs)
