"""Plug-ins that the tests of this folder export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gnopt import plug_ins


def _provide(folder: Path, module: str) -> None:
    plug_ins.allow_beside(folder / "config.toml")
    plug_ins.provide(folder / "config.toml", [f"{module}:any"])


@pytest.fixture(autouse=True, scope="module")
def operations() -> None:
    _provide(Path(__file__).parent, "operations")


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], None]:
    """Make a text the plug-in ``mine``."""

    def write(text: str) -> None:
        (tmp_path / "mine.py").write_text(text)
        _provide(tmp_path, "mine")

    return write
