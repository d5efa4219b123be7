"""The page docs/configuration.md, written from the options themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from gnopt.options import REQUIRED, Option

Cells = tuple[str, str, str, str]  # of a row of a table

INTRODUCTION = """\
# Configuration

Every key that a configuration may hold. `gnopt config keys` prints the same in a terminal;
`gnopt config keys --markdown > docs/configuration.md` writes this page from the options
themselves, and a test keeps it in step.

A value comes from, in rising order: the default, the file, `--set section.key=value`, a dedicated
flag such as `--seed`. `gnopt config show CONFIG` shows every value and where it came from;
`gnopt config check CONFIG` names every problem at once."""

OF_METHODS = """
The other keys of this section depend on the method. Each table below holds what the methods in its
heading share: the same limits, default and meaning."""


def page(sections: Mapping[str, Sequence[Option]], methods: Mapping[str, Sequence[Option]]) -> str:
    """Return the page as Markdown: a table for each section, then the options of the methods.

    Options of methods are grouped by the methods that take them, large groups first.
    """
    lines = [INTRODUCTION]
    for name, options in sections.items():
        lines += ["", f"## [{name}]", "", *_table(map(_cells, options))]
    takers: dict[Cells, list[str]] = {}
    for method, options in methods.items():
        for option in options:
            takers.setdefault(_cells(option), []).append(method)
    groups: dict[tuple[str, ...], list[Cells]] = {}
    for cells, names in takers.items():
        groups.setdefault(tuple(names), []).append(cells)
    lines.append(OF_METHODS)
    for group in sorted(groups, key=len, reverse=True):
        every = len(group) == len(methods) > 1
        title = "Every method" if every else ", ".join(f"`{name}`" for name in group)
        lines += ["", f"### {title}", "", *_table(groups[group])]
    return "\n".join([*lines, ""])


def _cells(option: Option) -> Cells:
    known = option.default is not REQUIRED
    default = f"`{json.dumps(option.default, ensure_ascii=False)}`" if known else "required"
    return f"`{option.name}`", option.expected, default, option.doc


def _table(rows: Iterable[Cells]) -> list[str]:
    lines = [("key", "type", "default", "meaning"), ("---",) * 4, *rows]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines]
