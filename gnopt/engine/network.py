"""A feedforward network as a list of augmented weight matrices, and its passes.

Forward h_l = ā_{l-1} W_lᵀ, a_l = f_l(h_l); backward δ_l = f'(h_l) ⊙ (δ_{l+1} weight_{l+1});
R-forward R{h_l} = ā_{l-1} V_lᵀ + R{a_{l-1}} weight_lᵀ (Pearlmutter 1994; Schraudolph 2002). Rows
are data points.

All parameters live in one flat vector θ. ``Network.views`` returns the W_l as views into it: the
passes see matrices, and an operation on all parameters is one call over memory.

Flops for N rows and P parameters: forward 2 N P; backward 4 N P and R-forward 4 N P, each less the
first layer's share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend, Workspace
from gnopt.engine.losses import Loss


class Network:
    """Layer sizes (D, d_1, ..., d_L), an activation for each layer (the identity for the last),
    backend and dtype. It holds no weights: the passes take them as arguments.

    >>> from gnopt.engine.activations import get_activation
    >>> from gnopt.engine.arrays import get_backend
    >>> activations = [get_activation("tanh"), get_activation("identity")]
    >>> net = Network((4, 3, 2), activations, get_backend("cpu"), "float64")
    >>> net.shapes
    [(3, 5), (2, 4)]
    >>> theta = np.zeros(net.size)
    >>> net.views(theta)[1][:, -1] = 7.0  # the output bias, through a view
    >>> forward(net, net.views(theta), np.ones((1, 4))).output
    array([[7., 7.]])
    """

    def __init__(
        self, sizes: Sequence[int], activations: Sequence[Activation], ops: Backend, dtype: str
    ) -> None:
        if len(activations) != len(sizes) - 1 or activations[-1].name != "identity":
            raise ValueError("expected one activation per layer, the identity for the output layer")
        self.sizes = tuple(int(s) for s in sizes)
        self.activations = tuple(activations)
        self.ops = ops
        self.dtype = np.dtype(dtype)
        self.shapes = [(o, i + 1) for i, o in zip(self.sizes[:-1], self.sizes[1:], strict=True)]
        self.offsets: list[int] = np.cumsum([0] + [o * i for o, i in self.shapes]).tolist()
        spans = map(slice, self.offsets[:-1], self.offsets[1:])
        self._layout = list(zip(spans, self.shapes, strict=True))

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.shapes)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.offsets[-1]

    def views(self, flat: Array) -> list[Array]:
        """Return the augmented matrices W_1..W_L, (d_l, d_{l-1} + 1), as views into a flat vector
        of all parameters.
        """
        return [flat[span].reshape(shape) for span, shape in self._layout]

    def bias_positions(self) -> np.ndarray:
        """Return the positions of the biases in the flat vector: the last column of every W_l."""
        return np.concatenate(
            [
                start + i * np.arange(1, o + 1) - 1
                for start, (o, i) in zip(self.offsets[:-1], self.shapes, strict=True)
            ]
        )

    def row_bytes(self) -> int:
        """Return the bytes that one data point occupies on the tape."""
        kept = sum(s + 1 for s in self.sizes[:-1]) + self.sizes[-1]
        kept += sum(
            s for s, f in zip(self.sizes[1:-1], self.activations, strict=False) if not f.from_output
        )
        return kept * self.dtype.itemsize


@dataclass
class Tape:
    """What a forward pass keeps for the other passes.

    ``abar[l]`` is ā_l for l = 0..L-1. ``h[l-1]`` is h_l, or None where f' is computed from a_l; the
    last one, h_L, is also ``output``. ``slopes[l-1]`` is f'(h_l), where many passes use the tape.
    """

    abar: list[Array]
    h: list[Array | None]
    output: Array
    slopes: list[Array] | None = None

    @property
    def rows(self) -> int:
        """Number of data points."""
        return len(self.output)

    def head(self, rows: int) -> Tape:
        """Return the tape of the first ``rows`` data points, as views of this one."""
        return self.part(slice(0, rows))

    def part(self, rows: slice) -> Tape:
        """Return the tape of a range of the data points, as views of this one."""
        return Tape(
            [a[rows] for a in self.abar],
            [None if h is None else h[rows] for h in self.h],
            self.output[rows],
            None if self.slopes is None else [f1[rows] for f1 in self.slopes],
        )


def forward(net: Network, W: Sequence[Array], x: Array, workspace: Workspace | None = None) -> Tape:
    """Run the network on x (N, D); return what the other passes need.

    With a workspace, the tape lies in its buffers: the next forward pass with that workspace
    overwrites it.
    """
    xp = net.ops.xp
    ws = workspace or Workspace(net.ops, net.dtype)
    rows = len(x)
    abar = [_augmented(ws, 0, rows, net.sizes[0])]
    kept: list[Array | None] = []
    abar[0][:, :-1] = x
    for l, (W_l, f) in enumerate(zip(W[:-1], net.activations, strict=False), start=1):
        a = _augmented(ws, l, rows, net.sizes[l])
        if f.from_output:
            h = xp.matmul(abar[-1], W_l.T, out=a[:, :-1])  # f(h) overwrites it below
            kept.append(None)
        else:
            h = xp.matmul(abar[-1], W_l.T, out=ws.take(("h", l), (rows, net.sizes[l])))
            kept.append(h)
        net.ops.elementwise(f.f, h, out=a[:, :-1])
        abar.append(a)
    output = xp.matmul(abar[-1], W[-1].T, out=ws.take("output", (rows, net.sizes[-1])))
    kept.append(output)
    return Tape(abar, kept, output)


def _augmented(ws: Workspace, layer: int, rows: int, width: int) -> Array:
    """Return a buffer (rows, width + 1) whose last column, the unit term, is one."""

    def ones(flat: Array) -> None:  # once, when the memory is new: no pass writes to that column
        flat[width :: width + 1] = 1.0

    return ws.take(("abar", layer, width), (rows, width + 1), ones)


def still_units(net: Network, tape: Tape) -> Array:
    """Return how many hidden units give the same on all rows of the tape, 0-d on the device.

    Nothing is learned through such a unit: it is dead or saturated, or its inputs do not vary.
    """
    count = net.ops.xp.zeros((), dtype=np.int64)
    for a in tape.abar[1:]:
        count = count + (a[:, :-1] == a[0, :-1]).all(axis=0).sum()
    return count


def slope(net: Network, tape: Tape, layer: int, workspace: Workspace | None = None) -> Array:
    """Return f'(h_l) of a hidden layer l = 1..L-1, (N, d_l)."""
    a = tape.abar[layer][:, :-1]
    ws = workspace or Workspace(net.ops, net.dtype)
    return net.ops.elementwise(
        net.activations[layer - 1].df, tape.h[layer - 1], a, out=ws.take("slope", a.shape)
    )


def times_slope(
    net: Network, tape: Tape, layer: int, x: Array, workspace: Workspace | None = None
) -> None:
    """x ← f'(h_l) ⊙ x for an x of shape (N, d_l) or (k, N, d_l)."""
    if tape.slopes is not None:
        x *= tape.slopes[layer - 1]
        return
    ws = workspace or Workspace(net.ops, net.dtype)
    net.ops.times_slope(
        x, net.activations[layer - 1].df, tape.h[layer - 1], tape.abar[layer][:, :-1], ws
    )


def backpropagate(
    net: Network, W: Sequence[Array], tape: Tape, delta: Array, workspace: Workspace | None = None
) -> Iterator[tuple[int, Array]]:
    """Yield (l, δ_l) for l = L..1, where δ_l = f'(h_l) ⊙ (δ_{l+1} weight_{l+1}).

    δ_L is ``delta``, (N, K), or (k, N, K) for k columns at once. Two buffers take turns: the step
    after next may overwrite an array that was yielded.
    """
    xp = net.ops.xp
    ws = workspace or Workspace(net.ops, net.dtype)
    yield net.layers, delta
    for l in range(net.layers - 1, 0, -1):
        shape = (*delta.shape[:-1], net.sizes[l])
        flat = delta.reshape(-1, delta.shape[-1])
        out = ws.take(("delta", l % 2), (len(flat), net.sizes[l]))
        delta = xp.matmul(flat, W[l][:, :-1], out=out).reshape(shape)
        times_slope(net, tape, l, delta, ws)
        yield l, delta


def gradient(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    delta: Array,
    out: Sequence[Array],
    workspace: Workspace | None = None,
) -> None:
    """Write Σ_n δ_l ā_{l-1}ᵀ into out[l-1] for every layer.

    With δ_L = ∂E/∂h / N, (N, K), this is the gradient of the mean loss.
    """
    for l, delta_l in backpropagate(net, W, tape, delta, workspace):
        net.ops.xp.matmul(delta_l.T, tape.abar[l - 1], out=out[l - 1])


def r_forward(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    directions: Sequence[Sequence[Array]],
    workspace: Workspace | None = None,
) -> Array:
    """Return R{h_L} = J v for k directions at once, (k, N, K).

    A direction is a list of matrices with the shapes of the W_l. The part that comes through the
    previous layer is one product for all directions.
    """
    xp = net.ops.xp
    ws = workspace or Workspace(net.ops, net.dtype)
    rows, k = tape.rows, len(directions)
    ra: Array | None = None
    for l in range(1, net.layers + 1):
        rh = ws.take(("rh", l % 2), (k, rows, net.sizes[l]))
        for i, V in enumerate(directions):
            xp.matmul(tape.abar[l - 1], V[l - 1].T, out=rh[i])
        if ra is not None:
            through = xp.matmul(
                ra.reshape(k * rows, -1),
                W[l - 1][:, :-1].T,
                out=ws.take("through", (k * rows, net.sizes[l])),
            )
            rh += through.reshape(rh.shape)
        if l < net.layers:
            times_slope(net, tape, l, rh, ws)
        ra = rh
    return ra


def second_r_forward(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    V: Sequence[Array],
    workspace: Workspace | None = None,
) -> Array:
    """Return R²{h_L}, the second derivative of h_L(θ + ε v) by ε at ε = 0, (N, K).

    The R-forward pass differentiated once more, with R²{h_1} = 0 (the weights enter h_1 linearly):

        R²{h_l} = R²{a_{l-1}} weight_lᵀ + 2 R{a_{l-1}} v_lᵀ
        R²{a_l} = f'(h_l) ⊙ R²{h_l} + f''(h_l) ⊙ R{h_l}²

    with v_l the columns of V_l that multiply a_{l-1}. Flops: 2 N P, and 6 N P less the first
    layer's share.
    """
    xp = net.ops.xp
    ws = workspace or Workspace(net.ops, net.dtype)
    ra: Array | None = None
    r2a: Array | None = None
    r2h: Array | None = None
    for l in range(1, net.layers + 1):
        shape = (tape.rows, net.sizes[l])
        rh = xp.matmul(tape.abar[l - 1], V[l - 1].T, out=ws.take(("rh", l % 2), shape))
        if ra is not None:
            weight = W[l - 1][:, :-1]
            through = ws.take("through", shape)
            r2h = xp.matmul(ra, V[l - 1][:, :-1].T, out=ws.take(("r2h", l % 2), shape))
            r2h *= 2.0
            rh += xp.matmul(ra, weight.T, out=through)
            if r2a is not None:
                r2h += xp.matmul(r2a, weight.T, out=through)
        if l < net.layers:
            r2a = r2h
            if r2a is not None:
                times_slope(net, tape, l, r2a, ws)
            if not net.activations[l - 1].piecewise_linear:
                bend = curve(net, tape, l)
                bend *= rh
                bend *= rh
                r2a = bend if r2a is None else xp.add(r2a, bend, out=r2a)
            times_slope(net, tape, l, rh, ws)
            ra = rh
    return xp.zeros_like(tape.output) if r2h is None else r2h


def input_jacobian(net: Network, W: Sequence[Array], tape: Tape) -> Array:
    """Return ∂h_L/∂x of each data point, (N, K, D).

    All data points are passed at once, either K columns from the outputs back or D columns from the
    inputs on, whichever needs fewer flops: with d_0 = D and d_L = K the first needs
    2 N K Σ_{l<L} d_l d_{l-1}, the second 2 N D Σ_{l>1} d_l d_{l-1}.
    """
    xp = net.ops.xp
    weights = [W_l[:, :-1] for W_l in W]
    shape = (tape.rows, net.sizes[-1], net.sizes[0])
    if net.layers == 1:
        return xp.broadcast_to(weights[0], shape)
    products = [w.size for w in weights]
    backward = net.sizes[-1] * sum(products[:-1]) <= net.sizes[0] * sum(products[1:])
    # The first product of either pass has one factor for all data points, so that it is a copy.
    first = weights[-1] if backward else weights[0].T
    t = xp.repeat(first[:, None, :], tape.rows, axis=1)
    layers = range(net.layers - 1, 0, -1) if backward else range(1, net.layers)
    for l in layers:
        times_slope(net, tape, l, t)
        # (columns, N, d): one product for all columns and data points
        through = weights[l - 1] if backward else weights[l].T
        t = (t.reshape(-1, t.shape[-1]) @ through).reshape(len(first), tape.rows, -1)
    return t.transpose(1, 0, 2) if backward else t.transpose(1, 2, 0)


def gn_vector(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    loss: Loss,
    y: Array,
    V: Sequence[Array],
    out: Sequence[Array],
    workspace: Workspace | None = None,
) -> None:
    """Write GN v, the Gauss-Newton matrix of the tape's mean loss times v, into ``out``.

    R-forward, 𝒢_L, backward (Schraudolph 2002): about 8 N P flops for P parameters, and no matrix
    is formed.
    """
    Jv = r_forward(net, W, tape, [V], workspace)[0]
    delta = loss.gn_product(net.ops, tape.output, y, Jv)
    delta = delta * (1.0 / tape.rows)
    gradient(net, W, tape, delta, out, workspace)


def hessian_vector(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    loss: Loss,
    y: Array,
    V: Sequence[Array],
    out: Sequence[Array],
) -> None:
    """Write H v, the Hessian of the tape's mean loss times v, into ``out``: R-forward, R-backward
    (Pearlmutter 1994).

    R{δ_l} = f'(h_l) ⊙ (R{δ_{l+1}} weight_{l+1} + δ_{l+1} V_{l+1}) + f''(h_l) R{h_l} ⊙ ∂E/∂a_l.
    """
    ops, xp = net.ops, net.ops.xp
    L, scale = net.layers, 1.0 / tape.rows
    rh: list[Array] = []
    ra: list[Array] = [xp.zeros_like(tape.abar[0][:, :-1])]
    for l in range(1, L + 1):
        rh.append(tape.abar[l - 1] @ V[l - 1].T + ra[-1] @ W[l - 1][:, :-1].T)
        if l < L:
            ra.append(rh[-1] * slope(net, tape, l))
    delta = loss.gradient(ops, tape.output, y) * scale
    r_delta = loss.hessian_product(ops, tape.output, y, rh[-1]) * scale
    for l in range(L, 0, -1):
        xp.matmul(r_delta.T, tape.abar[l - 1], out=out[l - 1])
        out[l - 1][:, :-1] += delta.T @ ra[l - 1]
        if l > 1:
            upstream = delta @ W[l - 1][:, :-1]  # ∂E/∂a_{l-1}
            f1 = slope(net, tape, l - 1)
            f2 = curve(net, tape, l - 1)
            r_delta = (
                f1 * (r_delta @ W[l - 1][:, :-1] + delta @ V[l - 1][:, :-1])
                + f2 * rh[l - 2] * upstream
            )
            delta = f1 * upstream


def curve(net: Network, tape: Tape, layer: int) -> Array:
    """Return f''(h_l) of a hidden layer l = 1..L-1, (N, d_l)."""
    a = tape.abar[layer][:, :-1]
    return net.ops.elementwise(net.activations[layer - 1].d2f, tape.h[layer - 1], a)
