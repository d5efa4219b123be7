"""A strict stand-in for CuPy on the host: it accepts and refuses what the real wheel does.

* every name, method and keyword is looked up in ``cupy_api.json`` before anything is computed;
* device arrays do not mix with NumPy's: conversions and operations with both raise CuPy's errors;
* float32 linear algebra runs in float32, and fails silently unless ``errstate(linalg="raise")``;
* results have CuPy's layouts: C order from arithmetic, Fortran's from solves and eigenvectors;
  reductions give 0-d arrays;
* copies between host and device, and waits of the host, are counted;
* g++ compiles the bodies of element-wise kernels; without it (``COMPILER`` is None) tests that run
  kernels are skipped.

It knows nothing of streams, races, memory limits or speed. tests/gpu/README.md says how tests use
it and how to extend it.
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
    """Return the PYTHONPATH with which a child process finds the double as CuPy, and this gnopt."""
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
