"""Write data that a program holds in memory as the file that training and prediction read.

Arrays become ``/x``, ``/y``, ``/w`` and ``/group`` as they are. A data frame is encoded, as a
table in a file would be, and the file holds the encoding too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import h5py
import numpy as np
from numpy.typing import ArrayLike

from gnopt.data.opening import of_table, write_encoding
from gnopt.data.options import DataSettings
from gnopt.data.table.encoding import Encoding
from gnopt.data.table.form import Table
from gnopt.data.table.reading import tidy
from gnopt.errors import DataError, nearest
from gnopt.files import write_hdf5

if TYPE_CHECKING:
    import os

    import pandas as pd

Rows: TypeAlias = "ArrayLike | pd.DataFrame | str | os.PathLike[str]"
WORDS = "OSUb"  # kinds of NumPy types whose values are names of classes
_FRAME = Path("data frame")  # in messages


@dataclass(frozen=True)
class MemoryData:
    """Rows in memory: inputs, and what belongs to each row.

    ``x`` is an array (N, ...) or a data frame; the others are arrays (N,), ``y`` also (N, K).
    """

    x: np.ndarray | pd.DataFrame
    y: np.ndarray | None = None
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    class_names: tuple[str, ...] = ()  # of the classes 0, 1, ..., where y holds numbers

    @classmethod
    def of(
        cls,
        x: ArrayLike | pd.DataFrame,
        y: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        class_names: Sequence[str] = (),
    ) -> MemoryData:
        """Check what a caller gave; DataError names what does not fit.

        Raises TypeError for a sparse matrix.
        """
        for name, given in (("x", x), ("y", y)):
            if hasattr(given, "toarray"):
                raise TypeError(
                    f"Sparse data was passed for {name}, but dense data is required. Use "
                    "'.toarray()' to convert to a dense numpy array."
                )
        rows = x if is_frame(x) else _numbers(x)
        data = cls(
            rows,
            None if y is None else _column(y),
            None if weights is None else np.asarray(weights, dtype=np.float64),
            None if groups is None else _column(groups),
            tuple(map(str, class_names)),
        )
        for name, values in (("y", data.y), ("weights", data.weights), ("groups", data.groups)):
            if values is not None and values.shape[:1] != (len(rows),):
                raise DataError(
                    f"{name}: found shape {values.shape}; expected {len(rows):,} rows, as x has"
                )
        return data

    @property
    def labels(self) -> np.ndarray | None:
        """The classes with the type of ``y``, ascending, where ``y`` holds one value a row."""
        if self.y is None or self.y.ndim > 1 or self.class_names:
            return None
        return np.unique(self.y)

    def write(self, file: Path, settings: DataSettings) -> tuple[DataSettings, list[str]]:
        """Write a data file to train with; return ``settings`` with the names of its datasets, and
        what was found in the columns of a data frame.

        ``settings`` name columns of a data frame; the target is one of them unless there is ``y``.
        """
        if is_frame(self.x):
            frame, settings = self._with_columns(self.x, settings)
            opened = of_table(tidy(Table(_FRAME, frame)), settings)
            with opened.handle as handle:

                def copy(target: h5py.File) -> None:
                    target.attrs.update(handle.attrs)
                    for name in handle:
                        handle.copy(name, target)
                    if self.class_names:
                        target["y"].attrs["classes"] = list(self.class_names)

                write_hdf5(file, copy)
            plain = opened.settings
            return plain.changed(file=str(file), drop="", categories=""), opened.notes
        write_hdf5(file, lambda target: self._fill(target, self._coded()))
        named = settings.changed(
            file=str(file),
            inputs="x",
            targets="inputs" if self.y is None else "y",
            weights="" if self.weights is None else "w",
            group="" if self.groups is None else "group",
        )
        return named, []

    def write_new(
        self,
        file: Path,
        settings: DataSettings,
        encoding: Encoding | None,
        classes: Sequence[str],
        targets: bool,
    ) -> DataSettings:
        """Write rows for a trained network and return the settings that read all of them.

        ``encoding`` and ``classes`` are those of the network, and ``targets`` says whether targets
        and weights are wanted. Columns of a data frame are found by their names, those of an array
        by their places.
        """
        x, y, weights = self.x, self.y, self.weights
        if encoding is not None:
            table = self._table_for(encoding)
            if encoding.target is None or not set(encoding.target.names) & set(table.frame.columns):
                targets = False
            encoded = encoding.encode(table, targets)
            x, y = encoded.x, encoded.y if targets else None
            weights = encoded.weights if weights is None else weights[encoded.rows]
        elif is_frame(x):
            x = _numbers(x)
        plain = MemoryData(np.asarray(x), y, weights)

        def fill(target: h5py.File) -> None:
            plain._fill(target, plain._coded(classes))
            if encoding is not None:
                write_encoding(target, encoding)

        write_hdf5(file, fill)
        new = settings.of_file(file)
        return new.changed(
            inputs="x",
            targets="inputs" if y is None else "y",
            weights="" if weights is None else "w",
            group="",
        )

    def _coded(self, classes: Sequence[str] = ()) -> tuple[np.ndarray | None, Sequence[str]]:
        """Return the targets as numbers, and the names of their classes where they have some.

        Words are numbered by ``classes``, or in ascending order without them.
        """
        y = self.y
        if y is None or y.dtype.kind not in WORDS:
            return y, self.class_names
        words = np.array([str(value) for value in y.ravel().tolist()]).reshape(y.shape)
        found = np.unique(words).tolist()
        names = list(classes or found)
        unknown = [word for word in found if word not in names]
        if unknown:
            raise DataError(
                f"y: {unknown[0]!r} is none of the classes of the training rows: "
                f"{', '.join(names[:10])}{nearest(unknown[0], names)}"
            )
        number = {name: k for k, name in enumerate(names)}
        return np.array([number[word] for word in words.ravel()]).reshape(y.shape), names

    def _fill(self, file: h5py.File, coded: tuple[np.ndarray | None, Sequence[str]]) -> None:
        y, names = coded
        file["x"] = self.x
        if y is not None:
            file["y"] = y
            if names:
                file["y"].attrs["classes"] = list(names)
        if self.weights is not None:
            file["w"] = self.weights
        if self.groups is not None:
            file["group"] = np.unique(self.groups, return_inverse=True)[1]

    def _with_columns(
        self, frame: pd.DataFrame, settings: DataSettings
    ) -> tuple[pd.DataFrame, DataSettings]:
        """Return the frame with targets, weights and groups as columns, and settings that name
        them.
        """
        frame = frame.copy(deep=False)
        if self.y is not None:
            columns = self.y.reshape(len(self.y), -1)
            names = [_free(f"y{k}" if k else "y", frame) for k in range(columns.shape[1])]
            for name, column in zip(names, columns.T, strict=True):
                frame[name] = column
            settings = settings.changed(targets=",".join(names))
        if self.weights is not None:
            name = _free("weight", frame)
            frame[name] = self.weights
            settings = settings.changed(weights=name)
        if self.groups is not None:
            name = _free("group", frame)
            frame[name] = self.groups
            settings = settings.changed(group=name)
        return frame, settings

    def _table_for(self, encoding: Encoding) -> Table:
        """Return the rows as a table with the columns that ``encoding`` asks for."""
        import pandas as pd

        if is_frame(self.x):
            frame = self.x.copy(deep=False)
            frame.columns = pd.Index([str(name).strip() for name in frame.columns], dtype=object)
        else:
            names = [column.name for column in encoding.columns]
            whole = [n for n in encoding.table_columns if n not in _roles(encoding)]
            width = self.x.shape[1]
            if width == len(whole):
                names = whole
            if width != len(names):
                raise DataError(
                    f"x: rows of {width} numbers; expected a data frame with the columns "
                    f"{', '.join(names[:12])}, or arrays of {len(names)} in this order"
                )
            frame = pd.DataFrame(self.x, columns=pd.Index(names, dtype=object))
        if self.y is not None and encoding.target is not None:
            columns = self.y.reshape(len(self.y), -1)
            for name, column in zip(encoding.target.names, columns.T, strict=True):
                frame[name] = column
        return Table(_FRAME, frame)


def is_frame(data: object) -> TypeGuard[pd.DataFrame]:
    """Return whether ``data`` is a data frame of pandas, which is not imported for the answer."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def _roles(encoding: Encoding) -> set[str]:
    """Return the columns of a table that are targets, weights or groups."""
    targets = encoding.target.names if encoding.target is not None else ()
    return {*targets, encoding.weights, encoding.group}


def _free(name: str, frame: pd.DataFrame) -> str:
    """Return ``name``, or with lines appended where the frame has such a column."""
    while name in frame.columns:
        name += "_"
    return name


def _numbers(x: object) -> np.ndarray:
    """Return inputs as an array of numbers (N, ...); DataError for anything else."""
    array = np.asarray(x)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"x: {error}; expected numbers, or a data frame, whose words are encoded"
            ) from None
    if array.dtype.kind not in "biuf" or array.ndim < 2 or not len(array):
        raise DataError(
            f"x: found {array.dtype} of shape {array.shape}; expected rows of numbers, (N, D)"
        )
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _column(values: ArrayLike) -> np.ndarray:
    """Return targets or groups as an array whose type is that of the values."""
    array = np.asarray(values)
    return np.array(array.tolist()) if array.dtype.kind == "O" else array
