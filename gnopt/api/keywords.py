"""Keyword arguments of Python as keys of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gnopt.config import Flags
from gnopt.errors import ConfigError, nearest
from gnopt.optimizers import methods, options_of
from gnopt.settings import DEFAULT_METHOD, SHORT_NAMES, sections


def flags_of(keywords: Mapping[str, object]) -> Flags:
    """Return keyword arguments as `gnopt.config.load` takes flags.

    A keyword is a key as ``section__key``, a name of `SHORT_NAMES`, or a key without its section.
    Raises ConfigError for all keywords that are none of these, with the nearest names.

    >>> flags_of({"hidden": (8, 8), "max_updates": 5, "data__split": "end"})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'network.hidden': ('hidden=', [8, 8]), 'training.updates': ('max_updates=', 5),
     'data.split': ('data__split=', 'end')}
    """
    known = _short_keys()
    flags: dict[str, tuple[str, object]] = {}
    problems = []
    for keyword, value in keywords.items():
        section, separator, name = keyword.partition("__")
        key = f"{section}.{name}" if separator else known.get(keyword)
        if key is None:
            hint = nearest(keyword, known)
            problems.append(f"{keyword}: no such setting{hint}; gnopt config keys lists them all")
        elif key in flags:
            problems.append(f"{keyword} and {flags[key][0].rstrip('=')} both set {key}")
        else:
            flags[key] = (f"{keyword}=", _plain(value))
    if problems:
        raise ConfigError(problems)
    return flags


def _short_keys() -> dict[str, str]:
    """Return keyword → key for keys that need no section; the options of every method count."""
    found: dict[str, str] = {}
    for section, options in sections(DEFAULT_METHOD).items():
        for one in options:
            found.setdefault(one.name, f"{section}.{one.name}")
    for method in methods():
        for one in options_of(method):
            found.setdefault(one.name, f"optimizer.{one.name}")
    return {**found, **SHORT_NAMES}


def _plain(value: object) -> object:
    """Return a value as a configuration would hold it: lists, and numbers of Python."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
