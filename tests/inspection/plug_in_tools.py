"""The examples of docs/plug-ins.md, taken out of the page, so that what is written there is what is
tested.
"""

from __future__ import annotations

import re
import types
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plug-ins.md"


def code(name: str) -> str:
    """The block after the words "`name`:"; for a configuration, the block of TOML."""
    text = PAGE.read_text()
    if name.endswith(".toml"):
        found = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    else:
        found = re.search(rf"`{re.escape(name)}`:\n\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"docs/plug-ins.md holds no {name}"
    return found.group(1)


def module_of(name: str) -> types.ModuleType:
    """The example as a module."""
    module = types.ModuleType(name)
    exec(compile(code(f"{name}.py"), f"{name}.py", "exec"), module.__dict__)
    return module


def write_examples(folder: Path) -> None:
    """student_t.py, softsign.py and config.toml as a reader of the page would have them."""
    for name in ("student_t.py", "softsign.py", "config.toml"):
        (folder / name).write_text(code(name))
