"""Apply a network to the rows of a data file and write its outputs, or a layer's activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from gnopt.data.places import ALL
from gnopt.files import write_hdf5
from gnopt.training.evaluate import CHUNK
from gnopt.training.load import Trained


def predict(trained: Trained, data: Path, out: Path, layer: str) -> dict[str, list[int]]:
    """Write the activations of every row of ``data`` to the HDF5 file ``out``, a chunk at a time.

    They become ``/x``, or ``/<group>/x`` for each group of ``data``; an ensemble adds their
    deviation, ``std``, beside each ``x``. Labels ``y`` beside the inputs
    are copied, so that the result can be trained on. The file appears once it is complete. Returns
    {HDF5 path: shape}.
    """
    rows_of = trained.layer(layer)
    written: dict[str, list[int]] = {}
    settings = trained.config.data.of_file(data).changed(targets="inputs", weights="")
    with trained.open_data(settings) as source:

        def fill(file: h5py.File) -> None:
            file.attrs.update(layer=layer, data=str(data), **trained.origin())
            for split in source.splits.values():
                group = "/" if split.name == ALL else f"/{split.name}/"
                written.update(_write(file, group, split.rows, rows_of(split)))
            _copy_labels(data, file)

        write_hdf5(out, fill)
    return written


def _write(
    file: h5py.File, group: str, rows: int, blocks: Iterator[Mapping[str, np.ndarray]]
) -> dict[str, list[int]]:
    """Write datasets by name, given as blocks of rows; return {HDF5 path: shape}."""
    shapes: dict[str, list[int]] = {}
    at = 0
    for block in blocks:
        for name, values in block.items():
            path = group + name
            if path not in shapes:
                shapes[path] = [rows, values.shape[1]]
                chunk = (min(CHUNK, rows), values.shape[1])
                file.create_dataset(path, shapes[path], values.dtype, chunks=chunk)
            file[path][at : at + len(values)] = values
        at += len(values)
    return shapes


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
