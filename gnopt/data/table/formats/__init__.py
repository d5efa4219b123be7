"""The kinds of files that hold a table: one module for each, found by `gnopt.registry`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from gnopt.data.table.form import Format
from gnopt.registry import discover


def all_formats() -> dict[str, Format]:
    """Return name → format."""
    return cast("dict[str, Format]", discover(__name__, "FORMAT"))


def find_format(path: Path, head: bytes) -> Format | None:
    """Return the format of a file that starts with the bytes ``head``, None if it is no table."""
    return next((f for f in all_formats().values() if f.recognises(path, head)), None)


def format_of_suffix(path: Path) -> Format | None:
    """Return the format that the name of a file asks for, with or without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return next((f for f in all_formats().values() if name.endswith(f.suffixes)), None)
