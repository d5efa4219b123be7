"""Open the data file of a run: HDF5 as it is, and a table as the HDF5 file that it amounts to.

A table is read and encoded as a whole and laid out in memory as ``/x``, ``/y``, ``/w`` and
``/group``, so that all that reads data files reads tables in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from gnopt.data.hdf5 import holds, is_group, open_file
from gnopt.data.hdf5_frames import arrays_beside, find_frames, is_frame, read_frame
from gnopt.data.options import ALL_INPUTS, DataSettings
from gnopt.data.table.encoding import Encoded, Encoding
from gnopt.data.table.form import Table
from gnopt.data.table.reading import is_table, read_table, tidy
from gnopt.data.views import field_at
from gnopt.errors import DataError
from gnopt.formatting import in_bytes

ENCODING = "encoding"  # the attribute of a file that holds the encoding of its columns
_BLOCK = 2**24  # bytes by which a file in memory grows


@dataclass
class OpenedFile:
    """A data file as HDF5, and the settings that name its datasets."""

    handle: h5py.File
    settings: DataSettings
    encoding: Encoding | None = None  # of the columns of the table that it was
    notes: list[str] = field(default_factory=list)  # what was found and decided in the table
    row_names: dict[str, np.ndarray] = field(default_factory=dict)  # columns that name the rows


def open_any(
    settings: DataSettings, encoding: Encoding | None = None, keep: bool = False
) -> OpenedFile:
    """Open the file of the section ``[data]``; DataError if it is neither HDF5 nor a table.

    A table is encoded as ``encoding`` says, or as its own columns suggest; with ``keep`` it stays
    in memory for the next reader of the file. An HDF5 file may hold a table too: the one that
    ``inputs`` names, or its only one. A file that `gnopt dataset import` made of a table knows its
    encoding.
    """
    path = Path(settings.file).expanduser()
    if path.is_file() and not h5py.is_hdf5(path) and is_table(path):
        return of_table(read_table(path, settings.table_form(), keep), settings, encoding)
    handle = open_file(path, settings.follow_links)
    try:
        frame = _frame_of(handle, settings)
        if frame is not None:
            table = tidy(Table(path, read_frame(handle, frame)))
            handle.close()
            if frame == settings.inputs.strip("/"):
                settings = settings.changed(inputs=ALL_INPUTS)
            return of_table(table, settings, encoding)
        own = stored_encoding(handle)
        if own is not None and encoding is not None and own.features != encoding.features:
            raise DataError(
                f"{path}: its table was encoded otherwise than that of the training data; "
                "expected the table itself, or a file imported together with the training data"
            )
    except BaseException:
        handle.close()
        raise
    return OpenedFile(handle, settings, encoding or own)


def _frame_of(handle: h5py.File, settings: DataSettings) -> str | None:
    """Return the path of the table in an HDF5 file that is meant, None where arrays are."""
    named = settings.inputs.strip("/")
    if is_frame(handle, named):
        return named
    if holds(handle, named) or is_group(handle, "train") or field_at(handle, named):
        return None
    frames = find_frames(handle)
    if arrays_beside(handle, frames):
        return None
    if len(frames) > 1:
        raise DataError(
            f"{handle.filename}: holds {len(frames)} tables, {', '.join(frames[:8])}; choose one "
            "by data.inputs"
        )
    return frames[0] if frames else None


def of_table(table: Table, settings: DataSettings, encoding: Encoding | None = None) -> OpenedFile:
    """Return the data file that a table amounts to; `open_any` says what ``encoding`` is for."""
    notes = list(table.notes)
    if encoding is None:
        encoding = Encoding.learn(table, settings.roles())
        notes = list(encoding.notes)
    with_targets = settings.targets != "inputs"
    needed = 8 * len(table.frame) * len(encoding.features)
    if needed > settings.memory_bytes():
        raise DataError(
            f"{table.path}: {len(table.frame):,} rows of {len(encoding.features):,} numbers need "
            f"{in_bytes(needed)}; data.memory allows {in_bytes(settings.memory_bytes())}; expected "
            "a smaller table, or an HDF5 file, which is read in blocks"
        )
    encoded = encoding.encode(table, with_targets)
    notes += [line for line in encoded.notes if line not in notes]
    handle = h5py.File(str(table.path), "w", driver="core", backing_store=False, block_size=_BLOCK)
    write_encoded(handle, encoded, encoding)
    named = settings.changed(
        inputs="x",
        targets="y" if encoded.y is not None else "inputs",
        weights="w" if encoded.weights is not None else "",
        group="group" if encoded.group is not None else "",
    )
    return OpenedFile(handle, named, encoding, notes, _row_names(table, encoding, encoded.rows))


def _row_names(table: Table, encoding: Encoding, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the index of the table, if it has one, and the columns that name the rows."""
    frame = table.frame
    found = {}
    if frame.index.name is not None:
        found[str(frame.index.name)] = frame.index.to_numpy()[rows]
    for name in encoding.names_rows:
        if name in frame.columns:
            found[name] = frame[name].to_numpy()[rows]
    return found


def write_encoded(group: h5py.Group, encoded: Encoded, encoding: Encoding) -> None:
    """Write the arrays of a table to a file or a group of it, and the encoding to the file."""
    arrays = {"x": encoded.x, "w": encoded.weights, "group": encoded.group}
    if encoded.y is not None:
        arrays["y"] = _as_labels(encoded.y)
    for name, values in arrays.items():
        if values is not None:
            group.create_dataset(name, data=values)
    if encoding.classes and encoded.y is not None:
        group["y"].attrs["classes"] = list(encoding.classes)
    if ENCODING not in group.file.attrs:
        write_encoding(group.file, encoding)


def write_encoding(file: h5py.Group, encoding: Encoding) -> None:
    """Write the encoding as the attribute that `stored_encoding` reads.

    It is no dataset, so that a file of groups holds nothing but groups.
    """
    file.attrs[ENCODING] = encoding.to_json()


def stored_encoding(handle: h5py.File) -> Encoding | None:
    """Return the encoding that a file holds, or None; DataError if it is damaged."""
    try:
        text = handle.attrs.get(ENCODING)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(
            f"{handle.filename}: attribute {ENCODING} cannot be read: {error}"
        ) from error
    return Encoding.from_json(text, str(handle.filename)) if isinstance(text, str) else None


def _as_labels(y: np.ndarray) -> np.ndarray:
    """Return whole numbers, one a row, as int64, so that they can be labels."""
    if y.ndim == 1 and y.dtype.kind == "f" and (y == np.rint(y)).all() and np.abs(y).max() < 2**53:
        return y.astype(np.int64)
    return y
