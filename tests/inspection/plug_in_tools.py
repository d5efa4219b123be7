"""The examples of docs/plug-ins.md, taken out of the page, so that what is written there is what is
tested.
"""

from __future__ import annotations

import types
from pathlib import Path

from docs_tools import ROOT, blocks

PAGE = ROOT / "docs" / "plug-ins.md"


def code(name: str) -> str:
    """The block that the page marks as this file."""
    found = {block.marks.get("file"): block.text for block in blocks(PAGE, PAGE.read_text())}
    assert name in found, f"docs/plug-ins.md holds no {name}"
    return found[name]


def module_of(name: str) -> types.ModuleType:
    """The example as a module."""
    module = types.ModuleType(name)
    exec(compile(code(f"{name}.py"), f"{name}.py", "exec"), module.__dict__)
    return module


def write_examples(folder: Path) -> None:
    """student_t.py, softsign.py and config.toml as a reader of the page would have them."""
    for name in ("student_t.py", "softsign.py", "config.toml"):
        (folder / name).write_text(code(name))
