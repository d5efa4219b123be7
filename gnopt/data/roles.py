"""What a configuration says of a table: how its text is written, and which columns are for what."""

from __future__ import annotations

from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True)
class TableForm:
    """How a file of text is written; "auto" leaves it to the file."""

    header: str = AUTO  # "yes" or "no": whether the first line names the columns
    separator: str = AUTO  # a character, or "space" for any number of spaces and tabs
    decimal: str = AUTO  # "." or ","
    encoding: str = AUTO  # UTF-8, or UTF-16 with its mark; else a name that Python knows


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which columns of a table are for what: names, or numbers from 0 with −1 for the last, joined
    by commas; "" names none.
    """

    inputs: str = ""  # "" = all columns that are nothing else
    targets: str = ""
    weights: str = ""
    group: str = ""
    drop: str = ""
    categories: str = ""  # columns whose numbers are words
    exact: bool = False  # leave numbers as they are, also constant and repeated columns
    prefix: str = "data."  # of the roles' names in messages: that of keys, or "--" of flags
