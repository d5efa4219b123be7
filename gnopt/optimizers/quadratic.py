"""The quadratic model of the objective in the span of a few directions (Martens & Grosse 2015, 6.4
and 7).

    q(V x) = obj + bᵀx + ½ xᵀ Q x,   b = Vᵀ∇,   Q = Vᵀ GN V + κ Vᵀ V

GN is the exact, un-factored Gauss-Newton matrix of some of the batch's rows, with E[𝒢_L] at the
output (`Loss.expected_gn_product`): VᵀGN V needs one R-forward pass for all directions and no
backward pass. k directions make a k × k system, solved on the host in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, Tape, r_forward


def curvature_products(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    loss: Loss,
    y: Array,
    directions: Sequence[Array],
    workspace: Workspace,
) -> Array:
    """(1/N) Σ_n (J V)ᵀ E[𝒢_L] (J V) over the tape's rows, (k, k) on the device, for k flat
    directions.
    """
    xp = net.ops.xp
    k = len(directions)
    Jv = r_forward(net, W, tape, [net.views(v) for v in directions], workspace)
    HJv = loss.expected_gn_product(net.ops, tape.output, y, Jv)
    return xp.matmul(Jv.reshape(k, -1), HJv.reshape(k, -1).T) * (1.0 / tape.rows)


def minimise(Q: np.ndarray, b: np.ndarray, ridge: float) -> np.ndarray:
    """Return the minimiser x = −Q⁻¹ b of bᵀx + ½ xᵀ Q x, (k,), for a symmetric Q (k, k).

    Q is scaled to unit diagonal, and ``ridge`` is added to the diagonal, so that nearly parallel
    directions do no harm. A direction without curvature gets x = 0. If the system cannot be solved,
    the first direction alone is used.

    >>> Q, b = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 8.0]]), np.array([-2.0, 1, 4])
    >>> minimise(Q, b, ridge=0.0)
    array([ 1. ,  0. , -0.5])
    """
    x = np.zeros(len(b))
    diagonal = np.diag(Q)
    kept = np.flatnonzero(np.isfinite(diagonal) & (diagonal > 0.0))
    if len(kept) == 0:
        return x
    scale = 1.0 / np.sqrt(diagonal[kept])
    scaled = Q[np.ix_(kept, kept)] * scale[:, None] * scale[None, :]
    try:
        if not np.isfinite(scaled).all():  # a Cholesky factorisation may let NaN through
            raise np.linalg.LinAlgError
        L = np.linalg.cholesky(scaled + ridge * np.eye(len(kept)))
        x[kept] = -scale * np.linalg.solve(L.T, np.linalg.solve(L, scale * b[kept]))
    except np.linalg.LinAlgError:
        first = kept[0]
        x[first] = -b[first] / Q[first, first]
    return x
