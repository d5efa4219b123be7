"""The summary: a row for every layer and method, and a row for each method over all layers.

``COLUMNS`` names the values of a row; None means that a value does not apply or was too expensive.
``damped_min`` and ``damped_max`` are the extreme eigenvalues of the block after the configured
damping. ``gradient_damping`` is the block's largest eigenvalue: with a λ well above it, the update
is little more than the plain gradient divided by λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gnopt.curvature.damping import Damping, pi
from gnopt.curvature.exact import block_bytes
from gnopt.inspection.agreement import Products, agreement, exact_norm, together
from gnopt.inspection.blocks import InspectedBlock
from gnopt.inspection.definite import Signs
from gnopt.inspection.factors import Factors, InspectedMethod
from gnopt.inspection.rank import Ranks
from gnopt.inspection.spectrum import Spectrum
from gnopt.inspection.subject import Snapshot

Row = dict[str, Any]

COLUMNS = (
    "step",
    "layer",
    "inputs",
    "outputs",
    "parameters",
    "method",
    "trace",
    "norm",
    "rank",
    "effective_rank",
    "eig_min",
    "eig_max",
    "condition",
    "A_trace",
    "A_dim",
    "A_rank",
    "A_effective_rank",
    "A_min",
    "A_max",
    "A_condition",
    "G_trace",
    "G_dim",
    "G_rank",
    "G_effective_rank",
    "G_min",
    "G_max",
    "G_condition",
    "pi",
    "damped_min",
    "damped_max",
    "damped_condition",
    "gradient_damping",
    "distance",
    "distance_error",
    "cosine",
    "cosine_error",
    "bytes",
)
METHOD_COLUMNS = (
    "step",
    "method",
    "distance",
    "distance_error",
    "cosine",
    "cosine_error",
    "seconds",
    "flops_statistics",
    "flops_inverse",
    "flops_solve",
    "bytes",
    "exact_bytes",
)


@dataclass
class Summary:
    """The findings at one set of weights."""

    step: int
    layers: list[Row]  # a row for each layer and method
    methods: list[Row]  # a row for each method
    ranks: Ranks | None
    signs: Signs | None
    exact_norms: list[float] = field(default_factory=list)  # ‖B‖ of the exact block of each layer
    sketched: bool = False  # whether distances are estimated by sketches


def summarise(
    snapshot: Snapshot,
    factors: Factors,
    products: Sequence[Products],
    dense: dict[str, dict[int, Spectrum]],
    layers: Sequence[int],
    ranks: Ranks | None,
    signs: Signs | None,
) -> Summary:
    """Put the findings at one set of weights together.

    ``dense`` is {kind: {layer: spectrum of the exact block}}.
    """
    rows = []
    for l in layers:
        for m, method in enumerate(factors.methods.values()):
            rows.append(_row(snapshot, l, method, factors, products[l - 1], m))
        for kind, spectra in dense.items():
            if l in spectra:
                rows.append(_dense_row(snapshot, l, kind, spectra[l]))
    chosen = together([products[l - 1] for l in layers]) if factors.methods else None
    methods = [
        _method_row(snapshot, layers, method, chosen, m)
        for m, method in enumerate(factors.methods.values())
        if chosen is not None
    ]
    return Summary(
        snapshot.weights.step,
        rows,
        methods,
        ranks,
        signs,
        [exact_norm(p) for p in products],
        any(len(p.exact) > 1 for p in products),
    )


def _facts(snapshot: Snapshot, l: int, method: str) -> Row:
    o, i = snapshot.net.shapes[l - 1]
    row: Row = dict.fromkeys(COLUMNS)
    row.update(
        step=snapshot.weights.step,
        layer=l,
        inputs=i - 1,
        outputs=o,
        parameters=o * i,
        method=method,
    )
    return row


def _row(
    snapshot: Snapshot, l: int, method: InspectedMethod, factors: Factors, found: Products, m: int
) -> Row:
    block = method.blocks[l - 1]
    row = _facts(snapshot, l, method.name)
    low, high = block.extremes()
    row.update(
        trace=block.trace(),
        norm=block.square() ** 0.5,
        eig_min=low,
        eig_max=high,
        gradient_damping=high,
        bytes=block.bytes(),
    )
    row.update(_side("A", factors.A[l - 1].spectrum))
    if block.factored is not None:
        A, G = block.factored
        a, g = A.spectrum, G.spectrum
        row.update(
            rank=a.rank * g.rank,
            effective_rank=a.effective_rank * g.effective_rank,
            condition=a.condition * g.condition,
            pi=float(pi(snapshot.net.ops, A.factor, G.factor)),
            **_side("G", g),
        )
    else:
        s = block.spectrum
        row.update(rank=s.rank, effective_rank=s.effective_rank, condition=s.condition)
    row.update(_damped(snapshot, block, method))
    found_agreement = agreement(found, m)
    row.update(
        distance=found_agreement.distance,
        distance_error=found_agreement.distance_error,
        cosine=found_agreement.cosine,
        cosine_error=found_agreement.cosine_error,
    )
    return row


def _side(name: str, s: Spectrum) -> Row:
    return {
        f"{name}_trace": float(s.values.sum(dtype="float64")),
        f"{name}_dim": len(s.values),
        f"{name}_rank": s.rank,
        f"{name}_effective_rank": s.effective_rank,
        f"{name}_min": s.low,
        f"{name}_max": s.high,
        f"{name}_condition": s.condition,
    }


def _damped(snapshot: Snapshot, block: InspectedBlock, method: InspectedMethod) -> Row:
    """Return the range of the damped eigenvalues under the configured rule.

    λ and its boost are those that the run used at these weights.
    """
    settings, weights = method.settings, snapshot.weights
    adapted = weights.damping if settings.damping_rule == "lm" else None
    lam = adapted or settings.damping
    damping = Damping(settings, weights.eta, lam, weights.boost)
    low, high = block.damped(damping, settings.block)
    return {"damped_min": low, "damped_max": high, "damped_condition": high / low}


def _dense_row(snapshot: Snapshot, l: int, kind: str, s: Spectrum) -> Row:
    row = _facts(snapshot, l, kind)
    values = s.values.astype("float64")
    row.update(
        trace=float(values.sum()),
        norm=float((values**2).sum()) ** 0.5,
        rank=s.rank,
        eig_min=s.low,
        eig_max=s.high,
        condition=s.condition,
        bytes=block_bytes(snapshot.net, l),
        gradient_damping=s.high,
        effective_rank=s.effective_rank if s.low >= -s.resolution else None,
    )
    return row


def _method_row(
    snapshot: Snapshot, layers: Sequence[int], method: InspectedMethod, chosen: Products, m: int
) -> Row:
    whole = agreement(chosen, m)
    row: Row = dict.fromkeys(METHOD_COLUMNS)
    row.update(
        step=snapshot.weights.step,
        method=method.name,
        distance=whole.distance,
        distance_error=whole.distance_error,
        cosine=whole.cosine,
        cosine_error=whole.cosine_error,
        seconds=method.seconds,
        bytes=method.bytes,
        exact_bytes=sum(block_bytes(snapshot.net, l) for l in layers),
    )
    row.update({f"flops_{what}": flops for what, flops in method.flops.items()})
    return row
