"""The paper's theorem, demonstrated: with piecewise-linear activations every block Hessian is
positive semi-definite.

The block of layer l at one data point is ā āᵀ ⊗ 𝓗_l, so its eigenvalues are ‖ā‖² times those of
𝓗_l, and zeros: the small matrices 𝓗_l suffice. With f'' = 0, 𝓗_l = B weightᵀ 𝓗_{l+1} weight B is
positive semi-definite whenever 𝓗_L is; the trace of the whole Hessian is then non-negative and no
differentiable strict local maximum exists (Botev et al. 2017, section 3). With tanh it is not: f''
brings in eigenvalues of either sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.curvature.exact import pre_activation_matrices
from gnopt.inspection.subject import Look

FLOPS = 6e10  # what is spent unless the rows are given
SLACK = 8.0  # rounding allowed below zero: SLACK · d · eps · (largest eigenvalue of that layer)


@dataclass(frozen=True)
class LayerSigns:
    """One layer's block Hessian over the data points: extreme eigenvalues and traces, and points
    below tolerance.
    """

    lowest: float
    highest: float
    lowest_trace: float
    tolerance: float
    negative_points: int
    negative_traces: int


@dataclass(frozen=True)
class Signs:
    """Every layer over the first ``rows`` data points; ``premise`` is whether the theorem applies
    to this network.
    """

    rows: int
    layers: list[LayerSigns]
    piecewise_linear: bool
    output_definite: bool
    lowest_trace: float  # of the whole Hessian over data points
    tolerance: float

    @property
    def premise(self) -> bool:
        """Piecewise-linear activations and a positive semi-definite 𝓗_L."""
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
        """The finding in one line."""
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


def affordable_rows(look: Look) -> int:
    """Data points whose recursion and eigenvalues stay within ``FLOPS``: 2 d'd(d' + d) and about 10
    d³ a layer.
    """
    net = look.net
    recursion = sum(
        2.0 * above * d * (above + d)
        for d, above in zip(net.sizes[1:-1], net.sizes[2:], strict=True)
    )
    per_row = recursion + sum(10.0 * float(d) ** 3 for d in net.sizes[1:])
    return max(1, min(look.tape.rows, int(FLOPS // per_row)))


def signs(look: Look, rows: int | None = None) -> Signs:
    """Eigenvalues of 𝓗_l at the first ``rows`` data points (default: as many as are cheap)."""
    net, ops = look.net, look.net.ops
    wanted = min(look.tape.rows, rows or affordable_rows(look))
    widest = max(net.sizes[1:])
    per_chunk = max(1, look.subject.memory // (6 * widest * widest * net.dtype.itemsize))
    parts: dict[int, list[np.ndarray]] = {l: [] for l in range(1, net.layers + 1)}
    for start in range(0, wanted, per_chunk):
        sample = look.sample().take(slice(start, min(start + per_chunk, wanted)))
        for l, M in pre_activation_matrices(sample, hessian=True):
            values = ops.to_host(ops.eigh_stack(M)[0]).astype(np.float64)
            abar = sample.tape.abar[l - 1]
            norms = ops.to_host((abar * abar).sum(axis=1)).astype(np.float64)
            parts[l].append(values * norms[:, None])
    found = {l: np.concatenate(pieces) for l, pieces in parts.items()}
    eps = float(np.finfo(net.dtype).eps)
    layers = [_layer(values, SLACK * values.shape[1] * eps) for values in found.values()]
    traces = np.sum([values.sum(axis=1) for values in found.values()], axis=0)
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
    """``values`` (N, d), ascending in each row."""
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
