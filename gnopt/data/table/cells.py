"""What single cells mean: words for a missing value, numbers in every way people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# Cells that say "no value here" in the tables of R, pandas, Excel, SQL and the UCI repository.
MISSING = frozenset(
    ["", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nil", "?", ".", "-"]
)
_UNITS = re.compile(r"^[$€£¥]\s*|\s*[$€£¥%]$")
_GAPS = re.compile(r"(?<=\d)[ '\u00a0\u202f\u2009](?=\d{3}(?!\d))")
_THOUSANDS = {
    ".": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?"),
    ",": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?"),
}


def is_missing(cell: str) -> bool:
    """Return whether a cell holds no value, or a word for that.

    >>> [is_missing(cell) for cell in ("", " NA ", "0", "nobody")]
    [True, True, False, False]
    """
    return cell.strip().lower() in MISSING


def parse_number(cell: str, decimal: str = ".") -> float | None:
    """Return the number that a cell means, or None.

    Thousands may be set apart by the other mark, by a space or by an apostrophe; a currency sign or
    a sign of per cent is left out.

    >>> [parse_number(cell) for cell in ("1,234.5", "$ 12", "1 000 000", "7%", "1,23", "x")]
    [1234.5, 12.0, 1000000.0, 7.0, None, None]
    >>> parse_number("1.234,5", ",")
    1234.5
    """
    text = _GAPS.sub("", _UNITS.sub("", cell.strip()))
    other = "," if decimal == "." else "."
    if _THOUSANDS[decimal].fullmatch(text):
        text = text.replace(other, "")
    elif other in text and decimal == ",":
        return None
    if decimal == ",":
        text = text.replace(",", ".")
    if "_" in text:  # Python's own way to set thousands apart, which no table means
        return None
    try:
        return float(text)
    except ValueError:
        return None


def text_of(series: pd.Series) -> pd.Series:
    """Return a column as text without blanks around it, and None where a cell holds no value.

    Whole numbers are written without a fraction, so that 1 and 1.0 are the same category.
    """
    if series.dtype.kind == "f":
        whole = series.dropna()
        if len(whole) and np.isfinite(whole).all() and (whole == np.rint(whole)).all():
            series = series.astype("Int64")
    known = series.notna()
    text = series.astype(object).where(known, "").map(str).str.strip()
    return text.where(known & ~text.str.lower().isin(MISSING), None).astype(object)


def numbers_of(series: pd.Series, decimal: str = ".") -> tuple[np.ndarray, np.ndarray]:
    """Return a column as float64, NaN where a cell holds no finite number; and which cells hold a
    word that is neither a number nor a word for "missing", (N,) bool each.
    """
    import pandas as pd

    nothing = np.zeros(len(series), dtype=bool)
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_numeric_dtype(series.dtype):
        if series.dtype.kind == "c":
            return np.full(len(series), np.nan), ~nothing
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(values), values, np.nan), nothing
    if series.dtype.kind in "mM":
        return np.full(len(series), np.nan), ~nothing
    text = text_of(series)
    codes, words = pd.factorize(text)
    parsed = [parse_number(word, decimal) for word in words]
    values = np.array([np.nan if p is None else p for p in parsed] + [np.nan])
    strange = np.array([p is None for p in parsed] + [False])
    values = np.where(np.isfinite(values), values, np.nan)
    return values[codes], strange[codes]
