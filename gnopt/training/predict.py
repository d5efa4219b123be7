"""Apply a network to the rows of a data file and write its outputs, or a layer's activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, forward
from gnopt.errors import ConfigError
from gnopt.files import write_hdf5
from gnopt.training.evaluate import CHUNK
from gnopt.training.load import TrainedNetwork

Compute = Callable[[Array], np.ndarray]


def choose_layer(net: Network, name: str) -> int:
    """Return the number of the layer that ``name`` means, as `activations` takes it.

    ``name`` is a number from 1 to L, ``code`` for the narrowest hidden layer, ``logits`` for h_L
    (number L) or ``output`` for the prediction of the loss (number 0). Raises ConfigError for any
    other name.
    """
    if name == "output":
        return 0
    if name == "logits":
        return net.layers
    if name == "code" and net.layers > 1:
        hidden = net.sizes[1:-1]
        return 1 + hidden.index(min(hidden))
    if name.isdecimal() and 1 <= int(name) <= net.layers:
        return int(name)
    raise ConfigError(
        f"--layer {name!r}: expected output, logits, {'code, ' if net.layers > 1 else ''}"
        f"or a layer from 1 to {net.layers}"
    )


def activations(trained: TrainedNetwork, layer: int) -> Compute:
    """Return the function x (N, D) → activations (N, d) of ``layer``, on the host.

    `choose_layer` explains the number ``layer``.
    """
    net, loss = trained.net, trained.loss
    views = net.views(trained.theta)

    def compute(x: Array) -> np.ndarray:
        tape = forward(net, views, net.ops.asarray(x))
        if layer == 0:
            return net.ops.to_host(loss.prediction(net.ops, tape.output))
        return net.ops.to_host(tape.output if layer == net.layers else tape.abar[layer][:, :-1])

    return compute


def predict(trained: TrainedNetwork, data: Path, out: Path, layer: str) -> dict[str, list[int]]:
    """Write the activations of every row of ``data`` to the HDF5 file ``out``, a chunk at a time.

    They become ``/x``, or ``/<group>/x`` for each group of ``data``. Labels ``y`` beside the inputs
    are copied, so that the result can be trained on. The file appears once it is complete. Returns
    {HDF5 path: shape}.
    """
    number = choose_layer(trained.net, layer)
    if out.exists() and data.exists() and out.samefile(data):
        raise ConfigError(f"{out}: is the data itself; expected another file to write to")
    compute = activations(trained, number)
    written: dict[str, list[int]] = {}
    with h5py.File(data, "r") if data.is_file() else contextlib.nullcontext({}) as file:
        validation = "validation" if "validation" in file else 0
    settings = trained.config.data.of_file(data).changed(
        targets="inputs", weights="", validation=validation
    )
    with trained.open_data(settings) as source:
        splits = [split for split in (source.train, source.validation, source.test) if split]

        def fill(file: h5py.File) -> None:
            file.attrs.update(
                layer=layer, checkpoint=str(trained.path), step=trained.stored.step, data=str(data)
            )
            for split in splits:
                path = "/x" if len(splits) == 1 else f"/{split.name}/x"
                written[path] = _write(file, path, split, compute)
            _copy_labels(data, file)

        write_hdf5(out, fill)
    return written


def _write(file: h5py.File, path: str, split: Split, compute: Compute) -> list[int]:
    dataset = None
    at = 0
    for x, _ in split.chunks(CHUNK):
        rows = compute(x)
        if dataset is None:
            shape = (split.rows, rows.shape[1])
            chunk = (min(CHUNK, split.rows), rows.shape[1])
            dataset = file.create_dataset(path, shape, rows.dtype, chunks=chunk)
        dataset[at : at + len(rows)] = rows
        at += len(rows)
    assert dataset is not None
    return list(dataset.shape)


def _copy_labels(data: Path, file: h5py.File) -> None:
    with h5py.File(data, "r") as source:
        for group in ("", "train/", "validation/", "test/"):
            x, y = file.get(f"{group}x"), source.get(f"{group}y")
            if (
                isinstance(x, h5py.Dataset)
                and isinstance(y, h5py.Dataset)
                and y.shape == x.shape[:1]
            ):
                file.create_dataset(f"{group}y", data=y[()])
