"""Columns of dates and times."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gnopt.data.table.cells import text_of
from gnopt.data.table.kinds import Findings, KindOf, Measured, where_known

if TYPE_CHECKING:
    import pandas as pd

_DAY = 86_400.0
# Year first, as ISO 8601 has it, or a day or month first with a four-digit year.
_FORM = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}([T ]\d{1,2}:\d{2}.*)?"
)


@dataclass(frozen=True, kw_only=True)
class Date(Measured):
    """Days since 1970-01-01, with a fraction for the time of the day; missing ones as the median.

    ``day_first`` tells 03.04.2020 of April from that of March.
    """

    day_first: bool = False

    kind = "date"
    order = 1

    @classmethod
    def learn(
        cls, series: pd.Series, decimal: str, notes: list[str], exact: bool = False
    ) -> Self | None:
        day_first = False
        if series.dtype.kind not in "mM":
            words = text_of(series).dropna()
            if not len(words) or not words.map(lambda w: bool(_FORM.fullmatch(w))).all():
                return None
            day_first = _day_first(words)
        days = _days(series, day_first)
        known = days[~np.isnan(days)]
        if not len(known):
            return None
        absent = len(days) - len(known)
        order = ", the day before the month" if day_first else ""
        gone = f"; {absent:,} missing ones become the median" if absent else ""
        notes.append(f"{series.name}: dates become days since 1970-01-01{order}{gone}")
        median = float(np.quantile(known, 0.5, method="lower"))
        return cls(name=str(series.name), median=median, missing=bool(absent), day_first=day_first)

    def encode(self, series: pd.Series, decimal: str, findings: Findings) -> np.ndarray:
        days = _days(series, self.day_first)
        absent = np.isnan(days)
        if not self.missing:
            findings.add(
                f"{self.name}: {{n}} cells are no dates: they become the median", absent.sum()
            )
        x = np.where(absent, self.median, days)
        return self.beside(x, absent)

    def slopes(self, numbers: np.ndarray) -> np.ndarray:
        """Return derivatives by the day."""
        return where_known(numbers)


def _days(series: pd.Series, day_first: bool) -> np.ndarray:
    import pandas as pd

    if series.dtype.kind == "m":
        seconds: np.ndarray = series.dt.total_seconds().to_numpy(dtype=np.float64)
        return seconds / _DAY
    if series.dtype.kind != "M":
        series = text_of(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that pandas guesses
        times = pd.to_datetime(
            series, errors="coerce", dayfirst=day_first, format="mixed", utc=True
        )
    days = (times - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(days=1)
    found: np.ndarray = days.to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _day_first(words: pd.Series) -> bool:
    """Return whether the first of two numbers is the day: above 12 anywhere, or points between."""
    parts = words.str.split(r"[-/.T ]", regex=True)
    first = parts.str[0]
    if first.str.len().max() == 4:
        return False
    if parts.str[1].astype(int).max() > 12:
        return False
    return bool(first.astype(int).max() > 12) or bool(
        words.str.contains(r"^\d+\.", regex=True).all()
    )


KIND = KindOf(Date)
