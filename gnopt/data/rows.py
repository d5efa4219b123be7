"""What every reader of a format returns: an array with data points as rows, read block by block."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnopt.errors import DataError
from gnopt.formatting import in_bytes
from gnopt.machine import free_memory


def refuse_too_large(where: str, size: int) -> None:
    """Raise DataError if an array of ``size`` bytes, which is read as a whole, does not fit into
    memory. Called before it is unpacked: a file of kilobytes can declare any size.
    """
    free = free_memory()
    if size > free:
        raise DataError(f"{where}: takes {in_bytes(size)} unpacked; {in_bytes(free)} are free")


@dataclass(frozen=True)
class Rows:
    """An array with data points as rows that need not be in memory."""

    where: str  # name in errors
    shape: tuple[int, ...]  # (rows, ...)
    dtype: np.dtype[Any]
    blocks: Callable[[int], Iterator[np.ndarray]]  # blocks(n) yields all rows, n at a time
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ..., if the source has names
    scale: float | None = None  # factor that the source suggests, such as 1/255 for pictures
    notes: tuple[str, ...] = ()  # what a user should know of how the source is read

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def words(self) -> bool:
        """Whether the array holds words, which can only be labels."""
        metadata = self.dtype.metadata  # how h5py marks words of any length
        any_length = metadata is not None and metadata.get("vlen") in (str, bytes)
        return self.dtype.kind in "US" or any_length

    def numbers(self) -> Rows:
        """Return these rows; DataError if they are words."""
        if self.words:
            raise DataError(
                f"{self.where}: found words; expected integers, floats or booleans (words can be "
                "targets)"
            )
        return self

    def checked(self) -> Rows:
        """Return these rows; DataError unless there is at least one row of at least one number, or
        of words.
        """
        if self.dtype.kind not in "biuf" and not self.words:
            found = {"c": "complex numbers", "O": "objects"}.get(
                self.dtype.kind, f"values of type {self.dtype}"
            )
            raise DataError(f"{self.where}: found {found}; expected integers, floats or booleans")
        if not self.shape or 0 in self.shape:
            raise DataError(
                f"{self.where}: has shape {self.shape}; expected at least one row of at "
                "least one number"
            )
        return self

    def all(self) -> np.ndarray:
        """Return the whole array."""
        return next(iter(self.blocks(self.rows)))

    def finite_blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield blocks of rows; DataError with the place of the first number that is not finite."""
        start = 0
        for block in self.blocks(rows):
            if block.dtype.kind == "f" and not np.isfinite(block).all():
                flat = block.reshape(len(block), -1)
                row, column = np.argwhere(~np.isfinite(flat))[0]
                raise DataError(
                    f"{self.where}: row {start + row}, column {column} (counted from 0) is "
                    f"{flat[row, column]:g}; expected finite numbers"
                )
            yield block
            start += len(block)

    def as_labels(self) -> Rows:
        """Return targets as (rows,) if they have one column; whole floats become integers, and
        words the numbers of classes in natural order.
        """
        array = self.all()
        if array.ndim > 1 and math.prod(array.shape[1:]) == 1:
            array = array.reshape(len(array))
        if self.words:
            return _numbered_words(array, self.where)
        if array.ndim == 1 and array.dtype.kind == "f" and (array == np.rint(array)).all():
            array = array.astype(smallest(float(array.min()), float(array.max())))
        return replace(from_array(array, self.where), classes=self.classes)


def from_array(array: np.ndarray, where: str, scale: float | None = None) -> Rows:
    """Return the rows of an array in memory, or mapped into memory."""

    def blocks(rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(array), rows):
            yield np.asarray(array[start : start + rows])

    return Rows(where, tuple(array.shape), np.dtype(array.dtype), blocks, scale=scale).checked()


def _numbered_words(words: np.ndarray, where: str) -> Rows:
    if words.ndim != 1:
        raise DataError(f"{where}: found words in {words.shape[1:]} columns; expected one a row")
    texts = [as_text(word) for word in words.tolist()]
    if "" in texts:
        raise DataError(f"{where}: row {texts.index('')} (counted from 0) is empty")
    classes = tuple(sorted(set(texts), key=natural_key))
    number = {text: k for k, text in enumerate(classes)}
    labels = np.array([number[text] for text in texts], dtype=smallest(0, len(classes)))
    return replace(from_array(labels, where), classes=classes)


def picture_scale(shape: tuple[int, ...], dtype: np.dtype[Any]) -> float | None:
    """Return 1/255 for rows of bytes with two or more dimensions, which are taken for pictures."""
    return 1 / 255 if dtype == np.uint8 and len(shape) >= 3 else None


def smallest(low: float, high: float) -> np.dtype[Any]:
    """Return the smallest of uint8, int16, int32 and int64 that holds ``low`` to ``high``."""
    for name in ("uint8", "int16", "int32", "int64"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype(np.float64)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts s2 before s10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def as_text(value: object) -> str:
    """Return a stored word as text: bytes are UTF-8, or else Latin-1; blanks around it are cut."""
    text = str(value)
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
    return text.strip("\0 \t\r\n")
