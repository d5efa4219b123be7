"""Store nested dicts and lists of arrays and plain values in HDF5, and read them back unchanged."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from gnopt.errors import DataError

DEPTH = 32  # deeper trees do not occur; a file that claims one is damaged or hostile


def write_tree(group: h5py.Group, name: str, value: Any) -> None:
    """Write ``value`` to ``group[name]``; a dict or list becomes a group, a leaf a dataset.

    Leaves are arrays, bool, int (64 bits), float, str and None. Raises TypeError for anything else,
    because nothing is ever pickled.
    """
    if isinstance(value, dict):
        # Keep the order of the keys: sums over a dict must add up in the same order when resumed.
        child = group.create_group(name, track_order=True)
        child.attrs["kind"] = "dict"
        for key, item in value.items():
            if not isinstance(key, str) or not key or "/" in key or key == ".":
                raise TypeError(f"{child.name}: key {key!r} cannot be stored")
            write_tree(child, key, item)
    elif isinstance(value, (list, tuple)):
        child = group.create_group(name, track_order=True)
        child.attrs["kind"] = "list"
        for index, item in enumerate(value):
            write_tree(child, str(index), item)
    else:
        kind, stored = _encode(value)
        dataset = group.create_dataset(name, data=stored)
        dataset.attrs["kind"] = kind


def _encode(value: Any) -> tuple[str, Any]:
    if value is None:
        return "none", np.zeros(0, dtype=np.uint8)
    if isinstance(value, (bool, np.bool_)):
        return "bool", np.bool_(value)
    if isinstance(value, str):
        return "str", np.frombuffer(value.encode(), dtype=np.uint8)
    if isinstance(value, (int, np.integer)):
        return "int", np.int64(value)
    if isinstance(value, float):
        return "float", np.float64(value)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored in a checkpoint")
    return "array", array


def read_tree(group: h5py.Group, name: str, limit: int, depth: int = 0) -> Any:
    """Read back a tree that `write_tree` wrote to ``group[name]``.

    ``limit`` is the size of the file: an array that claims more bytes is refused before memory is
    allocated for it. Raises DataError with the HDF5 path if the file does not hold such a tree.
    """
    where = f"{group.file.filename}:{group.name.rstrip('/')}/{name}"
    if not isinstance(group.get(name, getlink=True), h5py.HardLink) or depth > DEPTH:
        raise DataError(f"{where}: not part of a gnopt checkpoint")
    item = group[name]
    kind = item.attrs.get("kind")
    if isinstance(item, h5py.Group) and kind == "dict":
        return {key: read_tree(item, key, limit, depth + 1) for key in item}
    if isinstance(item, h5py.Group) and kind == "list":
        return [read_tree(item, str(index), limit, depth + 1) for index in range(len(item))]
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf" or item.shape is None:
        raise DataError(
            f"{where}: found {_describe(item)}, expected an array or number written by gnopt"
        )
    if item.nbytes > limit or item.external:
        raise DataError(f"{where}: claims {item.nbytes} bytes, more than the file holds")
    return _decode(kind, item[()], where)


def _decode(kind: Any, stored: Any, where: str) -> Any:
    try:
        if kind == "none":
            return None
        if kind == "bool":
            return bool(stored)
        if kind == "str":
            return bytes(stored).decode()
        if kind == "int":
            return int(stored)
        if kind == "float":
            return float(stored)
        if kind == "array":
            return np.asarray(stored)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not a {kind}: {error}") from error
    raise DataError(f"{where}: unknown kind {kind!r}")


def _describe(item: Any) -> str:
    if isinstance(item, h5py.Dataset):
        return f"a dataset of type {item.dtype} and shape {item.shape}"
    return f"a {type(item).__name__.lower()}"
