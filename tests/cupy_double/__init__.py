"""A strict stand-in for CuPy on the host: what it accepts, and what it refuses, follows the real
wheel's interface.

* every name, method and keyword is looked up in ``cupy_api.json`` before anything is computed;
* arrays live apart from NumPy's: conversion and mixing with host arrays raise CuPy's errors;
* float32 linear algebra runs in float32; silent failures unless ``cupyx.errstate(linalg="raise")``;
* results of arithmetic are C-ordered and reductions 0-d, of solves and eigenvectors F-ordered;
* copies between host and device and waits of the host are counted;
* the bodies of element-wise kernels are compiled by g++: without it, tests that use the double are
  skipped (``COMPILER`` is None).

It knows nothing of streams, races, memory limits or speed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cupy_double.counters import COUNTERS, Counters
from cupy_double.kernels import COMPILER
from cupy_double.modules import build

__all__ = ["COMPILER", "COUNTERS", "Counters", "installed", "python_path"]
HERE = Path(__file__).parent


def python_path() -> str:
    """PYTHONPATH of a child process that shall find the double as CuPy, and gnopt as it is here."""
    return os.pathsep.join(map(str, (HERE / "site", HERE.parent, HERE.parents[1])))


@contextmanager
def installed(
    devices: int = 1, driver: int = 13020, version: str | None = None
) -> Iterator[Counters]:
    """Put the double in the place of ``cupy`` and ``cupyx`` for a while."""
    modules = build(devices, driver, version)
    ours = ("cupy", "cupyx")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ours}
    for name in before:
        del sys.modules[name]
    sys.modules.update(modules)
    try:
        COUNTERS.reset()
        yield COUNTERS
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in ours]:
            del sys.modules[name]
        sys.modules.update(before)
