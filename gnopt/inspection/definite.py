"""Test the paper's theorem: piecewise-linear activations make block Hessians semi-definite.

The block of layer l at one data point is ā āᵀ ⊗ 𝓗_l. Its eigenvalues are zeros and ‖ā‖² times those
of 𝓗_l, so the small matrices 𝓗_l suffice. With f'' = 0 and B = diag f'(h_l),

    𝓗_l = B weightᵀ 𝓗_{l+1} weight B

is positive semi-definite if 𝓗_L is. Then the trace of the whole Hessian is non-negative, and there
is no differentiable strict local maximum (Botev et al. 2017, section 3). Curved activations such as
tanh add a term with f'', whose eigenvalues have either sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.curvature.exact import pre_activation_matrices
from gnopt.inspection.subject import Snapshot

FLOPS = 6e10  # the default number of rows costs at most this
# An eigenvalue counts as negative below −SLACK · d · eps · (largest eigenvalue of the layer).
SLACK = 8.0


@dataclass(frozen=True)
class LayerSigns:
    """The signs of one layer's block Hessians, one at each data point."""

    lowest: float  # eigenvalue of all points
    highest: float
    lowest_trace: float
    tolerance: float
    negative_points: int  # points with an eigenvalue below −tolerance
    negative_traces: int


@dataclass(frozen=True)
class Signs:
    """The signs of all layers over the first ``rows`` data points."""

    rows: int
    layers: list[LayerSigns]
    piecewise_linear: bool
    output_definite: bool  # whether 𝓗_L is positive semi-definite
    lowest_trace: float  # of the whole Hessian, over data points
    tolerance: float

    @property
    def premise(self) -> bool:
        """Whether the theorem applies: piecewise-linear activations, positive semi-definite 𝓗_L."""
        return self.piecewise_linear and self.output_definite

    @property
    def definite(self) -> bool:
        """Whether every block is positive semi-definite at every data point."""
        return all(layer.negative_points == 0 for layer in self.layers)

    @property
    def trace_definite(self) -> bool:
        """Whether the trace of the Hessian is non-negative at every data point."""
        return self.lowest_trace >= -self.tolerance

    def text(self) -> str:
        """Return the finding in one line."""
        kind = "piecewise-linear" if self.piecewise_linear else "curved"
        several = self.rows > 1
        where = f"at {'all ' * several}{self.rows} data point{'s' * several}"
        if self.definite:
            text = f"block Hessians positive semi-definite {where}"
        else:
            worst = max(layer.negative_points for layer in self.layers)
            text = f"block Hessians indefinite at {worst} of {self.rows} data points"
        lowest = min(layer.lowest for layer in self.layers)
        return (
            f"{text} ({kind} activations): smallest eigenvalue {lowest:.3g}, "
            f"smallest trace {self.lowest_trace:.3g}"
        )


def affordable_rows(snapshot: Snapshot) -> int:
    """Return how many data points cost at most ``FLOPS``.

    A layer of width d below one of width d' costs 2 d'd(d' + d) flops for the recursion and about
    10 d³ for the eigenvalues.
    """
    net = snapshot.net
    recursion = sum(
        2.0 * above * d * (above + d)
        for d, above in zip(net.sizes[1:-1], net.sizes[2:], strict=True)
    )
    per_row = recursion + sum(10.0 * float(d) ** 3 for d in net.sizes[1:])
    return max(1, min(snapshot.tape.rows, int(FLOPS // per_row)))


def signs(snapshot: Snapshot, rows: int | None = None) -> Signs:
    """Find the signs at the first ``rows`` data points; the default is `affordable_rows`."""
    net, ops = snapshot.net, snapshot.net.ops
    wanted = min(snapshot.tape.rows, rows or affordable_rows(snapshot))
    widest = max(net.sizes[1:])
    per_chunk = max(1, snapshot.subject.memory // (6 * widest * widest * net.dtype.itemsize))
    parts: dict[int, list[np.ndarray]] = {l: [] for l in range(1, net.layers + 1)}
    for start in range(0, wanted, per_chunk):
        sample = snapshot.sample().take(slice(start, min(start + per_chunk, wanted)))
        for l, M in pre_activation_matrices(sample, hessian=True):
            values = ops.to_host(ops.eigh_stack(M)[0]).astype(np.float64)
            abar = sample.tape.abar[l - 1]
            norms = ops.to_host((abar * abar).sum(axis=1)).astype(np.float64)
            parts[l].append(values * norms[:, None])
    eigenvalues = {l: np.concatenate(pieces) for l, pieces in parts.items()}
    eps = float(np.finfo(net.dtype).eps)
    layers = [_layer(values, SLACK * values.shape[1] * eps) for values in eigenvalues.values()]
    traces = np.sum([values.sum(axis=1) for values in eigenvalues.values()], axis=0)
    linear = all(f.piecewise_linear for f in net.activations)
    return Signs(
        wanted,
        layers,
        linear,
        layers[-1].negative_points == 0,
        float(traces.min()),
        sum(layer.tolerance for layer in layers),
    )


def _layer(values: np.ndarray, slack: float) -> LayerSigns:
    """Return the signs of a layer with eigenvalues (N, d), ascending in each row."""
    tolerance = slack * float(np.abs(values).max(initial=0.0))
    traces = values.sum(axis=1)
    return LayerSigns(
        float(values.min()),
        float(values.max()),
        float(traces.min()),
        tolerance,
        int((values[:, 0] < -tolerance).sum()),
        int((traces < -tolerance).sum()),
    )
