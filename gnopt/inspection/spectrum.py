"""Eigenvalues of a factor or a block, with the rank, effective rank and condition they imply.

LAPACK computes them on the host in the precision of the array. An eigenvalue counts towards the
rank if it exceeds dim · eps · (largest eigenvalue); a smaller one may be a rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf

import numpy as np

from gnopt.engine.arrays import Array, Backend


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of a symmetric matrix."""

    values: np.ndarray  # ascending
    resolution: float  # magnitude up to which an eigenvalue counts as zero

    @property
    def low(self) -> float:
        """Smallest eigenvalue."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """Largest eigenvalue."""
        return float(self.values[-1])

    @property
    def rank(self) -> int:
        """Number of eigenvalues that differ from zero."""
        return int((np.abs(self.values) > self.resolution).sum())

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the eigenvalues as shares of the trace (Roy & Vetterli 2007).

        It lies between 1 and the rank.
        """
        shares = np.maximum(self.values.astype(np.float64), 0.0)
        total = shares.sum()
        if not total > 0.0:
            return 0.0
        shares = shares[shares > 0.0] / total
        return exp(-float((shares * np.log(shares)).sum()))

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue; infinite if the matrix is singular up to rounding."""
        return self.high / self.low if self.low > self.resolution else inf


def spectrum(ops: Backend, M: Array) -> Spectrum:
    """Return the spectrum of a symmetric (d, d) or diagonal (d,) matrix; about 4/3 d³ flops."""
    host = ops.to_host(M)
    if host.ndim == 1:
        values = np.sort(host)
    else:
        from scipy.linalg import eigvalsh

        values = eigvalsh(host, check_finite=True)
    return of_values(values)


def of_values(values: np.ndarray) -> Spectrum:
    """Return the spectrum with these eigenvalues, which must be ascending."""
    top = float(np.abs(values).max(initial=0.0))
    return Spectrum(values, len(values) * float(np.finfo(values.dtype).eps) * top)


def product_values(
    A: np.ndarray, G: np.ndarray, limit: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """Return places 1..ij and eigenvalues of A ⊗ G in descending order, thinned to about ``limit``.

    ``A`` and ``G`` are the eigenvalues of the factors; those of A ⊗ G are their products.
    """
    products = np.sort(np.multiply.outer(A, G).ravel())[::-1]
    if len(products) <= limit:
        return np.arange(1, len(products) + 1), products
    places = np.unique(np.geomspace(1, len(products), limit).astype(np.int64))
    places = np.union1d(places, np.linspace(1, len(products), limit // 4).astype(np.int64))
    return places, products[places - 1]
