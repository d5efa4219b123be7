"""Describe what a data file holds and how training would use it, for ``gnopt dataset info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt.data.classes import IF_LABELS
from gnopt.data.filters import compression
from gnopt.data.hdf5 import Column, class_names, column, datasets, is_group, open_file
from gnopt.data.options import DataSettings
from gnopt.data.source import find_splits, target_shape
from gnopt.data.views import View, type_name
from gnopt.errors import DataError

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
        entries = [_dataset(handle, name, dataset) for name, dataset in datasets(handle)]
        with_targets = "y" in handle or (is_group(handle, "train") and "y" in handle["train"])
        targets = "y" if with_targets else "inputs"
        splits, problem = _splits(handle, targets)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "source": None if source is None else str(source),
        "datasets": entries,
        "targets": targets,
        "splits": splits,
        "problem": problem,
    }


def _dataset(handle: h5py.File, name: str, dataset: h5py.Dataset) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": name,
        "shape": list(dataset.shape or ()),
        "dtype": type_name(dataset),
        "chunks": list(dataset.chunks) if dataset.chunks else None,
        "compression": compression(dataset) or None,
    }
    try:
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
