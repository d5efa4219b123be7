"""Paths and commands as a user would write them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def shown(path: Path) -> str:
    """Return a path as a user would write it: from the working directory if it lies below."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield lines below each other, the first after a title."""
    for number, line in enumerate(lines):
        yield (title if number == 0 else " " * len(title)) + line
