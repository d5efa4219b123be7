"""Find the spectral density of the whole Gauss-Newton matrix and Hessian.

A small network's matrices are formed and all eigenvalues computed; for others, Lanczos' method
estimates the density.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gnopt.curvature.exact import full_gauss_newton
from gnopt.engine.arrays import Array
from gnopt.engine.network import gn_vector, hessian_vector
from gnopt.inspection.lanczos import Density, lanczos_density
from gnopt.inspection.spectrum import spectrum
from gnopt.inspection.subject import Snapshot
from gnopt.optimizers.base import row_blocks

SMALL = 1500  # parameters up to which the matrices are formed


def product_with(snapshot: Snapshot, kind: str) -> Callable[[Array], Array]:
    """Return the function v → M v for the Gauss-Newton matrix or Hessian M of the whole sample.

    ``kind`` is "gauss_newton" or "hessian". Data points are taken in blocks that fit into memory.
    Cost of a product: 8 N P flops for the Gauss-Newton matrix, 14 N P for the Hessian.
    """
    net, subject, xp = snapshot.net, snapshot.subject, snapshot.net.ops.xp
    parts = list(row_blocks(net, snapshot.tape.rows, subject.memory))

    def product(v: Array) -> Array:
        total: Array | None = None
        for rows in parts:
            sample = snapshot.sample().take(rows)
            out = xp.empty_like(v)
            if kind == "gauss_newton":
                gn_vector(
                    net,
                    snapshot.W,
                    sample.tape,
                    subject.loss,
                    sample.y,
                    net.views(v),
                    net.views(out),
                    snapshot.workspace,
                )
            else:
                hessian_vector(
                    net,
                    snapshot.W,
                    sample.tape,
                    subject.loss,
                    sample.y,
                    net.views(v),
                    net.views(out),
                )
            out *= (rows.stop - rows.start) / snapshot.tape.rows
            total = out if total is None else total + out
        assert total is not None
        return total

    return product


def whole_density(snapshot: Snapshot, kind: str, steps: int, probes: int) -> Density:
    """Return the density of the whole matrix ``kind``, "gauss_newton" or "hessian".

    ``steps`` and ``probes`` are those of `lanczos_density`; small networks do not use them.
    """
    net, ops = snapshot.net, snapshot.net.ops
    if net.size > SMALL:
        sample = snapshot.sample("lanczos")
        return lanczos_density(
            product_with(snapshot, kind), net.size, net.dtype, steps, probes, sample.rng, ops
        )
    if kind == "gauss_newton":
        matrix = full_gauss_newton(snapshot.sample())
    else:
        product, identity = product_with(snapshot, kind), ops.xp.eye(net.size, dtype=net.dtype)
        matrix = ops.xp.stack([product(identity[i]) for i in range(net.size)])
        matrix = 0.5 * (matrix + matrix.T)
    values = spectrum(ops, matrix).values.astype(np.float64)
    return Density(values, np.full(net.size, 1.0 / net.size), net.size, exact=True)
