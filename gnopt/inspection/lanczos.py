"""Lanczos' method with full reorthogonalisation, and the spectral density by stochastic quadrature.

M steps from a unit vector v give a tridiagonal matrix with eigenvalues θ_i. With the squared first
components τ_i² of its eigenvectors, they are the Gauss quadrature of the spectral measure at v:

    vᵀ f(B) v ≈ Σ_i τ_i² f(θ_i)

The average over random v is the quadrature of the whole spectrum (Ubaru, Chen & Saad 2017;
Ghorbani, Krishnan & Xiao 2019). Without reorthogonalisation, extreme eigenvalues would appear again
and again. Reorthogonalisation needs all M vectors, M P numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gnopt.engine.arrays import Array, Backend
from gnopt.errors import GnoptError

Product = Callable[[Array], Array]


@dataclass(frozen=True)
class Density:
    """A discrete spectral measure."""

    nodes: np.ndarray  # ascending
    weights: np.ndarray  # share of the spectrum at each node; their sum is 1
    size: int  # dimension of the matrix
    exact: bool = False  # the nodes are all eigenvalues

    @property
    def low(self) -> float:
        """Smallest node; it approximates the smallest eigenvalue."""
        return float(self.nodes[0])

    @property
    def high(self) -> float:
        """Largest node; it approximates the largest eigenvalue."""
        return float(self.nodes[-1])

    @property
    def trace(self) -> float:
        """Trace of the matrix, size · Σ weight · node."""
        return self.size * float(self.weights @ self.nodes)

    @property
    def negative(self) -> float:
        """Share of the spectrum below zero by more than rounding."""
        tolerance = 1e-6 * max(abs(self.low), abs(self.high))
        return float(self.weights[self.nodes < -tolerance].sum())


def lanczos(
    product: Product, start: Array, steps: int, ops: Backend
) -> tuple[np.ndarray, np.ndarray]:
    """Return diagonal (m,) and off-diagonal (m − 1,) of the tridiagonal matrix, float64.

    m is ``steps``, or less if the Krylov space ends before. Cost: one product and 4 P m flops a
    step.
    """
    xp = ops.xp
    Q = xp.empty((steps, start.size), dtype=start.dtype)
    (norm,) = ops.scalars(xp.vdot(start, start))
    Q[0] = start * norm**-0.5
    diagonal: list[float] = []
    off: list[float] = []
    largest = 0.0
    for m in range(1, steps + 1):
        w = product(Q[m - 1])
        (alpha,) = ops.scalars(xp.vdot(Q[m - 1], w))
        diagonal.append(alpha)
        for _ in range(2):  # twice is enough (Kahan; Parlett 1980)
            w = w - (Q[:m] @ w) @ Q[:m]
        beta = ops.scalars(xp.vdot(w, w))[0] ** 0.5
        largest = max(largest, abs(alpha), beta)
        if m == steps or beta <= 10.0 * float(np.finfo(start.dtype).eps) * largest:
            break
        off.append(beta)
        Q[m] = w * (1.0 / beta)
    return np.array(diagonal), np.array(off)


def lanczos_density(
    product: Product,
    size: int,
    dtype: np.dtype,
    steps: int,
    probes: int,
    rng: np.random.Generator,
    ops: Backend,
) -> Density:
    """Return the spectral density, averaged over ``probes`` random sign vectors.

    Raises GnoptError if the vectors of ``steps`` steps do not fit into memory.
    """
    from scipy.linalg import eigh_tridiagonal

    steps = min(steps, size)
    need, free = (steps + 3) * size * dtype.itemsize, ops.free_memory()
    if need > free:
        raise GnoptError(
            f"Lanczos keeps {steps} vectors of {size:,} numbers, {need:,} bytes, and {free:,} "
            "are free; choose fewer (--lanczos-steps) or --dtype float32"
        )
    nodes, weights = [], []
    for _ in range(probes):
        diagonal, off = lanczos(product, ops.rademacher(rng, (size,), dtype), steps, ops)
        values, vectors = eigh_tridiagonal(diagonal, off)
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    order = np.argsort(np.concatenate(nodes))
    return Density(np.concatenate(nodes)[order], np.concatenate(weights)[order], size)
