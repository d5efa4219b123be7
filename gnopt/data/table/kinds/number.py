"""Columns of numbers, with cells that may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gnopt.data.table.cells import numbers_of
from gnopt.data.table.kinds import Findings, KindOf, Measured, where_known

if TYPE_CHECKING:
    import pandas as pd

# A column in which fewer of the cells are numbers holds words; the other cells count as missing.
MOSTLY = 0.9
# A column is compressed where its farthest value is this many times as far from the median as the
# values that lie in the middle half, or, where these are one number, as a usual other value.
FAR = 30.0


@dataclass(frozen=True, kw_only=True)
class Number(Measured):
    """A number x, or asinh((x − center) / spread) where the tails are heavy.

    asinh is linear near the centre and logarithmic far from it (Johnson 1949), so that a few large
    values leave the others distinct. A missing cell becomes ``median``; ``missing`` adds a number
    that is 1 there and 0 elsewhere.
    """

    center: float = 0.0
    spread: float = 0.0  # 0 = the number itself

    kind = "number"
    order = 0

    @classmethod
    def learn(
        cls, series: pd.Series, decimal: str, notes: list[str], exact: bool = False
    ) -> Self | None:
        values, strange = numbers_of(series, decimal)
        known = values[~np.isnan(values)]
        if not len(known) or len(known) < MOSTLY * (len(known) + strange.sum()):
            return None
        if strange.any():
            word = str(series.iloc[int(strange.argmax())])
            notes.append(
                f"{series.name}: {strange.sum():,} cells are no numbers, such as {word!r}: they "
                "count as missing"
            )
        # An observed value, so that whole numbers and flags stay what they are.
        median = float(np.quantile(known, 0.5, method="lower"))
        absent = len(values) - len(known)
        if absent:
            notes.append(
                f"{series.name}: {absent:,} missing cells become the median, {median:g}, and a "
                "column of their own tells where"
            )
        center, spread = (0.0, 0.0) if exact else _tails(known, median)
        if spread:
            notes.append(
                f"{series.name}: has far values (up to {known[np.abs(known - median).argmax()]:g} "
                f"about {median:g}): scaled by asinh((x - {center:g}) / {spread:g})"
            )
        return cls(
            name=str(series.name),
            median=median,
            missing=bool(absent),
            center=center,
            spread=spread,
        )

    def encode(self, series: pd.Series, decimal: str, findings: Findings) -> np.ndarray:
        values, strange = numbers_of(series, decimal)
        absent = np.isnan(values)
        if strange.any():
            word = str(series.iloc[int(strange.argmax())])
            findings.add(
                f"{self.name}: {{n}} cells are no numbers, such as {word!r}: they count as missing",
                strange.sum(),
            )
        if not self.missing:
            findings.add(
                f"{self.name}: {{n}} missing cells become the median, {self.median:g}: the column "
                "had none in the training table",
                (absent & ~strange).sum(),
            )
        x = np.where(absent, self.median, values)
        if self.spread:
            x = np.arcsinh((x - self.center) / self.spread)
        return self.beside(x, absent)

    def slopes(self, numbers: np.ndarray) -> np.ndarray:
        slopes = where_known(numbers)
        if self.spread:
            # d asinh(u) / du = 1 / √(1 + u²), with u = sinh of the number
            slopes[:, 0] /= self.spread * np.cosh(numbers[:, 0], dtype=np.float64)
        return slopes


def _tails(known: np.ndarray, median: float) -> tuple[float, float]:
    """Return centre and spread of the asinh, or (0, 0) where the tails are not heavy."""
    low, high = np.quantile(known, [0.25, 0.75])
    spread = float(high - low) / 2.0
    if spread == 0.0:
        away = np.abs(known[known != median] - median)
        spread = float(np.median(away)) if len(away) else 0.0
    farthest = float(np.abs(known - median).max())
    return (median, spread) if spread > 0.0 and farthest > FAR * spread else (0.0, 0.0)


KIND = KindOf(Number)
