"""Apply a network to the rows of a data file and write its outputs, or a layer's activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from gnopt.data.places import ALL
from gnopt.data.source import Data
from gnopt.data.split import Split
from gnopt.data.table.form import Writer
from gnopt.data.table.formats import all_formats, format_of_suffix
from gnopt.errors import ConfigError, DataError, nearest
from gnopt.files import as_text, is_stream, replacement, write_hdf5
from gnopt.training.load import Trained

if TYPE_CHECKING:
    import pandas as pd

OUTPUT = "output"
_CHUNK = 2**20  # numbers of a chunk of a dataset
_HDF5 = (".h5", ".hdf5", ".he5")


@dataclass(frozen=True)
class Predicted:
    """What was written: {dataset or column: shape}, and what was found in the data."""

    shapes: dict[str, list[int]]
    notes: list[str] = field(default_factory=list)


def table_writer(out: Path) -> Writer | None:
    """Return what writes a table to a file of this name; None for HDF5, and for a device or a pipe
    whose name has no suffix.

    Raises ConfigError for a suffix that stands for neither.
    """
    if out.suffix.lower() in _HDF5 or (not out.suffix and is_stream(out)):
        return None
    found = format_of_suffix(out)
    writer = found.writer if found else None
    if writer is None:
        known = [s for f in all_formats().values() if f.writer for s in f.suffixes[:1]]
        suffixes = [".h5", *known]
        raise ConfigError(
            f"{out}: what the suffix {out.suffix!r} stands for is not known; expected "
            f"{', '.join(suffixes)}, or - for CSV on stdout{nearest(out.suffix, suffixes)}"
        )
    return writer


def predict(
    trained: Trained,
    data: Path,
    out: Path,
    layer: str,
    writer: Writer | None,
    jacobian: bool = False,
) -> Predicted:
    """Write the activations of every row of ``data`` to ``out``, which appears once it is complete.

    With ``writer`` it is a table (see `prediction_table`). Else it is an HDF5 file, written a chunk
    at a time, with ``/x``, or ``/<group>/x`` for each group of ``data``; an ensemble adds their
    deviation, ``std``, beside each ``x``. Labels ``y`` beside the inputs are copied, so that the
    result can be trained on.

    With ``jacobian``, derivatives by the inputs stand beside what is written: `ByInputs`.
    """
    settings = trained.config.data.of_file(data).changed(targets="inputs", weights="", group="")
    with trained.open_data(settings) as source:
        by_inputs = ByInputs(trained, source, layer) if jacobian else None
        if writer is not None:
            frame = prediction_table(trained, source, layer, by_inputs)
            with replacement(out) as temporary, temporary.open("wb") as file:
                writer(frame, file, out.name)
            return Predicted({str(name): [len(frame)] for name in frame.columns}, source.notes)
        shapes = _write_hdf5(trained, source, data, out, layer, by_inputs)
        return Predicted(shapes, source.notes)


# ---- derivatives ---------------------------------------------------------------------------------


class ByInputs:
    """The derivatives of a layer by the inputs as the user gave them.

    Of a table these are the cells with numbers and dates, of HDF5 the numbers of the dataset times
    its ``scale``. Raises ConfigError for a hidden layer, and DataError for a table of words alone.
    """

    def __init__(self, trained: Trained, source: Data, layer: str) -> None:
        self._trained, self._layer = trained, layer
        self._encoding = source.encoding
        self._of = trained.jacobian(layer)
        if self._encoding is not None and not self._encoding.continuous:
            raise DataError(
                "--jacobian: the network takes no column of numbers or dates, by which its "
                "predictions could be differentiated"
            )

    @property
    def input_names(self) -> list[str] | None:
        """The names of the inputs, or None where the data have no names."""
        return None if self._encoding is None else self._encoding.continuous

    def on(self, split: Split) -> Iterator[np.ndarray]:
        """Yield the derivatives for the rows of ``split`` in file order: (n, K, D) for n rows."""
        if self._encoding is None:
            yield from self._of(split)
            return
        encoded, start = split.standardized(None), 0
        for jacobian in self._of(split):
            stop = start + len(jacobian)
            x, _ = encoded.rows_at(start, stop)
            yield self._encoding.by_cells(jacobian, x).astype(jacobian.dtype)
            start = stop

    def columns(self, split: Split) -> dict[str, np.ndarray]:
        """Return the derivatives as the columns of a table, (N,) each, by name."""
        jacobian = np.concatenate(list(self.on(split)))
        outputs, inputs = jacobian.shape[1:]
        if self._layer == OUTPUT:
            kind = self._trained.loss.predicts(self._trained.outputs)
            predicted = kind.names_of(self._trained.output_names, outputs)
        else:
            predicted = [_unit("x", k) for k in range(outputs)]
        names = self.input_names or [str(number) for number in range(inputs)]
        return {
            f"d {one} / d {name}": jacobian[:, k, i]
            for k, one in enumerate(predicted)
            for i, name in enumerate(names)
        }


# ---- tables --------------------------------------------------------------------------------------


def prediction_table(
    trained: Trained, source: Data, layer: str = OUTPUT, by_inputs: ByInputs | None = None
) -> pd.DataFrame:
    """Return predictions as a table with a row for each row of the data.

    The first columns name the rows: those that name them in the data, or ``row``, counted from 0,
    and ``group`` where the data have groups. For classes follow ``prediction``, by name, and the
    ``probability`` of each; for numbers ``prediction`` and, where it is known, ``std``. Of another
    layer, a column holds the activations of each unit. The derivatives ``by_inputs`` come last.
    """
    import pandas as pd

    parts = []
    rows_of = None if layer == OUTPUT else trained.layer(layer)
    for split in source.splits.values():
        blocks: list[Mapping[str, np.ndarray]] = []
        if rows_of is None:
            blocks += [
                answer.predicted().columns(trained.output_names)
                for answer in trained.answers(split)
            ]
        else:
            blocks += [_units(values) for values in rows_of(split)]
        columns = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
        if by_inputs is not None:
            columns |= by_inputs.columns(split)
        found: dict[str, object] = {} if split.name == ALL else {"group": split.name}
        if source.row_names and len(source.splits) == 1:
            found |= source.row_names
        else:
            found["row"] = np.arange(split.rows)
        clash = {name: f"{name} (of the data)" for name in found if name in columns}
        named = {clash.get(name, name): values for name, values in found.items()}
        parts.append(pd.DataFrame({**named, **columns}))
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _units(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        _unit(name, k): array[:, k] for name, array in values.items() for k in range(array.shape[1])
    }


def _unit(name: str, number: int) -> str:
    return f"{name} {number}"


# ---- HDF5 ----------------------------------------------------------------------------------------


def _write_hdf5(
    trained: Trained,
    source: Data,
    data: Path,
    out: Path,
    layer: str,
    by_inputs: ByInputs | None,
) -> dict[str, list[int]]:
    rows_of = trained.layer(layer)
    written: dict[str, list[int]] = {}

    def fill(file: h5py.File) -> None:
        file.attrs.update(layer=layer, data=as_text(data), **_texts(trained.origin()))
        for split in source.splits.values():
            group = "/" if split.name == ALL else f"/{split.name}/"
            written.update(_write(file, group, split.rows, rows_of(split)))
            names = list(trained.output_names)
            if layer == OUTPUT and len(names) == file[f"{group}x"].shape[1]:
                file[f"{group}x"].attrs["columns"] = np.array(names, dtype=h5py.string_dtype())
            if by_inputs is not None:
                blocks = ({"jacobian": block} for block in by_inputs.on(split))
                written.update(_write(file, group, split.rows, blocks))
        inputs = None if by_inputs is None else by_inputs.input_names
        if inputs is not None:
            file.create_dataset("input_names", data=inputs, dtype=h5py.string_dtype())
        for name, values in source.row_names.items():
            kind = h5py.string_dtype() if values.dtype.kind not in "biuf" else values.dtype
            file.create_dataset(f"names/{name}".replace("//", "/"), data=values.astype(kind))
        if h5py.is_hdf5(data):
            _copy_labels(data, file)

    write_hdf5(out, fill)
    return written


def _texts(facts: Mapping[str, object]) -> dict[str, object]:
    """Return facts as attributes of HDF5, which holds text in UTF-8 alone."""
    return {k: as_text(v) if isinstance(v, str) else v for k, v in facts.items()}


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
                shapes[path] = [rows, *values.shape[1:]]
                fitting = max(1, _CHUNK // prod(values.shape[1:]))
                chunk = (min(len(values), fitting), *values.shape[1:])
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
