"""One layer's block by one method, as training has it, with the spectra that inspection asks of it.

A spectrum is computed when it is first used; all methods share that of the input factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnopt.curvature.blocks import Block, BlockSettings, LayerPlan, Refresh
from gnopt.curvature.damping import Damping, fixed
from gnopt.curvature.factors import Diagonal, Factor
from gnopt.engine.arrays import Array
from gnopt.inspection.spectrum import Spectrum, of_values, spectrum

Range = tuple[float, float]


@dataclass
class InspectedFactor:
    """A factor with its eigenvalues."""

    plan: LayerPlan
    factor: Factor

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvalues."""
        stored = self.factor.diagonal if isinstance(self.factor, Diagonal) else None
        ops = self.plan.ops
        return spectrum(ops, self.factor.dense(ops) if stored is None else stored)

    @property
    def ends(self) -> Range:
        """Smallest and largest eigenvalue; one below zero is rounding, for a Gram matrix."""
        return max(self.spectrum.low, 0.0), max(self.spectrum.high, 0.0)


@dataclass
class InspectedBlock:
    """A block after one set of statistics; ``A`` and ``G`` are its factors, if it has any."""

    plan: LayerPlan
    block: Block
    A: InspectedFactor | None = None
    G: InspectedFactor | None = None

    @property
    def factored(self) -> tuple[InspectedFactor, InspectedFactor] | None:
        """Both factors if the block is their product, else None."""
        if self.A is None or self.G is None or self.block.diagonal() is not None:
            return None
        return self.A, self.G

    @cached_property
    def spectrum(self) -> Spectrum:
        """All eigenvalues of a block that is diagonal in known bases."""
        return of_values(np.sort(self.plan.ops.to_host(self.block.diagonal()).ravel()))

    def trace(self) -> float:
        """Return the trace of the block."""
        return self.block.trace(self.plan.ops)

    def square(self) -> float:
        """Return the squared Frobenius norm of the block."""
        return self.block.square(self.plan.ops)

    def quadratic(self, abar: Array, columns: Array) -> np.ndarray:
        """See `Block.quadratic`."""
        return self.block.quadratic(self.plan.ops, abar, columns)

    def inner(self, abar: Array, M: Array) -> float:
        """See `Block.inner`."""
        return self.block.inner(self.plan.ops, abar, M)

    def extremes(self) -> Range:
        """Return the smallest and largest eigenvalue."""
        if self.factored is None:
            return self.spectrum.low, self.spectrum.high
        A, G = self.factored
        products = [a * g for a in A.ends for g in G.ends]
        return min(products), max(products)

    def damped(self, damping: Damping, settings: BlockSettings) -> Range:
        """Return the smallest and largest eigenvalue of the block that a method would invert.

        ``settings`` say whether it damps the factors or their product.
        """
        ops = self.plan.ops
        low, high = self.extremes()
        if self.factored is None:
            (shift,) = ops.scalars(damping.of_diagonal(ops, self.block.diagonal()))
            return low + shift, high + shift
        A, G = self.factored
        if settings.damped_as_product:
            (shift,) = ops.scalars(damping.of_product(ops, A.factor, G.factor))
            return low + shift, high + shift
        to_A, to_G = ops.scalars(*damping.of_factors(ops, A.factor, G.factor))
        return (A.ends[0] + to_A) * (G.ends[0] + to_G), (A.ends[1] + to_A) * (G.ends[1] + to_G)

    def prepare(self, lam: float) -> Callable[[Array], Array]:
        """Return the map g → (block + damping)⁻¹ g of a gradient (o, i), under a fixed λ."""
        ops, block, damping = self.plan.ops, self.block.copied(), fixed(lam)
        # A block with bases is ready: new bases would drop the scales estimated in them.
        if block.bases() is None:
            block.prepare(self.plan, Refresh(1, self.plan.period), damping)

        def solve(g: Array) -> Array:
            out = ops.xp.empty_like(g)
            block.solve(self.plan, damping, g, out, lambda shape: ops.xp.empty_like(g))
            return out

        return solve

    def bytes(self) -> int:
        """Return the bytes that the method keeps, with prepared inverses or bases."""
        return self.block.nbytes + (
            self.A.factor.nbytes + self.G.factor.nbytes if self.A and self.G else 0
        )
