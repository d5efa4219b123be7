"""Siblings are found by looking into their folder: adding one means adding one file."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
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


def find_plug_ins(config: Path, names: Iterable[str]) -> None:
    """Let plug-ins among ``names`` be imported from beside the configuration and from the working
    directory.

    The configuration of a run stands in the run directory: its plug-ins lie beside the one that the
    run was started with. Called before `lookup`, and without effect where no name is a plug-in.
    """
    if not any(":" in name for name in names):
        return
    folders = [Path.cwd(), config.resolve().parent, source_folder(config)]
    sys.path[:0] = [str(place) for place in folders if str(place) not in sys.path]


def source_folder(config: Path) -> Path:
    """Return the folder of the configuration that a user wrote.

    It is the folder of ``config``, unless this is the one that a run keeps: then run.json beside it
    tells.
    """
    folder = config.resolve().parent
    try:
        recorded = json.loads((folder / "run.json").read_text()).get("config_folder")
    except (OSError, ValueError):  # it is not a run
        recorded = None
    return Path(recorded) if recorded else folder


def _plug_in(name: str, what: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{what} plug-in '{name}' cannot be loaded: {error}") from error
