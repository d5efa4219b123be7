"""Siblings are found by looking into their folder: adding one means adding one file."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from gnopt import plug_ins
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
        return plug_ins.find(name, what)
    found = discover(package, attribute)
    if name not in found:
        raise ConfigError(
            f"unknown {what} '{name}'{suggestion(name, found)}; known: {', '.join(found)}"
        )
    return found[name]


def suggestion(name: str, siblings: Mapping[str, object]) -> str:
    """Return a hint at the sibling that is meant by ``name``, to be put at the end of a message.

    A sibling lists in ``other_names`` what other programs call it; case and punctuation do not
    count. Without such a sibling, the hint is at the nearest name, or empty.

    >>> from types import SimpleNamespace as Sibling
    >>> losses = {"squared_error": Sibling(other_names=("mse_loss",)), "poisson": Sibling()}
    >>> suggestion("MSELoss", losses), suggestion("poison", losses)
    (" (gnopt calls it 'squared_error')", " (did you mean 'poisson'?)")
    """
    for own, sibling in siblings.items():
        if _folded(name) in map(_folded, (own, *getattr(sibling, "other_names", ()))):
            return f" (gnopt calls it '{own}')"
    return nearest(name, siblings)


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
