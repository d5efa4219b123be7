"""Checks of an activation: f' and f'' against differences, its declared facts, finite values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Backend
from gnopt.inspection.differences import Check, elementwise_mismatch
from gnopt.inspection.subject import Snapshot

TOLERANCE = 1e-7
FAR = 1e4  # values must be finite for |h| up to this


def checks(snapshot: Snapshot) -> Iterator[tuple[str, list[Check]]]:
    """Yield the name and the checks of every activation that the network uses."""
    ops = snapshot.net.ops
    used = {f.name: f for f in snapshot.net.activations}
    for name, f in used.items():
        yield name, of_activation(ops, f)


def of_activation(ops: Backend, f: Activation) -> list[Check]:
    """Return the checks of one activation."""
    grid = np.linspace(-6.0, 6.0, 241) + 0.0123  # no point on a kink at a round number
    far = np.array([-FAR, -100.0, 100.0, FAR])

    def value(h: np.ndarray) -> np.ndarray:
        h = ops.asarray(h)
        return ops.to_host(ops.elementwise(f.f, h, out=ops.xp.empty_like(h)))

    def first(h: np.ndarray) -> np.ndarray:
        h = ops.asarray(h)
        a = ops.elementwise(f.f, h, out=ops.xp.empty_like(h))
        return ops.to_host(
            ops.elementwise(f.df, None if f.from_output else h, a, out=ops.xp.empty_like(h))
        )

    def second(h: np.ndarray) -> np.ndarray:
        h = ops.asarray(h)
        a = ops.elementwise(f.f, h, out=ops.xp.empty_like(h))
        return ops.to_host(ops.elementwise(f.d2f, None if f.from_output else h, a))

    def in_place() -> float:
        h = ops.asarray(grid.copy())
        return float(np.abs(ops.to_host(ops.elementwise(f.f, h, out=h)) - value(grid)).max())

    def finite() -> float:
        single = far.astype(np.float32)
        values = [g(points) for g in (value, first, second) for points in (far, single)]
        return 0.0 if all(np.isfinite(part).all() for part in values) else np.inf

    def declared() -> float:
        return float(np.abs(second(grid)).max()) if f.piecewise_linear else 0.0

    return [
        (
            "f' = d f / d h",
            TOLERANCE,
            lambda: elementwise_mismatch(lambda t: value(grid + t), first(grid)).max(),
        ),
        (
            "f'' = d f' / d h",
            TOLERANCE,
            lambda: elementwise_mismatch(lambda t: first(grid + t), second(grid)).max(),
        ),
        ("f into its own input", 0.0, in_place),
        ("piecewise_linear: f'' = 0", 0.0, declared),
        (f"finite up to |h| = {FAR:g}", 0.0, finite),
    ]
