"""``--export``: write the matrices of a sample to HDF5, so that other programs can compare.

::

    /x, /y                        the rows used, inputs and converted targets
    /w                            their weights, in units of the mean, if rows are weighted
    /layers/l/weight, bias        (o, i), (o,)
    /layers/l/gradient            (o, i + 1), of the mean loss
    /layers/l/A                   (i + 1, i + 1), mean of ā āᵀ, unit term last
    /layers/l/G/<method>          (o, o), pre-activation matrix; ``exact`` with ``gauss_newton``
    /layers/l/hessian, gauss_newton   (o (i + 1))², exact mean blocks, vec = columns stacked

Nothing here contains weight decay. The root attributes are loss, activations, sizes, step, rows,
dtype, seed, weight_decay and objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from gnopt import __version__
from gnopt.engine.arrays import Array
from gnopt.files import write_hdf5
from gnopt.inspection.dense import loss_gradient
from gnopt.inspection.factors import Factors
from gnopt.inspection.subject import Snapshot

FORMAT = "gnopt-curvature"


def export_matrices(
    path: Path,
    snapshot: Snapshot,
    factors: Factors,
    blocks: dict[str, dict[int, Array]],
    layers: Sequence[int],
) -> None:
    """Write the file atomically; ``blocks`` is {kind: {layer: dense block}}."""
    net, ops, subject = snapshot.net, snapshot.net.ops, snapshot.subject
    objective, flat = loss_gradient(snapshot)
    gradients = net.views(flat)

    def fill(file: h5py.File) -> None:
        file.attrs.update(
            format=FORMAT,
            schema=1,
            gnopt=__version__,
            loss=subject.config.network.loss,
            activations=[f.name for f in net.activations],
            sizes=list(net.sizes),
            step=snapshot.weights.step,
            rows=snapshot.tape.rows,
            dtype=str(net.dtype),
            seed=subject.seed,
            objective=objective,
            weight_decay=snapshot.weights.eta,
        )
        file["x"] = ops.to_host(subject.x)
        file["y"] = ops.to_host(subject.loss.unweighted(subject.y)[1])
        weight = subject.loss.weight(subject.y)
        if weight is not None:
            file["w"] = ops.to_host(weight)
        for l in layers:
            group = file.create_group(f"layers/{l}")
            weights = ops.to_host(snapshot.W[l - 1])
            group["weight"], group["bias"] = weights[:, :-1], weights[:, -1]
            group["gradient"] = ops.to_host(gradients[l - 1])
            group["A"] = ops.to_host(factors.A[l - 1].factor.dense(ops))
            for name, method in factors.methods.items():
                if method.G is not None:
                    dataset = group.create_dataset(
                        f"G/{name}", data=ops.to_host(method.G[l - 1].dense(ops))
                    )
                    samples = method.curvature.settings.values().get("samples")
                    if samples is not None:
                        dataset.attrs["samples"] = samples
            for kind, of_layer in blocks.items():
                group[kind] = ops.to_host(of_layer[l])

    path.parent.mkdir(parents=True, exist_ok=True)
    write_hdf5(path, fill)
