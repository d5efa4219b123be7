"""Write down the names and signatures of an installed CuPy wheel: ``python
tests/gpu/make_cupy_api.py``.

The double and the static check are bound to the result, ``cupy_api.json``. Neither a GPU, a driver
nor the CUDA libraries are needed: modules that cannot be imported without them are read by ``ast``.
A signature comes from ``inspect``, or else from the first line of the docstring (CuPy's compiled
functions have it there), or else from the source. An empty signature stands for "unknown".
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "cupy_double" / "cupy_api.json"
MODULES = (
    "cupy",
    "cupy.linalg",
    "cupy.random",
    "cupy.cuda",
    "cupy.cuda.runtime",
    "cupyx",
    "cupyx.linalg",
    "cupyx.scipy.linalg",
    "cupyx.scipy.special",
)
COMPILED = {
    "cupy.cuda.cusolver": "cupy_backends.cuda.libs.cusolver"
}  # not imported without CUDA's libraries
CLASSES = (
    "cupy.ndarray",
    "cupy.random.Generator",
    "cupy.ElementwiseKernel",
    "cupy.cuda.Device",
    "cupy.cuda.Stream",
    "cupy.cuda.Event",
    "cupy.cuda.MemoryPool",
    "cupy.cuda.PinnedMemoryPool",
)
SPECIAL = (
    "__array__",
    "__array_ufunc__",
    "__array_function__",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__len__",
    "__iter__",
    "__getitem__",
    "__setitem__",
    "__iadd__",
    "__imul__",
    "__imatmul__",
    "__matmul__",
    "__contains__",
)


def generate() -> dict[str, Any]:
    """{"version": ..., "modules": {module: {name: entry}}, "classes": {class: {name: entry}}}.

    An entry is ``ufunc``, ``value`` (modules, constants, properties), ``class`` or a function's
    signature ``(...)``.
    """
    import cupy

    modules = {name: _module(name) for name in MODULES} | {
        name: _compiled(own) for name, own in COMPILED.items()
    }
    for name in COMPILED:
        package, _, own = name.rpartition(".")
        modules[package][own] = "value"  # imported only when it is asked for
    classes = {}
    for path in CLASSES:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        members = {
            key: _entry(getattr(found, key), key)
            for key in dir(found)
            if not key.startswith("_") or key in SPECIAL
        }
        modules[module][name] = "class"  # also where it is imported only when it is asked for
        classes[path] = {"__init__": _signature(found, name), **members}
    return {"version": cupy.__version__, "modules": modules, "classes": classes}


def _module(name: str) -> dict[str, str]:
    try:
        module = importlib.import_module(name)
    except Exception:  # CUDA libraries that are not there end in errors of several kinds
        return _from_source(name)
    return {
        key: _entry(getattr(module, key), key)
        for key in sorted(dir(module))
        if not key.startswith("_")
    }


def _entry(found: Any, name: str) -> str:
    if type(found).__name__ == "ufunc" or (hasattr(found, "nargs") and hasattr(found, "nin")):
        return "ufunc"
    if inspect.isclass(found):
        return "class"
    if callable(found):
        return _signature(found, name)
    return "value"


def _signature(found: Any, name: str) -> str:
    try:
        return _plain(str(inspect.signature(found)))
    except (TypeError, ValueError):
        pass
    first = (getattr(found, "__doc__", None) or "").strip().split("\n\n")[0].replace("\n", " ")
    match = re.match(rf"(?:[\w.]+\.)?{re.escape(name)}(\(.*?\))(?:\s*(?:->.*)?)$", first)
    return _plain(match[1]) if match else ""


def _plain(text: str) -> str:
    """Return a signature with names and defaults alone: annotations go, and defaults that are not
    literals become ``...``.
    """
    text = re.sub(r"\s*->.*$", "", re.sub(r"<[^<>]*>", "...", text))
    try:
        arguments = ast.parse(f"def f{text}: pass").body[0].args  # type: ignore[attr-defined]
    except SyntaxError:
        # Cython writes C types before names: keep the last word of each argument.
        text = (
            "("
            + ", ".join(
                re.sub(r"^[\w\s.]*\s(\**\w+\s*(=.*)?)$", r"\1", part.strip())
                for part in text.strip("()").split(",")
            )
            + ")"
        )
        try:
            arguments = ast.parse(f"def f{text}: pass").body[0].args  # type: ignore[attr-defined]
        except SyntaxError:
            return ""
    for argument in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ):
        if argument is not None:
            argument.annotation = None
    for defaults in (arguments.defaults, arguments.kw_defaults):
        for i, default in enumerate(defaults):
            if default is not None and not isinstance(default, ast.Constant):
                defaults[i] = ast.Constant(...)
    return f"({ast.unparse(arguments)})"


def _from_source(name: str) -> dict[str, str]:
    """Return what the package's ``__init__`` imports, with signatures from the files that define
    it.
    """
    package, _, _ = name.partition(".")
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent.joinpath(*name.split(".")[1:])
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            file = (
                folder.parents[len(name.split(".")) - 1]
                .joinpath(*node.module.split("."))
                .with_suffix(".py")
            )
            definitions = _definitions(file) if file.is_file() else {}
            for alias in node.names:
                found[alias.asname or alias.name] = definitions.get(alias.name, "value")
    return dict(sorted((key, entry) for key, entry in found.items() if not key.startswith("_")))


def _compiled(name: str) -> dict[str, str]:
    """Signatures out of the docstrings that Cython leaves in a binary module, one a function."""
    package, _, module = name.rpartition(".")
    (folder,) = importlib.import_module(package).__path__
    (file,) = [
        path
        for path in Path(folder).iterdir()
        if re.fullmatch(rf"{module}\..*\.(so|pyd)", path.name)
    ]
    lines = re.findall(
        rb"(?<!\w)([a-z]\w*)(\((?:intptr_t|size_t|int|int64_t) \w+[^()\x00]*\))", file.read_bytes()
    )
    return {key.decode(): _plain(arguments.decode()) for key, arguments in sorted(set(lines))}


def _definitions(file: Path) -> dict[str, str]:
    return {
        node.name: _plain(f"({ast.unparse(node.args)})")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


if __name__ == "__main__":
    api = generate()
    PATH.write_text(json.dumps(api, indent=0, sort_keys=True) + "\n")
    parts = [*api["modules"].values(), *api["classes"].values()]
    signed = sum(entry.startswith("(") for part in parts for entry in part.values())
    print(
        f"CuPy {api['version']}: {sum(map(len, parts))} names, {signed} signatures, "
        f"{PATH.stat().st_size:,} bytes"
    )
