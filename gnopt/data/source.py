"""Open the data file that ``[data]`` describes, as training, validation and test rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from gnopt.data.classes import (
    NUMBERS,
    Classes,
    LabelRule,
    find_classes,
    number_labels,
)
from gnopt.data.fingerprint import Fingerprint, fingerprint
from gnopt.data.hdf5 import Column, column, find, is_group, open_file
from gnopt.data.held_out import draw_held_out
from gnopt.data.moments import Statistics
from gnopt.data.opening import open_any
from gnopt.data.options import HELD_OUT, DataSettings
from gnopt.data.order import GROUP_BYTES, choose_order
from gnopt.data.places import Places
from gnopt.data.split import Split, is_label
from gnopt.data.table.encoding import Encoding
from gnopt.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class Columns:
    """The columns of a split: inputs, targets (None: they are the inputs), and weights, if any."""

    x: Column
    y: Column | None
    weights: Column | None = None
    groups: np.ndarray | None = None  # (rows,), the number of each row's group

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of inputs and targets."""
        return self.x.row_bytes + (self.y.row_bytes if self.y is not None else 0)

    def part(self, first: int, rows: int) -> Columns:
        """Return the ``rows`` rows from ``first`` on."""
        y, weights, groups = self.y, self.weights, self.groups
        return Columns(
            self.x.part(first, rows),
            y and y.part(first, rows),
            weights and weights.part(first, rows),
            None if groups is None else groups[first : first + rows],
        )

    def take(self, numbers: np.ndarray) -> Columns:
        """Return the rows of these numbers, which ascend and may come several times."""
        y, weights, groups = self.y, self.weights, self.groups
        return Columns(
            self.x.take(numbers),
            y and y.take(numbers),
            weights and weights.take(numbers),
            None if groups is None else groups[numbers],
        )

    def labelled(self, classes: Classes) -> Columns:
        """Return the columns with labels as the numbers of these classes."""
        return self if self.y is None else replace(self, y=number_labels(self.y, classes))


@dataclass
class Data:
    """The rows of one data file, open until ``close``."""

    splits: dict[str, Split]  # by name: train, validation and test, or "all" of a new file
    target_shape: tuple[int, ...]  # of one target
    fingerprint: Fingerprint
    statistics: Statistics | None = None  # by which the inputs are standardised, if they are
    why_standardized: str | None = None  # the column that asked for it, if "auto" decided
    # Of all training rows, where it is known before they are read: a network has outputs for every
    # label.
    largest_label: int | None = None
    _handle: h5py.File | None = field(default=None, repr=False)
    classes: Classes | None = None  # of labels, or names of the targets' columns; None without any
    encoding: Encoding | None = None  # of the columns of the table that the rows come from
    notes: list[str] = field(default_factory=list)  # what was found and decided in the table
    row_names: dict[str, np.ndarray] = field(default_factory=dict)  # columns that name its rows

    @property
    def train(self) -> Split:
        """The training rows; KeyError in a new file without a group for them."""
        return self.splits["train"]

    @property
    def validation(self) -> Split | None:
        return self.splits.get("validation")

    @property
    def test(self) -> Split | None:
        return self.splits.get("test")

    @property
    def inputs(self) -> int:
        """The width of the rows of inputs, the same in every split."""
        return next(iter(self.splits.values())).inputs

    def close(self) -> None:
        """Close the file and free the rows; closing twice is allowed."""
        for split in self.splits.values():
            split.close()
        if self._handle is not None:
            self._handle.close()

    def __enter__(self) -> Data:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_data(
    settings: DataSettings,
    *,
    seed: int,
    dtype: str,
    statistics: Statistics | None = None,
    labels: LabelRule = NUMBERS,
    classes: Classes | None = None,
    encoding: Encoding | None = None,
    new: bool = False,
) -> Data:
    """Open the data file of the resolved section ``[data]``: HDF5, or a table, which is encoded.

    The file holds either ``inputs`` (and ``targets``) at its top, or groups ``train``,
    ``validation`` and ``test`` with these datasets in each. The setting ``validation`` names a
    group, or is the fraction of the training rows held out by `split`. With the default fraction,
    a group called "validation" is used instead, if there is one; with any other fraction this group
    is ignored. ``rows`` chooses among the training rows that are left; a fold is held out in place
    of any other validation rows. A group "test" without targets is ignored if targets are needed.

    With ``standardize = "auto"``, one pass over the inputs decides; inputs that are also the
    targets stay as they are. ``statistics`` standardise the inputs in place of those of the
    training rows, and a table is encoded by ``encoding``, so that a trained network sees new data
    as it saw its training data.

    ``labels`` says what the loss takes for labels. These are numbered by the classes of the
    training and validation rows, or by ``classes``, those of a trained network.

    A file that is ``new`` to a trained network is not split: its rows are the split "all", or those
    of the groups train, validation and test that it has.
    Raises DataError for anything wrong with the file.
    """
    budget = settings.memory_bytes()
    with contextlib.ExitStack() as undo:
        opened = open_any(settings, encoding)
        handle, settings = undo.enter_context(opened.handle), opened.settings
        limit = float(np.finfo(dtype).max)
        columns, found = find_splits(handle, settings, limit, labels, classes, new)
        largest_label = _choose_rows(columns, settings)
        first, first_columns = next(iter(columns.items()))
        group_bytes = _group_bytes(first_columns, settings)
        splits: dict[str, Split] = {}
        for name, of_split in columns.items():
            x, y = of_split.x, of_split.y
            bytes_held = _bytes(of_split)
            in_memory = bytes_held <= budget
            budget -= bytes_held if in_memory else 0
            row_bytes = bytes_held // x.rows
            if not in_memory and row_bytes > group_bytes:
                raise DataError(
                    f"{x.file}: {x.path}: one row needs {row_bytes:,} bytes; data.memory = "
                    f"{settings.memory!r} leaves {group_bytes:,} for the rows being read"
                )
            chunk = x.dataset.chunks[0] if x.dataset.chunks else 1
            order = choose_order(seed, x.rows, row_bytes, chunk, group_bytes)
            weights = None if of_split.weights is None else read_weights(of_split.weights)
            splits[name] = Split(name, x, y, order, dtype, in_memory, weights)
            undo.callback(splits[name].close)
            splits[name].parity = settings.target_transform == "parity"
            if splits[name].parity and (y is None or not is_label(y)):
                raise DataError(
                    f"{x.file}: data.target_transform = 'parity': expected whole-number labels, "
                    f"found {'inputs' if y is None else y.path} as targets"
                )
        why = None
        if statistics is None:
            statistics, why = _choose_statistics(splits[first], settings, first_columns)
        if statistics is not None:
            _check_statistics(statistics, first_columns.x)
            for split in splits.values():
                split.statistics = statistics
        data = Data(
            splits,
            target_shape(first_columns),
            fingerprint(handle),
            statistics,
            why,
            len(found.names) - 1 if found and is_labels(first_columns, labels) else largest_label,
            handle,
            found,
            opened.encoding,
            [*opened.notes, *Places.find(handle, settings).told()],
            opened.row_names,
        )
        undo.pop_all()
    if all(split.in_memory for split in splits.values()):
        handle.close()
    return data


def _choose_rows(columns: dict[str, Columns], settings: DataSettings) -> int | None:
    """Leave in ``columns`` the rows that ``data.rows`` chooses out of the training rows.

    Returns the largest label of all training rows, None where all are used or rows have no label.
    """
    selection = settings.selection()
    if selection is None:
        return None
    train = columns["train"]
    x, y = train.x, train.y
    labels = None
    if y is not None and is_label(y):
        labels = y.read(0, y.rows).reshape(-1).astype(np.int64)
        if settings.target_transform == "parity":
            labels %= 2
    try:
        chosen = selection.choose(x.rows, labels, settings.rows_seed, train.groups)
    except ConfigError as error:
        raise DataError(f"{x.file}: data.rows = {settings.rows!r}: {error}") from None
    for name, numbers in (("train", chosen.train), ("validation", chosen.validation)):
        if numbers is not None:
            columns[name] = train.take(numbers)
    return None if labels is None else int(labels.max())


def _bytes(columns: Columns) -> int:
    return columns.x.rows * columns.row_bytes


def target_shape(columns: Columns) -> tuple[int, ...]:
    """Return the shape of one target."""
    if columns.y is None:
        return (columns.x.width,)
    return (columns.y.width,) if columns.y.shape else ()


def read_weights(column: Column) -> np.ndarray:
    """Return the weights of all rows of a split, (rows,) float64.

    They are read as a whole, also from a file larger than memory: 8 bytes a row. Raises DataError
    unless there is one number >= 0 a row, and one above 0.
    """
    if column.width != 1:
        raise DataError(
            f"{column.file}: data.weights: {column.path} has rows of {column.width} numbers; "
            "expected one weight a row"
        )
    weights: np.ndarray = column.read(0, column.rows).reshape(-1) * np.float64(column.scale)
    negative = weights < 0.0
    if negative.any():
        row = int(negative.argmax())
        raise DataError(
            f"{column.file}: data.weights: {column.path}: row {column.number(row)} (counted from "
            f"0) is {weights[row]:g}; expected weights >= 0"
        )
    if not weights.any():
        raise DataError(
            f"{column.file}: data.weights: {column.path}: all {column.rows:,} rows have weight 0; "
            "expected a row that counts"
        )
    return weights


def _group_bytes(train: Columns, settings: DataSettings) -> int:
    # Two groups are held while reading ahead. Free memory must not matter, else batches would
    # depend on it.
    if settings.memory_is_given() and _bytes(train) > settings.memory_bytes():
        return min(GROUP_BYTES, max(1, settings.memory_bytes() // 2))
    return GROUP_BYTES


def find_splits(
    handle: h5py.File,
    settings: DataSettings,
    limit: float,
    labels: LabelRule = NUMBERS,
    classes: Classes | None = None,
    new: bool = False,
) -> tuple[dict[str, Columns], Classes | None]:
    """Find the columns of the training, validation and test rows; of them, read labels alone.

    Returns {"train": columns, ...} with the groups that the file has, and the classes of the
    labels. ``limit`` is the largest number of the float type in use; `open_data` explains
    ``labels``, ``classes`` and ``new``.
    """
    places = Places.find(handle, settings)
    selection = settings.selection()
    held_out_by_rows = selection is not None and selection.validates
    validation = 0 if held_out_by_rows else settings.validation

    def in_group(group: str) -> Columns:
        inputs, targets, weights = places.of(group)
        x = column(handle, inputs, limit)
        y = None if targets is None else column(handle, targets, limit, words=labels.most > 0)
        w = None if weights is None else column(handle, weights, float(np.finfo(np.float64).max))
        for other in (y, w):
            if other is not None and other.rows != x.rows:
                raise DataError(
                    f"{x.file}: {other.path} has {other.rows:,} rows; expected {x.rows:,}, as "
                    f"{x.path}{_turned_hint(x, other)}"
                )
        return Columns(x, y, w)

    if new:
        splits = {name: in_group(group) for name, group in places.of_new().items()}
        if classes is not None and labels.most:
            splits = {name: columns.labelled(classes) for name, columns in splits.items()}
        _check_alike(splits)
        return splits, classes
    splits = {"train": in_group(places.training)}
    groups = places.groups
    if groups is not None:
        found = read_groups(handle, groups, splits["train"].x.rows)
        splits["train"] = replace(splits["train"], groups=found)
    if isinstance(validation, str):
        group = validation.strip("/")
        if not is_group(handle, group):
            known = [name for name in handle if is_group(handle, name)]
            expected = ", ".join(known) or "a fraction, as the file has no groups"
            raise DataError(
                f"{handle.filename}: data.validation = {validation!r}: no such group; expected "
                f"{expected}{nearest(group, known)}"
            )
        splits["validation"] = in_group(group)
    elif validation == HELD_OUT and places.has("validation"):
        splits["validation"] = in_group("validation")
    seen = [columns.y for columns in splits.values() if columns.y is not None]
    if places.has("test") and places.has_targets("test"):
        splits["test"] = in_group("test")
    if settings.target_transform == "none":
        classes = classes or find_classes(seen, labels)
        if classes is not None and labels.most:
            splits = {name: columns.labelled(classes) for name, columns in splits.items()}
    if "validation" not in splits and not isinstance(validation, str) and validation > 0:
        splits["train"], splits["validation"] = _hold_out(splits["train"], settings)
    _check_alike(splits)
    return splits, classes if settings.target_transform == "none" else None


def _turned_hint(x: Column, y: Column) -> str:
    """Return a hint where data points seem to be along the last axis, as Julia and R write them."""
    lengths = (*x.shape[-1:], x.rows), (*y.shape[-1:], y.rows)
    if lengths[0][0] != lengths[1][0] and lengths[0][0] != y.rows:
        return ""
    return "; if data points are along the last axis, `gnopt dataset import` turns them"


def is_labels(columns: Columns, rule: LabelRule) -> bool:
    """Return whether the targets are labels for the loss."""
    return rule.most > 0 and columns.y is not None and is_label(columns.y)


def has_validation_group(settings: DataSettings) -> bool:
    """Return whether validation rows are a group of the file, not a part of the training rows."""
    if isinstance(settings.validation, str):
        return True
    path = Path(settings.file).expanduser()
    if not h5py.is_hdf5(path):
        return False
    with open_file(path, settings.follow_links) as handle:
        return settings.validation == HELD_OUT and Places.find(handle, settings).has("validation")


def _hold_out(train: Columns, settings: DataSettings) -> tuple[Columns, Columns]:
    """Return the training and the validation rows that data.validation, a fraction, makes of all
    rows.
    """
    x = train.x
    fraction = float(settings.validation)
    held = max(1, round(x.rows * fraction))
    if x.rows - held < 1:
        raise DataError(
            f"{x.file}: {x.path}: data.validation = {fraction:g} of {x.rows:,} rows leaves none "
            "to train on; expected a smaller fraction, or 0"
        )
    if settings.split == "end":
        return train.part(0, x.rows - held), train.part(x.rows - held, held)
    y = train.y
    key = y.read(0, y.rows).reshape(-1) if y is not None and y.width == 1 else None
    out = draw_held_out(x.rows, held, settings.rows_seed, key, train.groups)
    if not out.any():
        raise DataError(
            f"{x.file}: data.group = {settings.group!r}: all rows are of one group, so that none "
            "can be held out; expected several groups, or data.validation = 0"
        )
    return train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))


def read_groups(handle: h5py.File, path: str, rows: int) -> np.ndarray:
    """Return the number of the group of each row, (rows,) int64, from a dataset of numbers or
    words.
    """
    dataset = find(handle, path)
    if dataset.shape not in ((rows,), (rows, 1)):
        raise DataError(
            f"{handle.filename}: data.group: /{path} has shape {dataset.shape}; expected one "
            f"number or word for each of {rows:,} rows"
        )
    values = np.asarray(dataset[()]).reshape(-1)
    if values.dtype.kind == "O":
        values = values.astype(str)
    number: np.ndarray = np.unique(values, return_inverse=True)[1]
    return number.astype(np.int64)


def _check_alike(splits: dict[str, Columns]) -> None:
    first, *others = splits.values()
    x, y = first.x, first.y
    for columns in others:
        other_x, other_y = columns.x, columns.y
        for one, other in ((x, other_x), (y, other_y)):
            if one is None or other is None:
                continue
            if one.width != other.width:
                raise DataError(
                    f"{x.file}: {other.path} has rows of {other.width} numbers; expected "
                    f"{one.width}, as {one.path}"
                )


def _choose_statistics(
    train: Split, settings: DataSettings, columns: Columns
) -> tuple[Statistics | None, str | None]:
    """Return what standardises the inputs, or None, and why if the settings leave it open."""
    if not settings.standardize_if_asked():
        return train.moments().statistics() if settings.standardize else None, None
    if columns.y is None or _within_one(columns.x):
        return None, None
    moments = train.moments()
    why = moments.why_standardize()
    return moments.statistics() if why else None, why


def _within_one(x: Column) -> bool:
    """Return whether the type of the inputs keeps them in -1 .. 1, as that of scaled pixels."""
    if x.dtype.kind not in "iu":
        return x.dtype.kind == "b"
    limits = np.iinfo(x.dtype)
    return max(limits.max, -limits.min) * abs(x.scale) <= 1.01


def _check_statistics(statistics: Statistics, x: Column) -> None:
    if statistics.mean.shape != (x.width,):
        raise DataError(
            f"{x.file}: {x.path} has rows of {x.width} numbers; expected {len(statistics.mean)}, "
            "as the data that the standardisation comes from"
        )
    if not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.std).all()):
        raise DataError(f"{x.file}: {x.path}: numbers too large to standardise")
