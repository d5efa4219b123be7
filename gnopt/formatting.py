"""Numbers and sizes as text for people, and where text is printed: one rule for every table and
message.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

ABSENT = "–"


def number(value: float | None, digits: int = 5) -> str:
    """Return a float in ``digits`` digits, an integer in full; a dash for None and NaN.

    >>> number(0.1234567), number(1234567), number(None), number(float("inf"))
    ('0.12346', '1,234,567', '–', '∞')
    """
    if value is None or value != value:
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    return "∞" if value == inf else f"{value:.{digits}g}"


def digits(value: float | None, count: int = 4) -> str:
    """Return a float with so many digits, zeros at its end too, for columns of similar numbers.

    >>> digits(0.5), digits(1234.5), digits(45.7), digits(98765.4), digits(3e-7), digits(None)
    ('0.5000', '1234', '45.70', '98,765', '3.000e-07', '–')
    """
    if value is None or value != value or abs(value) == inf or value == 0.0:
        return number(value)
    if 10.0**count - 0.5 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:#.{count}g}".removesuffix(".")


def duration(seconds: float) -> str:
    """Return a time in the units that people use for it.

    >>> duration(6.1), duration(75), duration(3723), duration(90_000)
    ('6.1 s', '1:15 min', '1:02 h', '25:00 h')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(round(seconds / 60.0), 60)
    return f"{hours}:{minutes:02d} h"


def in_bytes(count: float) -> str:
    """Return a number of bytes with its unit.

    >>> in_bytes(999), in_bytes(3_200_000)
    ('999 bytes', '3.2 MB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def with_prefix(count: float | None) -> str:
    """Return a count with a decimal prefix, for narrow columns of bytes or flops; a dash for None.

    >>> with_prefix(3_200_000), with_prefix(None)
    ('3.2M', '–')
    """
    if count is None:
        return ABSENT
    for unit in ("", "k", "M", "G", "T"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000.0
    return f"{count:.3g}P"


def plain_console(width: int | None = None, stderr: bool = False) -> Console:
    """Return a console of rich that prints text as it is.

    Names of files, datasets and methods are a user's own: ``[/b]`` in one is no markup, and
    ``:smile:`` no picture.
    """
    from rich.console import Console

    return Console(width=width, stderr=stderr, highlight=False, markup=False, emoji=False)
