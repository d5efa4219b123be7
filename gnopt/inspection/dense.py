"""Form the exact mean blocks, (o (i + 1))² numbers each, if they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

from gnopt.curvature.exact import mean_blocks, refuse_large_blocks
from gnopt.engine.arrays import Array
from gnopt.engine.network import gradient
from gnopt.inspection.spectrum import Spectrum, spectrum
from gnopt.inspection.subject import Snapshot, Subject

KINDS = ("hessian", "gauss_newton")
LARGEST_SPECTRUM = 4000  # parameters of a layer up to which a block's eigenvalues are computed


def refuse(subject: Subject, layers: Sequence[int], kinds: Sequence[str]) -> None:
    """Raise GnoptError, before anything is computed, if the blocks of these layers cannot fit."""
    if kinds:
        refuse_large_blocks(subject.net, list(layers), len(kinds), subject.net.ops.free_memory())


def dense_blocks(
    snapshot: Snapshot, layers: Sequence[int], kinds: Sequence[str]
) -> dict[str, dict[int, Array]]:
    """Return {kind: {layer: block}}; the blocks are symmetric to the last bit."""
    by_kind: dict[str, dict[int, Array]] = {}
    for kind in kinds:
        blocks = mean_blocks(snapshot.sample(), kind == "hessian", list(layers))
        for block in blocks.values():  # entries (j, k) and (k, j) differ by rounding: average them
            block += block.T.copy()
            block *= 0.5
        by_kind[kind] = blocks
    return by_kind


def spectra(snapshot: Snapshot, blocks: dict[int, Array]) -> dict[int, Spectrum]:
    """Return the eigenvalues of the blocks with at most ``LARGEST_SPECTRUM`` parameters."""
    return {
        l: spectrum(snapshot.net.ops, block)
        for l, block in blocks.items()
        if len(block) <= LARGEST_SPECTRUM
    }


def loss_gradient(snapshot: Snapshot) -> tuple[float, Array]:
    """Return the mean loss over the sample and its gradient, (P,), without weight decay."""
    net = snapshot.net
    value, delta = snapshot.subject.loss.value_and_gradient(
        net.ops, snapshot.tape.output, snapshot.subject.y
    )
    out = net.ops.xp.empty(net.size, dtype=net.dtype)
    gradient(
        net,
        snapshot.W,
        snapshot.tape,
        delta * (1.0 / snapshot.tape.rows),
        net.views(out),
        snapshot.workspace,
    )
    return net.ops.scalars(value.mean(dtype="float64"))[0], out
