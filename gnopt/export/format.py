"""The contract of an export format, and the choice of one by the suffix of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gnopt.errors import ConfigError
from gnopt.registry import discover
from gnopt.training.content import Content


class Format(ABC):
    """One format of files."""

    name: ClassVar[str]
    suffixes: ClassVar[Sequence[str]]  # in lower case, each with its dot

    @abstractmethod
    def write(self, content: Content, out: Path) -> None:
        """Write ``content`` to ``out``; GnoptError where the format cannot hold it."""

    def next_step(self, out: Path) -> str:
        """Return the command that makes something of ``out``, or nothing."""
        return ""


def formats() -> dict[str, Format]:
    """Return every format in this folder, by suffix."""
    found: dict[str, Format] = discover(__package__, "FORMAT")
    return {suffix: one for one in found.values() for suffix in one.suffixes}


def format_of(out: Path) -> Format:
    """Return the format of a file; ConfigError if its suffix names none."""
    known = formats()
    if out.suffix.lower() not in known:
        raise ConfigError(
            f"{out}: the suffix {out.suffix!r} names no format; expected {', '.join(known)}"
        )
    return known[out.suffix.lower()]


def export(content: Content, out: Path) -> None:
    """Write ``content`` to ``out``; ConfigError if the suffix of ``out`` names no format."""
    format_of(out).write(content, out)
