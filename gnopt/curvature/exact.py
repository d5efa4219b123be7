"""The exact block Hessian and Gauss-Newton matrix, per data point and as means (method: Botev et
al. 2017, 2 and 3).

    𝓗_L = ∂²E/∂h_L²,   𝓗_l = B_l weight_{l+1}ᵀ 𝓗_{l+1} weight_{l+1} B_l + D_l
    B_l = diag f'(h_l),   D_l = diag(f''(h_l) ⊙ ∂E/∂a_l)

Gauss-Newton drops D and starts from the positive semi-definite 𝒢_L. The block of layer l is the
mean of (ā_{l-1} ā_{l-1}ᵀ) ⊗ 𝓗_l, of size d_l (d_{l-1} + 1), with vec = columns of [weight, bias]
stacked. Data points are run through in chunks that keep temporaries in the memory budget; what
cannot fit is refused before it is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gnopt.curvature import Curvature, CurvatureSample, cost
from gnopt.curvature.factors import Factor, Full
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, Tape, backpropagate, curve, slope
from gnopt.errors import GnoptError


def pre_activation_matrices(sample: CurvatureSample, hessian: bool) -> Iterator[tuple[int, Array]]:
    """Yield (l, 𝓗_l or 𝒢_l of every data point, (N, d_l, d_l)) for l = L..1: N d_l² numbers at a
    time.
    """
    net, ops, loss, h, y = sample.net, sample.net.ops, sample.loss, sample.tape.output, sample.y
    M = loss.hessian_matrix(ops, h, y) if hessian else loss.gn_matrix(ops, h, y)
    delta = loss.gradient(ops, h, y) if hessian else None
    yield net.layers, M
    for l in range(net.layers - 1, 0, -1):
        weight = sample.W[l][:, :-1]
        f1 = slope(net, sample.tape, l)
        M = (weight.T @ M) @ weight
        M *= f1[:, :, None]
        M *= f1[:, None, :]
        if delta is not None:
            upstream = delta @ weight  # ∂E/∂a_l
            width = net.sizes[l]
            M.reshape(len(M), width * width)[:, :: width + 1] += (
                curve(net, sample.tape, l) * upstream
            )
            delta = f1 * upstream
        yield l, M


def _chunks(sample: CurvatureSample, per_row: int) -> Iterator[CurvatureSample]:
    rows = max(1, min(sample.tape.rows, int(sample.memory // max(per_row, 1))))
    for start in range(0, sample.tape.rows, rows):
        yield sample.take(slice(start, start + rows))


def mean_pre_activation(sample: CurvatureSample, hessian: bool) -> list[Array]:
    """mean(𝓗_l) or mean(𝒢_l), (d_l, d_l), of every layer: the exact output factors."""
    net = sample.net
    widest = max(net.sizes[1:])
    means = [net.ops.xp.zeros((d, d), dtype=net.dtype) for d in net.sizes[1:]]
    for part in _chunks(sample, 3 * widest * widest * net.dtype.itemsize):
        for l, M in pre_activation_matrices(part, hessian):
            means[l - 1] += M.sum(axis=0) * (1.0 / sample.tape.rows)
    return means


class ExactFactors(Curvature):
    """The exact mean of 𝒢_l by the recursion per data point: a reference, not a method.

    Costs a congruence for every data point, so no training method is made of this class.
    """

    name = "exact"
    summary = "exact output factors by the recursion per data point"
    exact_output = True

    def means(self, sample: CurvatureSample) -> list[Factor]:
        return [Full(G) for G in mean_pre_activation(sample, hessian=False)]

    def flops(self, net: Network, loss: Loss, rows: float, width: int = 0) -> float:
        return cost.recursion_by_row(net.sizes, rows)


def block_bytes(net: Network, layer: int) -> int:
    """Bytes of the dense block of layer l."""
    o, i = net.shapes[layer - 1]
    return (o * i) ** 2 * net.dtype.itemsize


def refuse_large_blocks(net: Network, layers: list[int], kinds: int, available: int) -> None:
    """Raise GnoptError, before anything is allocated, where ``kinds`` dense blocks of these layers
    cannot fit.
    """
    # The product that forms a block exists beside the block in its final order.
    need = kinds * sum(block_bytes(net, l) for l in layers) + max(
        (block_bytes(net, l) for l in layers), default=0
    )
    if need > available:
        worst = max(layers, key=lambda l: block_bytes(net, l))
        o, i = net.shapes[worst - 1]
        raise GnoptError(
            f"the exact blocks of layers {', '.join(map(str, layers))} take {need:,} bytes and "
            f"{available:,} are free; "
            f"layer {worst} alone is a square of {o} x {i} = {o * i:,} parameters "
            f"({block_bytes(net, worst):,} bytes). "
            "Choose fewer layers (--layers), a smaller network (network.hidden), or "
            'training.dtype = "float32"'
        )


def mean_blocks(
    sample: CurvatureSample, hessian: bool, layers: list[int] | None = None
) -> dict[int, Array]:
    """The exact mean blocks, (d_l (d_{l-1}+1))² each, for the chosen layers (default all).

    One product per chunk: (ā ⊗ ā)ᵀ vec(𝓗) sums over data points, 2 N (d_l (d_{l-1}+1))² flops.
    """
    net, xp = sample.net, sample.net.ops.xp
    wanted = list(range(1, net.layers + 1)) if layers is None else layers
    sums = {
        l: xp.zeros((net.shapes[l - 1][1] ** 2, net.shapes[l - 1][0] ** 2), dtype=net.dtype)
        for l in wanted
    }
    widest = max(max(o, i) for o, i in net.shapes)
    for part in _chunks(sample, 5 * widest * widest * net.dtype.itemsize):
        for l, M in pre_activation_matrices(part, hessian):
            if l in sums:
                abar = part.tape.abar[l - 1]
                outer = (abar[:, :, None] * abar[:, None, :]).reshape(len(abar), -1)
                sums[l] += outer.T @ M.reshape(len(M), -1)
    blocks = {}
    for l in wanted:
        o, i = net.shapes[l - 1]
        block = sums.pop(l).reshape(i, i, o, o).transpose(0, 2, 1, 3).reshape(i * o, i * o)
        block *= 1.0 / sample.tape.rows
        blocks[l] = block
    return blocks


def root_jacobian(
    net: Network, W: Sequence[Array], tape: Tape, root: Array, workspace: Workspace | None = None
) -> Array:
    """Return Vᵀ, (P, R N): column (r, n) is J_nᵀ c_r, the derivative by θ of the output of data
    point n along column r of ``root``, (R, N, K).

    Vᵀ Vᵀᵀ is the Gauss-Newton matrix times N, with parameters in the order of θ. A column is C_l ⊗
    ā_{l-1} for every layer; data points come last, so that memory is written in long runs.
    """
    xp, ws = net.ops.xp, workspace or Workspace(net.ops, net.dtype)
    columns, rows, _ = root.shape
    transposed = ws.take("jacobian", (net.size, columns, rows))
    for l, C in backpropagate(net, W, tape, root, ws):
        (o, i), start = net.shapes[l - 1], net.offsets[l - 1]
        abar = xp.ascontiguousarray(tape.abar[l - 1].T)
        C = xp.ascontiguousarray(C.transpose(2, 0, 1))
        part = transposed[start : start + o * i].reshape(o, i, columns, rows)
        xp.multiply(C[:, None], abar[None, :, None], out=part)
    return transposed.reshape(net.size, columns * rows)


def full_gauss_newton(sample: CurvatureSample) -> Array:
    """The whole Gauss-Newton matrix with its off-diagonal blocks, (P, P), parameters ordered by
    layer and vec(W_l).

    One product Vᵀ V for each chunk of data points, see `root_jacobian`.
    """
    net, xp = sample.net, sample.net.ops.xp
    if net.size**2 * net.dtype.itemsize * 2 > net.ops.free_memory():
        raise GnoptError(
            f"the full Gauss-Newton matrix of {net.size:,} parameters takes "
            f"{net.size**2 * net.dtype.itemsize:,} bytes, {net.ops.free_memory():,} are free"
        )
    total = xp.zeros((net.size, net.size), dtype=net.dtype)
    rank = sample.loss.rank(net.sizes[-1])
    for part in _chunks(sample, 2 * rank * net.size * net.dtype.itemsize):
        root = sample.loss.gn_root(net.ops, part.tape.output, part.y)
        V = root_jacobian(net, part.W, part.tape, root)
        total += net.ops.gram(V.T, 1.0 / sample.tape.rows)
    order = xp.concatenate(
        [
            start + xp.arange(o * i).reshape(o, i).T.reshape(-1)
            for start, (o, i) in zip(net.offsets[:-1], net.shapes, strict=True)
        ]
    )
    return total[order][:, order]
