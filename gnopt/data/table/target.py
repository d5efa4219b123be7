"""The columns of a table that are to be predicted."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gnopt.data.rows import natural_key
from gnopt.data.table.cells import numbers_of, text_of
from gnopt.data.table.form import Table
from gnopt.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

# A column in which more of the cells are numbers is meant to hold numbers.
MOSTLY_NUMBERS = 0.9


@dataclass(frozen=True, kw_only=True)
class Target:
    """Columns of numbers, or one column of ``classes``, which are the labels 0, 1, ..."""

    names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    @classmethod
    def learn(cls, table: Table, names: list[str], as_words: Container[str] = ()) -> Self:
        """Look at the columns; DataError for words among numbers, and for several of words.

        A column of words or booleans has classes, in their natural order, and so has one of
        ``as_words``. Other numbers stay numbers.
        """
        import pandas as pd

        classes: tuple[str, ...] = ()
        for name in names:
            series = table.frame[name]
            values, strange = numbers_of(series, table.decimal)
            known = int((~np.isnan(values)).sum())
            if known == 0 and not strange.any():
                raise DataError(f"{table.path}: the target {name!r} has no values")
            boolean = pd.api.types.is_bool_dtype(series.dtype)
            words_meant = boolean or name in as_words
            if not strange.any() and not words_meant:
                continue
            if not words_meant and known > MOSTLY_NUMBERS * (known + strange.sum()):
                row = int(strange.argmax())
                raise DataError(
                    f"{table.path}: {table.place(row)}: the target {name!r} is "
                    f"{str(series.iloc[row])!r}; expected a number, as in {known:,} other rows "
                    "(an empty cell leaves the row out; data.categories makes classes of numbers)"
                )
            if len(names) > 1:
                raise DataError(
                    f"{table.path}: the target {name!r} holds words; expected numbers in each of "
                    f"{len(names)} targets, or one target of words"
                )
            words = text_of(series).dropna().unique()
            classes = tuple(sorted(map(str, words), key=natural_key))
        return cls(names=tuple(names), classes=classes)

    def encode(self, table: Table) -> np.ndarray:
        """Return the targets: labels (N,) int64, −1 where the cell is missing; or numbers, (N,) or
        (N, K) float64, NaN where they are missing.

        Raises DataError for a word that is no class, or no number.
        """
        if self.classes:
            (name,) = self.names
            return self._labels(table, table.frame[name])
        columns = []
        for name in self.names:
            values, strange = numbers_of(table.frame[name], table.decimal)
            if strange.any():
                row = int(strange.argmax())
                raise DataError(
                    f"{table.path}: {table.place(row)}: the target {name!r} is "
                    f"{str(table.frame[name].iloc[row])!r}; expected a number"
                )
            columns.append(values)
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def _labels(self, table: Table, series: pd.Series) -> np.ndarray:
        words = text_of(series)
        number = {word: k for k, word in enumerate(self.classes)}
        labels = words.map(number).to_numpy(dtype=np.float64, na_value=np.nan)
        unknown = np.isnan(labels) & words.notna().to_numpy()
        if unknown.any():
            row = int(unknown.argmax())
            word = str(words.iloc[row])
            raise DataError(
                f"{table.path}: {table.place(row)}: the target {series.name!r} is {word!r}; "
                f"expected one of {', '.join(self.classes[:12])}{nearest(word, self.classes)}"
            )
        return np.where(np.isnan(labels), -1, labels).astype(np.int64)


def missing_targets(y: np.ndarray) -> np.ndarray:
    """Return which rows of what `Target.encode` returns have no target, (N,) bool."""
    missing: np.ndarray = np.isnan(y) if y.dtype.kind == "f" else y < 0
    return missing if missing.ndim == 1 else np.any(missing, axis=1)
