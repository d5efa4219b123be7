"""One layer's block by one method, in the form the method has it: A ⊗ G, a diagonal in some basis,
or dense.

All have the same few questions asked of them: trace, norm, extreme eigenvalues, inner product with
the exact block, range of the damped eigenvalues, and the update that the damped block makes of a
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gnopt.curvature import kron
from gnopt.engine.arrays import Array, Backend
from gnopt.inspection.spectrum import Spectrum, of_values, spectrum
from gnopt.optimizers import damping

Settings = dict[str, Any]
Range = tuple[float, float]


@dataclass
class Block:
    """The contract; ``bytes`` counts what the method keeps, prepared inverses included."""

    ops: Backend

    def trace(self) -> float:
        """Trace of the block."""
        raise TypeError(f"{type(self).__name__} does not define trace")

    def square(self) -> float:
        """Squared Frobenius norm of the block."""
        raise TypeError(f"{type(self).__name__} does not define square")

    def extremes(self) -> Range:
        """Smallest and largest eigenvalue."""
        raise TypeError(f"{type(self).__name__} does not define extremes")

    def quadratic(self, abar: Array, columns: Array) -> np.ndarray:
        """mean_n (ā_n ⊗ c_n)ᵀ block (ā_n ⊗ c_n) for c (S, N, o), (S,) float64 on the host."""
        raise TypeError(f"{type(self).__name__} does not define quadratic")

    def inner(self, abar: Array, M: Array) -> float:
        """⟨block, mean_n ā_n ā_nᵀ ⊗ M_n⟩ for M (N, o, o)."""
        raise TypeError(f"{type(self).__name__} does not define inner")

    def damped(self, settings: Settings, lam: float, boost: float) -> Range:
        """Smallest and largest eigenvalue of the damped block, as a method of these settings
        inverts it.
        """
        raise TypeError(f"{type(self).__name__} does not define damped")

    def prepare(self, lam: float) -> Callable[[Array], Array]:
        """The map g → (block + damping)⁻¹ g of a gradient (o, i), under a fixed λ."""
        raise TypeError(f"{type(self).__name__} does not define prepare")

    def bytes(self) -> int:
        """Bytes kept."""
        raise TypeError(f"{type(self).__name__} does not define bytes")


@dataclass
class Factor:
    """A or G, (d, d), or (d,) where it is diagonal; its eigenvalues are found when they are asked
    for.
    """

    ops: Backend
    array: Array

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvalues."""
        return spectrum(self.ops, self.array)


@dataclass
class KroneckerBlock(Block):
    """A ⊗ G; the factor A is shared between methods."""

    factor_A: Factor
    factor_G: Factor

    @property
    def A(self) -> Array:
        """Input factor."""
        return self.factor_A.array

    @property
    def G(self) -> Array:
        """Output factor."""
        return self.factor_G.array

    def trace(self) -> float:
        a, g = self.ops.scalars(kron.trace(self.ops, self.A), kron.trace(self.ops, self.G))
        return a * g

    def square(self) -> float:
        a, g = self.ops.scalars((self.A * self.A).sum(), (self.G * self.G).sum())
        return a * g

    def extremes(self) -> Range:
        products = [
            a * g for a in _ends(self.factor_A.spectrum) for g in _ends(self.factor_G.spectrum)
        ]
        return min(products), max(products)

    def quadratic(self, abar: Array, columns: Array) -> np.ndarray:
        xp = self.ops.xp
        left = xp.einsum("ni,ni->n", abar @ self.A, abar)
        through = columns * self.G if self.G.ndim == 1 else columns @ self.G
        right = xp.einsum("snk,snk->sn", through, columns)
        return self.ops.to_host((right * left).mean(axis=1)).astype(np.float64)

    def inner(self, abar: Array, M: Array) -> float:
        xp = self.ops.xp
        left = xp.einsum("ni,ni->n", abar @ self.A, abar)
        right = M.reshape(len(M), -1) @ kron.dense(self.ops, self.G).reshape(-1)
        return self.ops.scalars((left * right).mean())[0]

    def damped(self, settings: Settings, lam: float, boost: float) -> Range:
        (a0, a1), (g0, g1) = (_ends(factor.spectrum) for factor in (self.factor_A, self.factor_G))
        if settings["damping_split"] == "exact":
            (shift,) = self.ops.scalars(
                damping.product_damping(self.ops, settings, self.A, self.G, lam, boost)
            )
            return a0 * g0 + shift, a1 * g1 + shift
        to_A, to_G = self.ops.scalars(
            *damping.factor_damping(self.ops, settings, self.A, self.G, lam, boost)
        )
        return (a0 + to_A) * (g0 + to_G), (a1 + to_A) * (g1 + to_G)

    def prepare(self, lam: float) -> Callable[[Array], Array]:
        ops = self.ops
        to_A, to_G = damping.factor_damping(ops, FIXED, self.A, self.G, lam, 1.0)
        A = kron.damped_inverse(ops, self.A, to_A, "factor A")
        G = kron.damped_inverse(ops, self.G, to_G, "factor G")
        return lambda g: kron.left(ops, G, g, ops.xp.empty_like(g)) @ A

    def bytes(self) -> int:
        return 2 * (self.A.nbytes + self.G.nbytes)


FIXED: Settings = {"damping_rule": "fixed", "damping_split": "factored", "weight_decay": 0.0}


def _ends(s: Spectrum) -> Range:
    # A factor is a Gram matrix: an eigenvalue below zero is rounding.
    return max(s.low, 0.0), max(s.high, 0.0)


@dataclass
class DiagonalBlock(Block):
    """(Q_A ⊗ Q_G) diag(vec S) (Q_A ⊗ Q_G)ᵀ with S (o, i) ≥ 0; a basis of None is the parameters'
    own.
    """

    S: Array
    Q_G: Array | None
    Q_A: Array | None
    kept: int = field(default=0)  # bytes of the factors whose bases these are

    @cached_property
    def spectrum(self) -> Spectrum:
        """All eigenvalues."""
        return of_values(np.sort(self.ops.to_host(self.S).ravel()))

    def trace(self) -> float:
        return self.ops.scalars(self.S.sum())[0]

    def square(self) -> float:
        return self.ops.scalars((self.S * self.S).sum())[0]

    def extremes(self) -> Range:
        low, high = self.ops.scalars(self.S.min(), self.S.max())
        return low, high

    def _left(self, abar: Array) -> Array:
        rotated = abar if self.Q_A is None else abar @ self.Q_A
        return (rotated * rotated) @ self.S.T  # (N, o): S applied to the squared inputs

    def quadratic(self, abar: Array, columns: Array) -> np.ndarray:
        left = self._left(abar)
        rotated = columns if self.Q_G is None else columns @ self.Q_G
        right = self.ops.xp.einsum("snk,snk,nk->s", rotated, rotated, left)
        return self.ops.to_host(right).astype(np.float64) / len(abar)

    def inner(self, abar: Array, M: Array) -> float:
        xp = self.ops.xp
        if self.Q_G is None:
            diagonal = xp.einsum("nkk->nk", M)
        else:
            diagonal = xp.einsum("nkj,kj->nj", M @ self.Q_G, self.Q_G)
        return self.ops.scalars((diagonal * self._left(abar)).sum(axis=1).mean())[0]

    def damped(self, settings: Settings, lam: float, boost: float) -> Range:
        (shift,) = self.ops.scalars(
            damping.diagonal_damping(self.ops, settings, self.S, lam, boost)
        )
        low, high = self.extremes()
        return low + shift, high + shift

    def prepare(self, lam: float) -> Callable[[Array], Array]:
        damped = self.S + lam

        def solve(g: Array) -> Array:
            inner = kron.rotate(self.ops, self.Q_G, g, self.Q_A) / damped
            return kron.rotate(self.ops, self.Q_G, inner, self.Q_A, back=True)

        return solve

    def bytes(self) -> int:
        return self.S.nbytes + self.kept
