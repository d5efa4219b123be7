"""Siblings are found by looking into their folder: adding one means adding one file."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from gnopt.errors import ConfigError, nearest


@cache
def discover(package: str, attribute: str) -> dict[str, Any]:
    """Map name → object for every module of ``package`` that defines ``attribute`` (which has a
    ``name``).
    """
    folder = importlib.import_module(package)
    found = {}
    for module_info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{package}.{module_info.name}")
        sibling = getattr(module, attribute, None)
        if sibling is not None:
            found[sibling.name] = sibling
    return dict(sorted(found.items()))


def lookup(package: str, attribute: str, name: str, what: str) -> Any:
    """Return the sibling called ``name``, or the plug-in named ``"module:Name"``; ConfigError
    otherwise.
    """
    if ":" in name:
        return _plug_in(name, what)
    found = discover(package, attribute)
    if name not in found:
        raise ConfigError(
            f"unknown {what} '{name}'{nearest(name, found)}; known: {', '.join(found)}"
        )
    return found[name]


def _plug_in(name: str, what: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{what} plug-in '{name}' cannot be loaded: {error}") from error
