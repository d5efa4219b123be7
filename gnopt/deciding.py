"""Decide, for a data file and a target, what a configuration would say: loss, network, method.

`gnopt train DATA --target NAME` trains by these decisions, and `gnopt init` writes them down. Each
comes with its reason, which the user is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from gnopt.data.classes import IF_LABELS, Classes
from gnopt.data.hdf5 import class_names, datasets, holds, is_group, open_file
from gnopt.data.opening import open_any
from gnopt.data.options import DataSettings
from gnopt.data.source import Columns, find_splits
from gnopt.data.table.reading import is_table, read_table
from gnopt.engine.losses import get_loss, loss_for
from gnopt.errors import ConfigError, DataError
from gnopt.metrics import usual
from gnopt.options import Value
from gnopt.toml import to_toml

# Names that the column to predict often has.
USUAL_TARGETS = ("target", "y", "label", "labels", "class", "outcome")
USUAL_INPUTS = ("x", "X", "data", "features", "images", "inputs")
# Fewer rows of a class, on average, and its words are rather names than classes.
ROWS_PER_CLASS = 5
MOST_CLASSES = 1000
# Whole numbers from 0 or 1 on, so many at most, are taken for classes.
FEW_LABELS = 10
COUNTS_BELOW = 100.0  # mean of counts; larger ones are as well predicted as any number


_last: dict[tuple[object, ...], Decisions] = {}


@dataclass(frozen=True)
class Decision:
    """A value of the configuration, and why."""

    key: str
    value: Value
    why: str


@dataclass(frozen=True)
class Decisions:
    """All that was decided for a file of data."""

    found: str  # the data, in a line
    notes: tuple[str, ...]  # what was found in the table
    made: tuple[Decision, ...]

    def values(self) -> dict[str, Value]:
        """Return key in full → value."""
        return {decision.key: decision.value for decision in self.made}

    def lines(self) -> list[str]:
        """Return what the user is told: the data, and each decision with its reason."""
        told = [d for d in self.made if d.why]
        shown = [f"{d.key} = {_text(d.value)}: {d.why}" for d in told]
        return [self.found, *self.notes, *shown]

    def document(self, folder: Path) -> str:
        """Return a commented configuration for a file in ``folder``."""
        lines = [f"# {line}" for line in (self.found, *self.notes)]
        lines += ["# Every key: gnopt config keys", ""]
        for section in ("data", "network", "optimizer", "training"):
            lines.append(f"[{section}]")
            for decision in self.made:
                if decision.key.startswith(f"{section}."):
                    value = decision.value
                    if decision.key == "data.file":
                        value = _from(folder, str(value))
                    comment = f"  # {decision.why}" if decision.why else ""
                    pair = to_toml({"": {decision.key.partition(".")[2]: value}})
                    lines.append(pair.splitlines()[1] + comment)
            lines.append("")
        return "\n".join(lines)


@dataclass
class _Facts:
    """The data that decisions are made on."""

    rows: int
    inputs: int
    target: str  # as a message calls it
    y: np.ndarray | None  # targets of all training rows, as they are stored
    classes: Classes | None = None  # of words, or where the file names classes


def is_data(path: Path) -> bool:
    """Return whether a file is data, not a configuration: HDF5, or a table that is not called
    .toml.
    """
    if path.suffix.lower() == ".toml" or not path.is_file():
        return False
    return h5py.is_hdf5(path) or is_table(path)


def decide(path: Path, given: Mapping[str, object]) -> Decisions:
    """Return the decisions for the data file ``path``.

    ``given`` are the keys that the user gave, which are not decided. Raises DataError for data that
    cannot be used, and ConfigError where the target is missing or looks like a mistake. The last
    decisions are remembered as long as the file stays as it is, because commands load a
    configuration more than once.
    """
    state = path.stat()
    key = (path.resolve(), state.st_mtime_ns, state.st_size, repr(sorted(given.items())))
    if key not in _last:
        decisions = _decide(path, given)
        _last.clear()
        _last[key] = decisions
    return _last[key]


def _decide(path: Path, given: Mapping[str, object]) -> Decisions:
    settings = DataSettings(file=str(path)).changed(
        **{
            key.removeprefix("data."): value
            for key, value in given.items()
            if key.startswith("data.") and key != "data.file"
        }
    )
    made = [Decision("data.file", str(path), "")]
    tabular = is_table(path)
    if not tabular:
        settings, named = _name_datasets(path, settings, given)
        made += named
    elif "data.targets" not in given:
        settings = settings.changed(targets=_guess_target(path, settings))
    if "data.targets" in given or settings.targets != "inputs":
        made.append(Decision("data.targets", settings.targets, ""))
    made += [
        Decision(key, cast(Value, value), "")
        for key, value in given.items()
        if key.startswith("data.") and key not in ("data.file", "data.targets")
    ]
    facts, notes = _look(path, settings)
    loss = given.get("network.loss")
    if loss is None:
        kind, why = _kind_of_target(path, facts)
        loss = loss_for(kind).name
        made.append(Decision("network.loss", loss, why))
    if "data.standardize" not in given and settings.targets != "inputs" and tabular:
        why = "columns of a table have units of their own"
        made.append(Decision("data.standardize", True, why))
    made += [d for d in _network(facts) if d.key not in given]
    outputs = 1 if facts.y is None or facts.y.ndim == 1 else facts.y.shape[1]
    if facts.y is not None and "training.metrics" not in given:
        made.append(Decision("training.metrics", usual(get_loss(str(loss)).predicts(outputs)), ""))
    if facts.y is None:
        what = "which are the targets"
    else:
        what = f"{outputs} target{'s' * (outputs > 1)} ({facts.target})"
    found = f"{path.name}: {facts.rows:,} rows, {facts.inputs:,} inputs, {what}"
    return Decisions(found, tuple(notes), tuple(made))


# ---- data --------------------------------------------------------------------------------------


def _look(path: Path, settings: DataSettings) -> tuple[_Facts, list[str]]:
    """Open the data and return what decisions need of it, and notes on the table."""
    if not isinstance(settings.validation, str):
        settings = settings.changed(validation=0)  # all rows, in the order of the file
    opened = open_any(settings, keep=True)
    with opened.handle as handle:
        splits, found = _splits(handle, opened.settings)
        columns = splits["train"]
        rows = sum(part.x.rows for name, part in splits.items() if name != "test")
        y = None
        if columns.y is not None:
            read = [part.y.read(0, part.y.rows) for part in splits.values() if part.y is not None]
            y = np.concatenate(read)
            y = y.reshape(-1) if y.shape[1] == 1 else y
            names = class_names(columns.y.dataset)
            if found is None and names and y.ndim == 1:
                found = Classes(names, tuple(range(len(names))))
    target = settings.targets if settings.targets != "inputs" else ""
    return _Facts(rows, columns.x.width, target, y, found), opened.notes


def _splits(handle: h5py.File, settings: DataSettings) -> tuple[dict[str, Columns], Classes | None]:
    """Return the columns of the file with numbers as they are, and the classes of words."""
    limit = float(np.finfo(np.float64).max)
    try:
        return find_splits(handle, settings, limit)
    except DataError:
        return find_splits(handle, settings, limit, IF_LABELS)


def _name_datasets(
    path: Path, settings: DataSettings, given: Mapping[str, object]
) -> tuple[DataSettings, list[Decision]]:
    """Find the datasets of inputs and targets in an HDF5 file, where the user did not name them."""
    made: list[Decision] = []
    with open_file(path, settings.follow_links) as handle:
        grouped = is_group(handle, "train")
        prefix = "train/" if grouped else ""
        known = [name for name, _ in datasets(handle)]
        if "data.inputs" not in given and not holds(handle, f"{prefix}{settings.inputs}"):
            names = [n for n in USUAL_INPUTS if holds(handle, prefix + n)]
            if names:
                settings = settings.changed(inputs=names[0])
                made.append(Decision("data.inputs", names[0], "the inputs by its name"))
        if "data.targets" not in given:
            names = [n for n in USUAL_TARGETS if holds(handle, prefix + n)]
            if not names:
                others = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
                raise _no_target(path, [n for n in others if n != settings.inputs])
            settings = settings.changed(targets=names[0])
    return settings, made


def _guess_target(path: Path, settings: DataSettings) -> str:
    """Return the column that is called like a target; ConfigError if there is none."""
    table = read_table(path, settings.table_form(), keep=True)
    names = {str(name).lower(): str(name) for name in table.frame.columns}
    found = [names[name] for name in USUAL_TARGETS if name in names]
    if not found:
        raise _no_target(path, list(names.values()))
    return found[0]


def _no_target(path: Path, names: list[str]) -> ConfigError:
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return ConfigError(
        f"{path}: what is to be predicted? Give it by --target NAME; found {listed or 'nothing'} "
        "(--target inputs trains an autoencoder)"
    )


# ---- loss --------------------------------------------------------------------------------------


def _kind_of_target(path: Path, facts: _Facts) -> tuple[str, str]:
    """Return the kind of targets that a loss is made for, and why; ConfigError where the target
    looks like names, numbers of rows or times.
    """
    y, name = facts.y, facts.target
    if y is None:
        return "numbers", "the inputs are to be rebuilt"
    if y.ndim == 2:
        return _kind_of_columns(y, name)
    found = facts.classes
    words = found is not None and not found.numbers
    named = found is not None and found.named and found.numbers == tuple(range(len(found.names)))
    if found is not None and (words or named):
        return _kind_of_classes(path, len(y), found, name)
    values = np.unique(y)
    whole = bool((values == np.rint(values)).all())
    if len(values) < 2:
        raise ConfigError(
            f"{path}: the target {name!r} is {values[0]:g} in every row: nothing can be learnt"
        )
    if not whole:
        return "numbers", f"{name} holds numbers"
    if len(values) == 2:
        return "two classes", f"{name} is {values[0]:g} or {values[1]:g}"
    low, high = int(values[0]), int(values[-1])
    in_order = bool((np.diff(y) > 0).all()) or bool((np.diff(y) < 0).all())
    if in_order and len(y) >= 20:
        raise ConfigError(
            f"{path}: the target {name!r} counts through the rows ({low} to {high}): a number of "
            "rows or a time is nothing to predict; expected another --target, or --set "
            "network.loss=squared_error if it is meant"
        )
    dense = low in (0, 1) and len(values) == high - low + 1
    if dense and len(values) <= FEW_LABELS and len(y) >= ROWS_PER_CLASS * len(values):
        return "classes", (
            f"{name} is one of {low} to {high}, taken for classes; if it is an amount, or a count: "
            "--set network.loss=squared_error, or poisson"
        )
    if low == 0 and float(y.mean()) < COUNTS_BELOW:
        return "counts", f"{name} holds whole numbers from 0 to {high:,}: counts"
    return "numbers", f"{name} holds whole numbers from {low:,} to {high:,}"


def _kind_of_columns(y: np.ndarray, name: str) -> tuple[str, str]:
    flags = bool(((y == 0) | (y == 1)).all())
    if flags and bool((y.sum(axis=1) == 1).all()):
        return "classes", f"one of {y.shape[1]} columns of {name} is 1 in each row"
    if flags:
        return "two classes", f"all {y.shape[1]} columns of {name} are 0 or 1"
    return "numbers", f"{name}: {y.shape[1]} numbers a row"


def _kind_of_classes(path: Path, rows: int, classes: Classes, name: str) -> tuple[str, str]:
    count = len(classes.names)
    if count > max(2, rows / ROWS_PER_CLASS) or count > MOST_CLASSES:
        raise ConfigError(
            f"{path}: the target {name!r} holds {count:,} different words in {rows:,} rows, such "
            f"as {', '.join(classes.names[:3])}: names, dates or numbers with words among them are "
            "no classes; expected another --target, or --set network.loss=softmax_cross_entropy if "
            "they are meant"
        )
    if count < 2:
        raise ConfigError(
            f"{path}: the target {name!r} is {classes.names[0]!r} in every row: nothing can be "
            "learnt"
        )
    shown = ", ".join(classes.names[:6]) + (", ..." if count > 6 else "")
    if count == 2:
        return "two classes", f"{name} is {' or '.join(classes.names)}"
    return "classes", f"{name} is one of {count} classes: {shown}"


# ---- network -----------------------------------------------------------------------------------


def _network(facts: _Facts) -> Iterator[Decision]:
    """Yield the decisions on the network."""
    rows = facts.rows
    if facts.y is None:
        code = max(2, min(30, facts.inputs // 4))
        wide = max(2 * code, min(500, 2 * facts.inputs))
        yield Decision("network.hidden", [wide, code, wide], "an autoencoder with a narrow code")
        return
    width = next(width for most, width in WIDTHS if rows <= most)
    yield Decision("network.hidden", [width, width], f"two layers of a width for {rows:,} rows")


# Rows up to which a width is used.
WIDTHS = ((1_000, 50), (10_000, 100), (100_000, 200), (np.inf, 300))


def _text(value: Value) -> str:
    return to_toml({"": {"v": value}}).splitlines()[1].partition(" = ")[2]


def _from(folder: Path, file: str) -> str:
    """Return a path from ``folder`` where the file lies near it, else the whole path."""
    whole = Path(file).resolve()
    relative = Path(os.path.relpath(whole, folder.resolve()))
    return str(whole if relative.parts.count("..") > 3 else relative)
