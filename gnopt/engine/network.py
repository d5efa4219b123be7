"""A feedforward network as a list of augmented weight matrices, and its passes.

Forward h_l = ā_{l-1} W_lᵀ, a_l = f_l(h_l); backward δ_l = f'(h_l) ⊙ (δ_{l+1} weight_{l+1});
R-forward R{h_l} = ā_{l-1} V_lᵀ + R{a_{l-1}} weight_lᵀ (Pearlmutter 1994; Schraudolph 2002). Rows
are data points. All parameters live in one flat vector θ; ``Network.views`` gives the W_l as views
into it, so that vector operations are one call over memory and the passes see matrices. Flops for N
rows and P parameters: forward 2 N P, backward 4 N P less the first layer's share, R-forward 4 N P
less the first layer's share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend, Workspace


class Network:
    """Sizes (D, d_1, ..., d_L), one activation a layer (the last is the identity), backend and
    dtype.

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
        self.offsets = np.cumsum([0] + [o * i for o, i in self.shapes]).tolist()

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.shapes)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.offsets[-1]

    def views(self, flat: Array) -> list[Array]:
        """The augmented matrices W_1..W_L, (d_l, d_{l-1} + 1), as views into a flat vector."""
        return [
            flat[start:stop].reshape(shape)
            for start, stop, shape in zip(
                self.offsets[:-1], self.offsets[1:], self.shapes, strict=True
            )
        ]

    def bias_positions(self) -> np.ndarray:
        """Where the biases lie in the flat vector: the last column of every W_l."""
        return np.concatenate(
            [
                start + i * np.arange(1, o + 1) - 1
                for start, (o, i) in zip(self.offsets[:-1], self.shapes, strict=True)
            ]
        )

    def row_bytes(self) -> int:
        """Bytes that one data point occupies on the tape."""
        kept = sum(s + 1 for s in self.sizes[:-1]) + self.sizes[-1]
        kept += sum(
            s for s, f in zip(self.sizes[1:-1], self.activations, strict=False) if not f.from_output
        )
        return kept * self.dtype.itemsize

    def forward_flops(self, rows: int) -> int:
        """Flops of a forward pass."""
        return 2 * rows * self.size


@dataclass
class Tape:
    """What a forward pass keeps: ``abar[l]`` = ā_l for l = 0..L-1, ``h[l-1]`` = h_l where f' needs
    it, and h_L.
    """

    abar: list[Array]
    h: list[Array | None]
    output: Array

    @property
    def rows(self) -> int:
        """Number of data points."""
        return len(self.output)

    def head(self, rows: int) -> Tape:
        """The same tape for the first ``rows`` data points, as views."""
        return Tape(
            [a[:rows] for a in self.abar],
            [None if h is None else h[:rows] for h in self.h],
            self.output[:rows],
        )


def forward(net: Network, W: Sequence[Array], x: Array, workspace: Workspace | None = None) -> Tape:
    """Run the network on x (N, D) and keep what the other passes need.

    With a workspace the tape lives in its buffers and is valid until the next forward pass with it.
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
            h = xp.matmul(abar[-1], W_l.T, out=a[:, :-1])  # overwritten by f(h) in the next line
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
    def ones(flat: Array) -> None:  # of the bias, in the last column: nobody else writes there
        flat[width :: width + 1] = 1.0

    return ws.take(("abar", layer, width), (rows, width + 1), ones)


def slope(net: Network, tape: Tape, layer: int, workspace: Workspace | None = None) -> Array:
    """f'(h_l) of a hidden layer l = 1..L-1, (N, d_l)."""
    a = tape.abar[layer][:, :-1]
    ws = workspace or Workspace(net.ops, net.dtype)
    return net.ops.elementwise(
        net.activations[layer - 1].df, tape.h[layer - 1], a, out=ws.take("slope", a.shape)
    )


def times_slope(
    net: Network, tape: Tape, layer: int, x: Array, workspace: Workspace | None = None
) -> None:
    """x ← f'(h_l) ⊙ x for an x of shape (N, d_l) or (k, N, d_l)."""
    ws = workspace or Workspace(net.ops, net.dtype)
    net.ops.times_slope(
        x, net.activations[layer - 1].df, tape.h[layer - 1], tape.abar[layer][:, :-1], ws
    )


def backpropagate(
    net: Network, W: Sequence[Array], tape: Tape, delta: Array, workspace: Workspace | None = None
) -> Iterator[tuple[int, Array]]:
    """Yield (l, δ_l) for l = L..1, starting from δ_L = ``delta`` of shape (N, K) or, for k columns
    at once, (k, N, K).

    δ_l = f'(h_l) ⊙ (δ_{l+1} weight_{l+1}); the yielded array may be overwritten by the next but one
    step.
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
    """Write Σ_n δ_l ā_{l-1}ᵀ into out[l-1]; with δ_L = ∂E/∂h / N this is the gradient of the mean
    loss.
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
    """J v for k directions at once: R{h_L}, (k, N, K), each direction a list of matrices shaped
    like the W_l.

    The part through the previous layer is one product for all directions.
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


def gn_vector(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    loss: Any,
    y: Array,
    V: Sequence[Array],
    out: Sequence[Array],
    workspace: Workspace | None = None,
) -> None:
    """Write (GN v) of the tape's mean loss into ``out``: R-forward, 𝒢_L, backward; no matrix is
    formed.

    Source: Schraudolph (2002). Cost about 8 N P flops for P parameters.
    """
    Jv = r_forward(net, W, tape, [V], workspace)[0]
    delta = loss.gn_product(net.ops, tape.output, y, Jv)
    delta = delta * (1.0 / tape.rows)
    gradient(net, W, tape, delta, out, workspace)


def hessian_vector(
    net: Network,
    W: Sequence[Array],
    tape: Tape,
    loss: Any,
    y: Array,
    V: Sequence[Array],
    out: Sequence[Array],
) -> None:
    """Write (Hessian v) of the tape's mean loss into ``out`` (Pearlmutter 1994): R-forward and
    R-backward.

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
    """f''(h_l) of a hidden layer, (N, d_l)."""
    a = tape.abar[layer][:, :-1]
    return net.ops.elementwise(net.activations[layer - 1].d2f, tape.h[layer - 1], a)
