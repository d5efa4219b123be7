"""Describe what a data file holds and how training would use it, for ``gnopt dataset info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt.data.classes import IF_LABELS, find_classes
from gnopt.data.filters import compression
from gnopt.data.hdf5 import (
    Column,
    class_names,
    column,
    datasets,
    holds,
    is_text,
    open_file,
    stored_at,
)
from gnopt.data.hdf5_frames import arrays_beside, find_frames, read_frame
from gnopt.data.options import DataSettings
from gnopt.data.places import Places
from gnopt.data.source import find_splits, target_shape
from gnopt.data.views import View, type_name
from gnopt.errors import DataError

SHOWN = 12  # columns of a table that are listed
_PIECE, _PIECES = 2**22, 16  # bytes of one piece, and how many are looked at in a large dataset


def describe_file(path: Path) -> dict[str, Any]:
    """Return file, size, source, datasets, splits and problems as plain values, for JSON.

    ``splits`` is what `gnopt train` would use with default settings, with y as targets if there is
    a y. Range and mean of a dataset above 64 MiB are of evenly spaced pieces ("sampled"). A dataset
    that cannot be trained on is listed with its problem. Raises DataError if the file cannot be
    opened.
    """
    with open_file(path) as handle:
        source = handle.attrs.get("source")
        tables = find_frames(handle)
        inside = tuple(f"{name}/" for name in tables)
        entries = [_table(handle, name) for name in tables] + [
            _dataset(handle, name, dataset)
            for name, dataset in datasets(handle)
            if name not in tables and not name.startswith(inside) and "/_i_" not in f"/{name}"
        ]
        targets = "y" if _has_y(handle) else "inputs"
        only_tables = bool(tables) and not arrays_beside(handle, tables)
        splits, problem = ({}, None) if only_tables else _splits(handle, targets)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "source": None if source is None else str(source),
        "datasets": entries,
        "targets": targets,
        "splits": splits,
        "problem": problem,
    }


def _has_y(handle: h5py.File) -> bool:
    """Return whether training rows have targets y, or targets by names such as y_train."""
    settings = DataSettings(file=handle.filename, targets="y")
    places = Places.find(handle, settings)
    return bool(places.pairs) or holds(handle, str(places.of(places.training)[1]))


def _table(handle: h5py.File, path: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": path, "shape": [], "dtype": "table"}
    try:
        frame = read_frame(handle, path)
    except DataError as error:
        return entry | {"problem": str(error)}
    names = ", ".join(map(str, frame.columns[:SHOWN]))
    more = f" and {len(frame.columns) - SHOWN} more" if len(frame.columns) > SHOWN else ""
    return entry | {
        "shape": list(frame.shape),
        "note": f"a table with columns {names}{more}; read as tables in other files are",
    }


def _words(handle: h5py.File, path: str) -> str:
    """Return a line on the classes of a dataset of words; DataError if it holds none."""
    words = column(handle, path, np.inf, words=True)
    classes = find_classes([words], IF_LABELS)
    if classes is None:
        raise DataError(f"{words.file}: {words.path} has words in {words.width} columns")
    return f"words, labels of a loss of classes: {classes.listed()}"


def _dataset(handle: h5py.File, name: str, dataset: h5py.Dataset) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": name,
        "shape": list(dataset.shape or ()),
        "dtype": type_name(dataset),
        "chunks": list(dataset.chunks) if dataset.chunks else None,
        "compression": compression(dataset) or None,
    }
    try:
        if is_text(stored_at(handle, name)):
            return entry | {"dtype": "words", "note": _words(handle, name)}
        rows = column(handle, name, float(np.finfo(np.float64).max))
    except DataError as error:
        return entry | {"problem": str(error)}
    entry["scale"] = rows.scale
    view = rows.dataset
    if isinstance(view, View):
        entry["note"] = f"{view.how}; read as {'x'.join(map(str, view.shape))}"
    if "classes" in dataset.attrs:
        entry["classes"] = list(class_names(dataset))
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    pieces, sampled = _pieces(rows)
    for start, stop in pieces:
        try:
            block = rows.read(start, stop)
        except DataError as error:
            return entry | {"problem": str(error)}
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        total, count = total + float(block.sum(dtype=np.float64)), count + block.size
    ends = sorted((low * rows.scale, high * rows.scale))
    return entry | {
        "min": ends[0],
        "max": ends[1],
        "mean": total / count * rows.scale,
        "sampled": sampled,
    }


def _pieces(rows: Column) -> tuple[list[tuple[int, int]], bool]:
    """Return (start, stop) of the pieces to read, and whether they leave rows out."""
    step = max(1, _PIECE // rows.row_bytes)
    starts = list(range(0, rows.rows, step))
    sampled = len(starts) > _PIECES
    if sampled:
        starts = [starts[k * (len(starts) - 1) // (_PIECES - 1)] for k in range(_PIECES)]
    return [(start, min(start + step, rows.rows)) for start in starts], sampled


def _splits(handle: h5py.File, targets: str) -> tuple[dict[str, Any], str | None]:
    settings = DataSettings(file=handle.filename, targets=targets)
    try:
        found, _ = find_splits(handle, settings, float(np.finfo(np.float64).max), IF_LABELS)
    except DataError as error:
        return {}, str(error)
    return {
        name: {"rows": c.x.rows, "inputs": c.x.width, "target_shape": list(target_shape(c))}
        for name, c in found.items()
    }, None
