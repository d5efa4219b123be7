"""Siblings as a newcomer adds them: each is one file of ``tests/siblings``, in the folder of its
kind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import gnopt.curvature
import gnopt.engine.activations
import gnopt.engine.losses
import gnopt.metrics
import gnopt.optimizers
from gnopt.registry import discover

FOLDER = Path(__file__).parent / "siblings"
PACKAGES: dict[str, ModuleType] = {
    "activations": gnopt.engine.activations,
    "curvature": gnopt.curvature,
    "losses": gnopt.engine.losses,
    "metrics": gnopt.metrics,
    "optimizers": gnopt.optimizers,
}
NAMES = {kind: sorted(path.stem for path in (FOLDER / kind).glob("*.py")) for kind in PACKAGES}


@contextmanager
def added() -> Iterator[None]:
    """Let every package look into the folder of its kind as well, as if the files were its own."""
    before = {kind: list(package.__path__) for kind, package in PACKAGES.items()}
    for kind, package in PACKAGES.items():
        package.__path__.append(str(FOLDER / kind))
    discover.cache_clear()
    try:
        yield
    finally:
        for kind, package in PACKAGES.items():
            package.__path__[:] = before[kind]
            _forget(package, FOLDER / kind)
        discover.cache_clear()


def _forget(package: ModuleType, folder: Path) -> None:
    """Take the modules of a folder out of a package, so that the next import looks for them."""
    for name in [name for name in sys.modules if name.startswith(f"{package.__name__}.")]:
        if Path(sys.modules[name].__file__ or "").parent == folder:
            del sys.modules[name]
            delattr(package, name.rpartition(".")[2])
