"""Classes of labels: which there are, what they are called, and which number each has.

A network counts its classes 0, 1, ..., K − 1. Files count otherwise: from 1, as −1 and 1, by ids,
or in words. `find_classes` looks at the labels of the training rows and numbers the
classes that occur; a network keeps the result, so that labels of new files get the same numbers.
Whether targets are labels at all is for the loss to say, in a `LabelRule`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import h5py
import numpy as np

from gnopt.data.hdf5 import Column, class_names, is_text, read_words
from gnopt.data.rows import natural_key
from gnopt.data.views import Stored
from gnopt.errors import DataError, nearest
from gnopt.notes import passing

# Labels are no classes if there are more than so many, or more than MANY that seldom repeat.
MOST_CLASSES, MANY = 10**6, 1000
SHOWN = 10  # labels in a message, at most
_PIECE_ROWS = 2**18  # labels read at a time

Label = int | str  # as a file holds it


@dataclass(frozen=True)
class Classes:
    """Classes 0, 1, ... with their names, and the numbers that stand for them in the file.

    ``numbers`` ascend; they are empty where the file's labels are words.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether the labels of the file are 0, 1, ..., K − 1 already."""
        return self.numbers == tuple(range(len(self.names)))

    @property
    def named(self) -> bool:
        """Whether the names say more than the number of each class."""
        return self.names != tuple(str(k) for k in range(len(self.names)))

    def listed(self) -> str:
        """Return the first names, joined by commas."""
        return _listed(self.names)

    def note(self) -> str:
        """Return a line on how labels are numbered, empty where they keep their numbers."""
        if self.counted:
            return ""
        last = len(self.names) - 1
        numbers = "0 and 1" if last == 1 else f"0 to {last}"
        return f"labels {self.listed()} are numbered {numbers}"


class TakesLabels(Protocol):
    """What a loss says of the labels it takes."""

    name: str
    most_classes: float


@dataclass(frozen=True)
class LabelRule:
    """What a loss says of targets: how many classes a column of labels may have, at most.

    With 0, targets are numbers, also whole ones. ``fractions`` says that a column with fractions
    holds numbers, such as probabilities, in place of labels.
    """

    loss: str = ""  # its name, for messages
    most: float = 0
    fractions: bool = False

    @classmethod
    def of(cls, loss: TakesLabels) -> LabelRule:
        """Return the rule of a loss; one that tells two classes apart takes probabilities too."""
        return cls(loss.name, loss.most_classes, fractions=loss.most_classes <= 2)


NUMBERS = LabelRule()
IF_LABELS = LabelRule("", math.inf, fractions=True)


def find_classes(columns: Iterable[Column], rule: LabelRule) -> Classes | None:
    """Return the classes of the labels in ``columns``; None where ``rule`` makes them numbers.

    Names come from the attribute ``classes`` of the first column, from an enumerated type, or are
    the labels as written. Labels 0 to K − 1 keep their numbers, others are numbered in ascending
    (words in natural) order. Raises DataError for labels that are fractions, and for more classes
    than the loss tells apart.
    """
    columns = list(columns)
    if not rule.most or not columns:
        return None
    first = columns[0]
    if not all(map(_may_be_labels, columns)):
        names = class_names(first.dataset)
        return Classes(names, tuple(range(len(names)))) if names else None
    found: set[Label] = set()
    for column in columns:
        for start, labels in _pieces(column):
            if labels.dtype.kind == "f" and not _are_whole(column, start, labels, rule):
                return None
            found.update(_distinct(_as_stored(labels))[0])
            if column is first:
                _refuse_identifiers(column, len(found), start + len(labels))
    if len({type(label) for label in found}) > 1:
        raise DataError(f"{first.file}: {first.path}: words and numbers are mixed as labels")
    classes = _numbered(found, names_of(first.dataset))
    if len(classes.names) > rule.most:
        raise DataError(
            f"{first.file}: {first.path} holds {len(classes.names):,} classes: "
            f"{classes.listed()}; loss {rule.loss} tells {rule.most:g} apart "
            "(softmax_cross_entropy takes any number of classes)"
        )
    return classes


def _refuse_identifiers(column: Column, labels: int, rows: int) -> None:
    """Raise DataError if so many rows hold too many different labels to be classes."""
    if labels > MOST_CLASSES or (labels > MANY and 2 * labels > rows):
        raise DataError(
            f"{column.file}: {column.path} holds {labels:,} different labels in its first {rows:,} "
            f"rows, which would need {labels:,} outputs at least; expected classes. Are they "
            "identifiers, times or measured numbers? For numbers there is loss squared_error"
        )


def number_labels(column: Column, classes: Classes) -> Column:
    """Return labels as the numbers of ``classes``, (rows,), read when they are asked for.

    Reading raises DataError for a label of none of the classes.
    """
    if not _may_be_labels(column):
        return column
    as_they_are = classes.counted and column.shape == () and column.dtype.kind in "biu"
    if as_they_are and not _renamed(column.dataset, classes):
        return column
    return replace(column, dataset=_NumberedLabels(column, classes))


def names_of(dataset: Stored) -> dict[int, str]:
    """Return the name of each label that the file names, by its number."""
    names = class_names(dataset)
    if names:
        return dict(enumerate(names))
    members: Mapping[str, Any] | None = h5py.check_enum_dtype(dataset.dtype)
    return {int(number): name for name, number in members.items()} if members else {}


def _may_be_labels(column: Column) -> bool:
    """Return whether each row of ``column`` holds one unscaled value."""
    return column.width == 1 and column.scale == 1


def _pieces(column: Column) -> Iterator[tuple[int, np.ndarray]]:
    for start in passing(
        range(0, column.rows, _PIECE_ROWS), f"looking for classes in {column.path}"
    ):
        yield start, _read(column, start, min(start + _PIECE_ROWS, column.rows))


def _read(column: Column, start: int, stop: int) -> np.ndarray:
    if is_text(column.dataset):
        return read_words(column, start, stop)
    return column.read(start, stop).reshape(-1)


def _are_whole(column: Column, start: int, labels: np.ndarray, rule: LabelRule) -> bool:
    """Return whether floats are labels; DataError if they can be neither labels nor numbers."""
    whole = labels == np.rint(labels)
    if whole.all():
        return True
    if rule.fractions:
        return False
    row = int(np.argmin(whole))
    raise DataError(
        f"{column.file}: {column.path}: row {column.number(start + row)} (counted from 0) is "
        f"{labels[row]:g}; expected labels, whole numbers or words, for loss {rule.loss} "
        "(squared_error takes numbers)"
    )


def _as_stored(labels: np.ndarray) -> np.ndarray:
    """Return labels as integers, or as words."""
    return labels if labels.dtype.kind in "OUiu" else labels.astype(np.int64)


def _distinct(labels: np.ndarray) -> tuple[list[Label], np.ndarray]:
    """Return the different labels, and the place of each row's label among them, (rows,)."""
    if labels.dtype.kind != "O":
        unique, place = np.unique(labels, return_inverse=True)
        return unique.tolist(), place
    words = labels.tolist()
    places = {word: k for k, word in enumerate(dict.fromkeys(words))}
    return list(places), np.fromiter(map(places.__getitem__, words), np.int64, len(words))


def _numbered(found: set[Label], names: dict[int, str]) -> Classes:
    if any(isinstance(label, str) for label in found):
        return Classes(tuple(sorted(map(str, found), key=natural_key)))
    labels = {int(label) for label in found}
    if names and labels <= names.keys():
        numbers = tuple(sorted(names))
        return Classes(tuple(names[number] for number in numbers), numbers)
    if labels <= {0, 1}:  # a class without rows is missing, not another count
        labels = {0, 1}
    numbers = tuple(sorted(labels))
    return Classes(tuple(map(str, numbers)), numbers)


def _renamed(dataset: Stored, classes: Classes) -> bool:
    """Return whether the file's own names give its numbers another meaning."""
    own = names_of(dataset)
    return classes.named and any(
        number >= len(classes.names) or classes.names[number] != name
        for number, name in own.items()
    )


class _NumberedLabels:
    """A dataset of labels that reads as the numbers of their classes, (rows,) int32."""

    dtype = np.dtype(np.int32)

    def __init__(self, column: Column, classes: Classes) -> None:
        source = column.dataset
        self._source = replace(column, first=0, rows=source.shape[0], chosen=None)
        self._names = names_of(source) if classes.named else {}
        self._by_name = {name: k for k, name in enumerate(classes.names)}
        self._by_number = {number: k for k, number in enumerate(classes.numbers)}
        self._classes = classes
        self.name, self.attrs = source.name, source.attrs
        self.shape: tuple[int, ...] = source.shape[:1]
        self.chunks: tuple[int, ...] | None = source.chunks and source.chunks[:1]

    def read_direct(self, out: np.ndarray, rows: slice, at: slice) -> None:
        labels = _as_stored(_read(self._source, rows.start, rows.stop))
        distinct, place = _distinct(labels)
        numbers = [self._number(label) for label in distinct]
        unknown = [label for label, k in zip(distinct, numbers, strict=True) if k is None]
        if unknown:
            row = rows.start + int(np.argmax(labels == unknown[0]))
            known = self._classes.names
            near = nearest(str(unknown[0]), known) if isinstance(unknown[0], str) else ""
            raise DataError(
                f"{self._source.file}: {self.name}: label {_listed(map(str, unknown))} (first in "
                f"row {row}, counted from 0); expected one of the {len(known):,} classes of the "
                f"training rows: {self._classes.listed()}{near}"
            )
        out[at] = np.array(numbers, dtype=self.dtype)[place].reshape(out[at].shape)

    def _number(self, label: Label) -> int | None:
        if isinstance(label, str):
            return self._by_name.get(label)
        if label in self._names:
            return self._by_name.get(self._names[label])
        if self._by_number:
            return self._by_number.get(label)
        return self._by_name.get(str(label))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
