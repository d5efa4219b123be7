"""Columns of words: one number for each word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gnopt.data.table.cells import text_of
from gnopt.data.table.kinds import Findings, InputColumn, KindOf

if TYPE_CHECKING:
    import pandas as pd

# Words have a number of their own where they occur in so many rows, and in this share of them; and
# only the most frequent ones.
ROWS, SHARE, MOST = 5, 0.002, 60
OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True, kw_only=True)
class Category(InputColumn):
    """A number for each of the ``levels`` that is 1 in the rows with that word, else 0.

    ``rare`` words share the level "(other)", which words not met in training fall to as well;
    missing cells have the level "(missing)" where the training table had such cells. Two levels
    need one number, that of the second.
    """

    levels: tuple[str, ...]
    rare: bool = False
    missing: bool = False

    kind = "category"
    order = 2

    @classmethod
    def learn(
        cls, series: pd.Series, decimal: str, notes: list[str], exact: bool = False
    ) -> Self | None:
        counts = text_of(series).value_counts()
        rows = int(counts.sum())
        least = max(ROWS, SHARE * rows) if rows >= 10 * ROWS else 1
        kept = [str(word) for word, times in counts.items() if times >= least][:MOST]
        levels = tuple(sorted(kept))
        gone = len(counts) - len(levels)
        absent = len(series) - rows
        if not levels:
            return None
        text = f"{series.name}: {len(counts):,} different words"
        if gone:
            text += f", {gone:,} rare ones of which count as {OTHER}"
        if absent:
            text += f", and {absent:,} missing cells as {MISSING}"
        if gone or absent:
            notes.append(text)
        return cls(name=str(series.name), levels=levels, rare=gone > 0, missing=absent > 0)

    @property
    def all_levels(self) -> list[str]:
        """The levels in the order of their numbers."""
        return [*self.levels, *[OTHER] * self.rare, *[MISSING] * self.missing]

    @property
    def one_number(self) -> bool:
        """Whether two levels share one number."""
        return len(self.all_levels) == 2

    @property
    def features(self) -> list[str]:
        levels = self.all_levels[1:] if self.one_number else self.all_levels
        return [f"{self.name} = {level}" for level in levels]

    def encode(self, series: pd.Series, decimal: str, findings: Findings) -> np.ndarray:
        words = text_of(series)
        number = {level: k for k, level in enumerate(self.levels)}
        place = words.map(number).to_numpy(dtype=np.float64, na_value=-1.0)
        place = np.where(np.isnan(place), -1.0, place).astype(np.int64)
        absent = words.isna().to_numpy()
        unknown = (place < 0) & ~absent
        if self.rare:
            place[unknown] = self.all_levels.index(OTHER)
        elif unknown.any():
            word = str(words.iloc[int(unknown.argmax())])
            findings.add(
                f"{self.name}: {{n}} cells hold words that the training table lacks, such as "
                f"{word!r}: they count as none of its {len(self.levels):,} words",
                unknown.sum(),
            )
        if self.missing:
            place[absent] = self.all_levels.index(MISSING)
        else:
            findings.add(
                f"{self.name}: {{n}} missing cells count as none of the words: the column had none "
                "missing in the training table",
                absent.sum(),
            )
        x = np.zeros((len(words), len(self.all_levels)))
        at = np.flatnonzero(place >= 0)
        x[at, place[at]] = 1.0
        if self.one_number:
            # A word that is neither of the two lies between them.
            return np.where((place < 0)[:, None], 0.5, x[:, 1:])
        return x


KIND = KindOf(Category)
