"""The interface of the real wheel, as written down by ``tests/gpu/make_cupy_api.py``."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("cupy_api.json")
UFUNC = "(*args, out=None, dtype=None, casting='same_kind')"  # no where=, no order=, no subok=


@cache
def api() -> dict[str, Any]:
    """The whole file."""
    return json.loads(PATH.read_text())


def members(owner: str) -> dict[str, str]:
    """Names of a module or class."""
    return api()["modules"].get(owner) or api()["classes"][owner]


@cache
def signature(owner: str, name: str) -> inspect.Signature | None:
    """The signature of a function or method (with ``self``); None where there is none to check."""
    entry = members(owner).get(name, "")
    text = UFUNC if entry == "ufunc" else entry
    if not text.startswith("("):
        return None
    scope: dict[str, Any] = {}
    exec(f"def f{text}: pass", scope)  # text out of our own file
    return inspect.signature(scope["f"])


def require(owner: str, name: str) -> None:
    """Raise AttributeError where CuPy has no such name."""
    if name not in members(owner):
        raise AttributeError(f"{owner}.{name} is not in CuPy {api()['version']}")


def check_call(owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError where CuPy's function does not take these arguments."""
    _check(owner, name, len(args), tuple(kwargs))


@cache
def _check(owner: str, name: str, count: int, keywords: tuple[str, ...]) -> None:
    require(owner, name)
    found = signature(owner, name)
    if found is None:
        return
    try:
        found.bind(*range(count), **dict.fromkeys(keywords))
    except TypeError as error:
        raise TypeError(f"{owner}.{name}{found}: {error}") from None
    if name == "einsum" and set(keywords) - {"dtype", "optimize"}:
        raise TypeError(f"Did not understand the following kwargs: {sorted(keywords)}")
