"""Siblings are found by looking into their folder: adding one means adding one file."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterable
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
            f"unknown {what} '{name}'{nearest(name, found)}; known: {', '.join(found)}"
        )
    return found[name]


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
