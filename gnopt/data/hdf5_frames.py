"""Tables in HDF5 files: records (compound datasets, PyTables) and the frames that pandas writes.

`find_frames` lists them, `is_frame` recognises one, and `read_frame` returns it as a pandas frame,
with index columns kept apart as its index. h5py alone reads the file: it takes no PyTables, and
nothing is unpickled (see `plain_pickle`).

pandas writes a group with the attribute ``pandas_type``. "frame" and "series" (``format="fixed"``)
hold the columns in blocks of one type each:

    axis0                   names of the columns
    axis1                   the index, or axis1_level0, axis1_label0, ... of several columns
    block0_items            names of the columns of a block
    block0_values           (rows, columns of the block); words are a pickled array of objects

"frame_table" and "series_table" (``format="table"``) hold one dataset ``table`` of records. Its
field ``index`` is the index, a field ``values_block_0`` holds several columns of one type, and
attributes give types and names. Words of a categorical column stand below ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from gnopt.data.hdf5 import datasets
from gnopt.data.plain_pickle import NotPlain, object_array, plain_values
from gnopt.data.rows import as_text
from gnopt.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_FIXED, _TABLES = ("frame", "series"), ("frame_table", "series_table")
_TIMES = ("datetime64", "timedelta64")
_MISSING = "nan"  # how pandas writes a missing word, unless an attribute says otherwise
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError)


def find_frames(handle: h5py.File) -> list[str]:
    """Return the paths of all tables, in the order of the file."""
    found: list[str] = []
    inside: list[str] = []  # groups that are a table, or belong to one
    names: list[str] = []
    handle.visit(names.append)
    for name in names:
        if any(name.startswith(f"{group}/") for group in inside):
            continue
        last = name.rsplit("/", 1)[-1]
        if _pandas_type(handle, name) is not None:
            inside.append(name)
            found.append(name)
        elif last.startswith(("_i_", "#refs#", "#subsystem#")):
            inside.append(name)
        elif _is_records(handle, name):
            found.append(name)
    return found


def arrays_beside(handle: h5py.File, frames: Sequence[str]) -> bool:
    """Return whether the file has datasets of several numbers that are no part of its tables."""
    inside = tuple(f"{name}/" for name in frames)
    return any(
        node.size is not None and node.size > 1
        for name, node in datasets(handle)
        if name not in frames and not name.startswith(inside) and "/_i_" not in f"/{name}"
    )


def is_frame(handle: h5py.File, path: str) -> bool:
    """Return whether there is a table at ``path``: records, or a frame or series of pandas."""
    return _pandas_type(handle, path) is not None or _is_records(handle, path)


def read_frame(handle: h5py.File, path: str) -> pd.DataFrame:
    """Return the table at ``path`` with columns called by text, and its index if it has one.

    Words are text, dates are dates, and missing cells are missing. A field of several numbers
    becomes columns name_0, name_1, ..., and a field that is itself a record becomes columns
    name.part. Raises DataError if the table cannot be read.
    """
    where = f"{handle.filename}: /{path.strip('/')}"
    kind = _pandas_type(handle, path)
    try:
        if kind in _FIXED:
            return _fixed(handle[path], kind == "series")
        if kind in _TABLES:
            return _table(handle[path])
        return _records(handle[path])
    except NotPlain as error:
        raise DataError(
            f"{where}: holds objects that pandas pickled, which gnopt never loads ({error}); "
            'expected numbers and words, or a frame written with format="table"'
        ) from error
    except _FAILURES as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: this table cannot be read: {reason}") from error


def _pandas_type(handle: h5py.File, path: str) -> str | None:
    try:
        node = handle.get(path)
        kind = as_text(node.attrs.get("pandas_type", b"")) if isinstance(node, h5py.Group) else ""
    except _FAILURES:
        return None
    return kind if kind in (*_FIXED, *_TABLES) else None


def _is_records(handle: h5py.File, path: str) -> bool:
    try:
        node = handle.get(path)
        return (
            isinstance(node, h5py.Dataset)
            and len(node.shape or ()) == 1
            and node.dtype.names is not None
        )
    except _FAILURES:
        return False


# ---- records


def _records(dataset: h5py.Dataset) -> pd.DataFrame:
    import pandas as pd

    rows = dataset[()]
    logical = dataset.id.get_type()
    return pd.DataFrame(dict(_columns(rows, logical)))


def frame_of_records(rows: np.ndarray) -> pd.DataFrame:
    """Return a structured array, (rows,), as a frame; `read_frame` says what becomes of fields."""
    import pandas as pd

    return pd.DataFrame(dict(_columns(rows, None)))


def _columns(
    rows: np.ndarray, logical: h5py.h5t.TypeCompoundID | None
) -> Iterator[tuple[str, Any]]:
    """Yield (name, values) for every number, word and date of the records.

    ``logical`` is their type in an HDF5 file, or None.
    """
    assert rows.dtype.names is not None
    for place, name in enumerate(rows.dtype.names):
        field = rows[name]
        kind = None if logical is None else logical.get_member_type(place)
        if field.dtype.names is not None:
            for inner, values in _columns(field, kind):
                yield f"{name}.{inner}", values
            continue
        if field.ndim == 1:
            yield name, _values(field, kind)
            continue
        flat = field.reshape(len(field), -1)
        for k in range(flat.shape[1]):
            yield (f"{name}_{k}" if flat.shape[1] > 1 else name), _values(flat[:, k], kind)


def _values(field: np.ndarray, kind: h5py.h5t.TypeID | None) -> Any:
    """Return a field as pandas should hold it, by its type in an HDF5 file."""
    import pandas as pd

    if kind is not None and kind.get_class() == h5py.h5t.ARRAY:
        kind = kind.get_super()
    bits = kind is not None and kind.get_class() == h5py.h5t.BITFIELD
    if bits and field.dtype.itemsize == 1:  # how PyTables writes bool
        return field.astype(bool)
    members = h5py.check_enum_dtype(field.dtype)
    if members:
        names = {number: name for name, number in members.items()}
        return pd.Categorical([names.get(int(value)) for value in field], list(members))
    if field.dtype.kind in "SOU":
        return _words(field)
    return field.astype(field.dtype.newbyteorder("="))


def _words(field: np.ndarray, missing: str | None = None) -> list[str | None]:
    texts = (None if value is None else as_text(value) for value in field.tolist())
    return [None if text == missing else text for text in texts]


# ---- pandas: format="table"


def _table(group: h5py.Group) -> pd.DataFrame:
    import pandas as pd

    table = group["table"]
    rows, attributes = table[()], table.attrs
    columns: dict[str, Any] = {}
    index: dict[str, Any] = {}
    for name in rows.dtype.names:
        field = rows[name]
        if name == "index":
            kind = as_text(attributes.get("index_kind", b""))
            index[_index_name(group)] = _typed(field, kind)
            continue
        kind = as_text(attributes.get(f"{name}_dtype", b""))
        missing = as_text(attributes.get(f"{name}_nan_rep", _MISSING))
        names = _names(attributes.get(f"{name}_kind"), [name])
        meta = as_text(attributes.get(f"{name}_meta", b""))
        flat = field.reshape(len(field), -1)
        for k, own in enumerate(names):
            values = flat[:, k] if flat.shape[1] == len(names) else field
            columns[own] = (
                _categories(group, name, values, missing)
                if meta == "category"
                else _typed(values, kind, missing)
            )
    levels = _names(group.attrs.get("levels"), [])
    if levels:
        index = {level: columns.pop(level) for level in levels if level in columns}
    order = _order(group, list(columns))
    frame = pd.DataFrame({name: columns[name] for name in order})
    return _indexed(frame, index)


def _order(group: h5py.Group, names: list[str]) -> list[str]:
    """Return the columns in the order of the frame, which the attribute non_index_axes lists."""
    axes = _plain(group.attrs.get("non_index_axes"))
    listed = (
        [str(name) for name in axes[0][1]]
        if isinstance(axes, list) and axes and len(axes[0]) == 2
        else []
    )
    return [n for n in listed if n in names] + [n for n in names if n not in listed]


def _index_name(group: h5py.Group) -> str:
    info = _plain(group.attrs.get("info"))
    own = info.get("index", {}) if isinstance(info, Mapping) else {}
    name = own.get("index_name") if isinstance(own, Mapping) else None
    return "" if name is None else str(name)


def _categories(group: h5py.Group, name: str, codes: np.ndarray, missing: str) -> pd.Categorical:
    import pandas as pd

    values = group[f"meta/{name}/meta/table"]["values"]
    words = _words(values, missing) if values.dtype.kind in "SO" else values.tolist()
    return pd.Categorical.from_codes(codes.astype(np.int64), words)


# ---- pandas: format="fixed"


def _fixed(group: h5py.Group, series: bool) -> pd.DataFrame:
    import pandas as pd

    if series:
        name = _plain(group.attrs.get("name"))
        column = str(name) if isinstance(name, str | int) else "values"
        frame = pd.DataFrame({column: _block(group["values"])})
        return _indexed(frame, _fixed_index(group, "index"))
    columns: dict[str, Any] = {}
    for k in range(int(group.attrs["nblocks"])):
        block = _block(group[f"block{k}_values"])
        names = _axis_names(group, f"block{k}_items")
        for place, name in enumerate(names):
            columns[name] = block[:, place] if block.ndim == 2 else block
    order = _axis_names(group, "axis0")
    frame = pd.DataFrame({name: columns[name] for name in order if name in columns})
    return _indexed(frame, _fixed_index(group, "axis1"))


def _block(dataset: h5py.Dataset) -> np.ndarray:
    """Return the values of a block, (rows, columns), or of a series, (rows,)."""
    kind = as_text(dataset.attrs.get("value_type", b""))
    if as_text(dataset.attrs.get("PSEUDOATOM", b"")) == "object":
        values = object_array(np.asarray(dataset[0], dtype=np.uint8).tobytes())
        missing = [isinstance(value, float) and np.isnan(value) for value in values.ravel()]
        values[np.array(missing, dtype=bool).reshape(values.shape)] = None
        return values if values.ndim == 1 or dataset.attrs.get("transposed", 0) else values.T
    values = dataset[()]
    if "shape" in dataset.attrs:  # pandas writes an empty block as one number
        values = np.zeros(tuple(dataset.attrs["shape"]), values.dtype)
    if not dataset.attrs.get("transposed", 0):
        values = values.T
    stored = dataset.id.get_type()
    if stored.get_class() == h5py.h5t.BITFIELD:
        values = values.astype(bool)
    return np.asarray(_typed(values, kind))


def _fixed_index(group: h5py.Group, axis: str) -> dict[str, Any]:
    """Return the columns of the index, by name."""
    if as_text(group.attrs.get(f"{axis}_variety", b"")) != "multi":
        return {_axis_name(group[axis]): _axis(group[axis])}
    columns: dict[str, Any] = {}
    for k in range(int(group.attrs[f"{axis}_nlevels"])):
        level = np.asarray(_axis(group[f"{axis}_level{k}"]), dtype=object)
        codes = group[f"{axis}_label{k}"][()]
        name = _axis_name(group[f"{axis}_level{k}"]) or f"level_{k}"
        columns[name] = [None if code < 0 else level[code] for code in codes.tolist()]
    return columns


def _axis_names(group: h5py.Group, axis: str) -> list[str]:
    """Return names of columns; those of several levels are joined by a dot."""
    parts = [map(str, values) for values in _fixed_index(group, axis).values()]
    return [".".join(names) for names in zip(*parts, strict=True)]


def _axis(dataset: h5py.Dataset) -> Any:
    if as_text(dataset.attrs.get("PSEUDOATOM", b"")) == "object":
        return object_array(np.asarray(dataset[0], dtype=np.uint8).tobytes()).tolist()
    return _typed(dataset[()], as_text(dataset.attrs.get("kind", b"")))


def _axis_name(dataset: h5py.Dataset) -> str:
    name = _plain(dataset.attrs.get("name"))
    return "" if name is None else str(name)


# ---- what both have in common


def _typed(values: np.ndarray, kind: str, missing: str = _MISSING) -> Any:
    """Return stored values as ``kind``, the name of a type as pandas writes it."""
    if kind.startswith(_TIMES):
        name = kind if "[" in kind else f"{kind}[ns]"
        return values.astype(np.int64).view(np.dtype(name.split(",")[0].rstrip("]") + "]"))
    if kind == "date":
        from datetime import date

        return [date.fromordinal(int(day)) for day in values.ravel()]
    if kind == "bool":
        return values.astype(bool)
    if values.dtype.kind in "SO":
        return np.array(_words(values.ravel(), missing), dtype=object).reshape(values.shape)
    return values.astype(values.dtype.newbyteorder("="))


def _plain(value: object) -> Any:
    """Return an attribute that PyTables may have pickled; text that is no pickle is itself."""
    if value is None or isinstance(value, h5py.Empty):
        return None
    if not isinstance(value, bytes | np.bytes_):
        return value
    try:
        return plain_values(bytes(value))
    except NotPlain:
        return as_text(bytes(value))


def _names(value: object, default: list[str]) -> list[str]:
    found = _plain(value)
    return [str(name) for name in found] if isinstance(found, list | tuple) else default


def _indexed(frame: pd.DataFrame, index: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    names = [name or None for name in index]
    if len(index) == 1:
        frame.index = pd.Index(next(iter(index.values())), name=names[0])
    elif index:
        frame.index = pd.MultiIndex.from_arrays(list(index.values()), names=names)
    return frame
