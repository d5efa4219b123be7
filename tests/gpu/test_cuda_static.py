"""A static check: CuPy's interface has every name and keyword that the package asks of the array
module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cupy_double.api import UFUNC, api, members, signature

import gnopt

ROOT = Path(gnopt.__file__).parent
ROOMS = ("engine", "curvature", "optimizers", "inspection")
MODULES = {"xp": "cupy", "cupy": "cupy", "cupyx": "cupyx"}
# Functions of host arrays: targets as the data has them, and the backend's own NumPy side.
ON_THE_HOST = {"convert_targets", "outputs", "target_sum", "initial_bias", "floor", "check_range"}
HOST_FILES = {"engine/arrays/numpy.py", "engine/initializers.py"}


def files() -> list[Path]:
    return sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def dotted(node: ast.expr) -> str | None:
    """Return ``cupy.linalg.eigh`` for ``ops.xp.linalg.eigh``; None for other expressions."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    parts.reverse()
    for i, part in enumerate(parts):
        if part in MODULES:
            return ".".join([MODULES[part], *parts[i + 1 :]])
    return None


def split(path: str) -> tuple[str, str]:
    """Return the module and the name of a dotted path."""
    owner, _, name = path.rpartition(".")
    return owner, name


def uses(file: Path) -> Iterator[tuple[int, str, ast.Call | None]]:
    """Yield (line, dotted name, the call or None) for every use of the array module in a file."""
    tree = ast.parse(file.read_text())
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            path = dotted(node)
            if path and "." in path and "__version__" not in path:
                yield node.lineno, path, calls.get(id(node))


def problem(path: str, call: ast.Call | None) -> str | None:
    """Return what CuPy would say to this use; None where it would work."""
    owner, name = split(path)
    known = api()["modules"]
    if owner not in known:
        above, attribute = split(owner)
        if (
            above in known
            and attribute in members(above)
            and members(above)[attribute] in ("ufunc", "class")
        ):
            return None
        return f"{owner} is no module of CuPy's"
    if name not in members(owner):
        return f"{path} is not in CuPy"
    return call and complaint(owner, name, call)


def complaint(owner: str, name: str, call: ast.Call, method: bool = False) -> str | None:
    found = signature(owner, name)
    if (
        found is None
        or any(isinstance(a, ast.Starred) for a in call.args)
        or any(k.arg is None for k in call.keywords)
    ):
        return None
    keywords = {k.arg: None for k in call.keywords if k.arg}
    if name == "einsum" and keywords.keys() - {"dtype", "optimize"}:
        return f"einsum takes no {sorted(keywords)}"
    try:
        found.bind(*([None] if method else []), *call.args, **keywords)
    except TypeError as error:
        return f"{owner}.{name}{found}: {error}"
    return None


def test_names_and_keywords_of_the_array_module(capsys):
    names, calls, problems = set(), 0, []
    for file in files():
        for line, path, call in uses(file):
            names.add(path)
            calls += call is not None
            found = problem(path, call)
            if found:
                problems.append(f"{file.relative_to(ROOT)}:{line}: {found}")
    assert not problems, "\n".join(problems)
    checked = sum(1 for path in names if signature(*split(path)) is not None)
    with capsys.disabled():
        print(
            f"\nCuPy {api()['version']}: {len(names)} names of the array module in use, "
            f"{checked} of them with a "
            f"signature, {calls} calls checked in {len(files())} files"
        )
    assert len(names) >= 50
    assert calls >= 100


def method_calls(file: Path) -> Iterator[tuple[int, ast.Call]]:
    """Yield calls of methods that NumPy's arrays have, except in functions that see host arrays
    only.
    """

    def visit(node: ast.AST) -> Iterator[tuple[int, ast.Call]]:
        if isinstance(node, ast.FunctionDef) and node.name in ON_THE_HOST:
            return
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and dotted(node.func) is None
            and hasattr(np.ndarray, node.func.attr)
            and not on_numpy(node.func.value)
        ):
            yield node.lineno, node
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(file.read_text()))


def on_numpy(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "np" for n in ast.walk(node))


def test_methods_of_arrays(capsys):
    names, problems, calls = set(), [], 0
    for file in files():
        if file.relative_to(ROOT).as_posix() in HOST_FILES or "inspection" in file.parts:
            continue
        for line, call in method_calls(file):
            name = call.func.attr
            names.add(name)
            calls += 1
            if name not in members("cupy.ndarray"):
                problems.append(f"{file.relative_to(ROOT)}:{line}: no method {name} in CuPy")
            elif found := complaint("cupy.ndarray", name, call, method=True):
                problems.append(f"{file.relative_to(ROOT)}:{line}: {found}")
    assert not problems, "\n".join(problems)
    with capsys.disabled():
        print(
            f"\nCuPy {api()['version']}: {len(names)} methods of arrays in use, {calls} calls "
            "checked"
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xp.block([a])", "not in CuPy"),
        ("ops.xp.mean(a, where=m)", "where"),
        ("xp.add(a, b, where=m)", "where"),
        ("net.ops.xp.einsum('i->', a, out=b)", "out"),
        ("xp.linalg.multi_dot([a])", "not in CuPy"),
        ("xp.sum(a, initial=0.0)", "initial"),
        ("xp.testing.nothing()", "no module"),
    ],
)
def test_the_check_finds_what_cupy_lacks(text, words, tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(text)
    ((_, path, call),) = uses(file)
    assert words in str(problem(path, call))


def test_cupy_is_imported_in_one_file():
    found = [
        file.relative_to(ROOT).as_posix()
        for file in sorted(ROOT.rglob("*.py"))
        if any(
            line.strip().startswith(("import cupy", "from cupy"))
            for line in file.read_text().splitlines()
        )
    ]
    assert found == ["engine/arrays/cupy.py"]


def test_what_the_interface_knows():
    assert UFUNC
    assert members("cupy")["exp"] == "ufunc"
    assert "where" not in str(signature("cupy", "add"))
    assert "initial" not in str(signature("cupy", "sum"))
    assert not {"block", "errstate", "einsum_path", "nditer"} & set(members("cupy"))
    assert not {"permutation", "shuffle", "choice", "normal"} & set(
        members("cupy.random.Generator")
    )
    assert "cho_solve" not in members("cupyx.scipy.linalg")
