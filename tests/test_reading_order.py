"""Every package states in which order to read its modules; their imports agree with the order.

A package names its modules after the words "Reading order:" (or "Read in this order:") in its
docstring. A module may import only from modules before it, whether at its top or inside a function.
Siblings, which a registry finds by themselves, are not named and come last.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gnopt

ROOT = Path(gnopt.__file__).parent
SIBLINGS = {
    "ACTIVATION",
    "BACKEND",
    "CURVATURE",
    "ENGINE",
    "EXAMPLE",
    "FORM",
    "FORMAT",
    "KIND",
    "LOSS",
    "METRIC",
    "OPTIMIZER",
    "command",
}


def _name(path: Path) -> str:
    parts = ("gnopt", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in ROOT.rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


def _imports(module: str) -> set[str]:
    """The modules of gnopt that ``module`` imports anywhere in its text."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name in MODULES}


def _children(package: str) -> list[str]:
    return [
        name.rpartition(".")[2]
        for name in MODULES
        if name.rpartition(".")[0] == package and not name.endswith("__main__")
    ]


def _needs(package: str, child: str) -> set[str]:
    """The children of ``package`` that its child, with everything below it, imports from."""
    own = f"{package}.{child}"
    inside = [name for name in MODULES if name == own or name.startswith(f"{own}.")]
    wanted = {name for module in inside for name in _imports(module)}
    below = {name.removeprefix(f"{package}.") for name in wanted if name.startswith(f"{package}.")}
    return {name.partition(".")[0] for name in below} - {child}


def _documented(package: str) -> list[str]:
    doc = ast.get_docstring(TREES[package]) or ""
    match = re.search(r"Read(?:ing| in this) order:(.*?)(?:\n\n|\Z)", doc, re.DOTALL)
    names = re.findall(r"``(\w+)``", match[1]) if match else []
    return [name for name in dict.fromkeys(names) if name in _children(package)]


def _is_sibling(module: str) -> bool:
    names = {
        target.id
        for node in TREES[module].body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    names |= {node.name for node in TREES[module].body if isinstance(node, ast.FunctionDef)}
    return bool(names & SIBLINGS)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_order_names_every_module_that_is_no_sibling(package):
    siblings = {c for c in _children(package) if _is_sibling(f"{package}.{c}")}
    rest = [child for child in _children(package) if child not in siblings]
    documented = set(_documented(package))
    missing = [child for child in rest if child not in documented]
    assert not missing or len(rest) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_only_from_modules_before_them(package):
    order = _documented(package)
    allowed: set[str] = set()
    for child in order:
        assert _needs(package, child) <= allowed, child
        allowed.add(child)


@pytest.mark.parametrize("package", PACKAGES)
def test_siblings_do_not_import_each_other_in_a_circle(package):
    left = {
        child: _needs(package, child)
        for child in _children(package)
        if child not in _documented(package)
    }
    while left:
        free = [child for child, needs in left.items() if not needs & set(left)]
        assert free, left
        for child in free:
            del left[child]


def test_the_floors_of_the_package_are_those_of_the_paper():
    order = _documented("gnopt")
    floors = ["data", "engine", "curvature", "optimizers", "training", "compare", "plots", "cli"]
    assert [name for name in order if name in floors] == floors
    inner = _documented("gnopt.engine")
    assert inner.index("arrays") < inner.index("losses") < inner.index("network")
