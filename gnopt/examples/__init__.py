"""Examples that are ready to run: a configuration and small data, made by code from a seed.

Each file here that defines ``EXAMPLE`` is one of them, found by itself: `gnopt example` lists them
and writes them into a folder of the user.

Read in this order: ``made_table``; the examples do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.errors import ConfigError
from gnopt.files import claim, write_text
from gnopt.registry import discover, suggestion
from gnopt.rng import generator


@dataclass(frozen=True)
class Example:
    """One example.

    ``config`` is the text of the configuration ``NAME.toml``; it names the data file ``data``
    beside it. ``make`` writes that file from random numbers. ``commands`` are to be tried in order.
    """

    name: str
    summary: str
    config: str
    data: str
    make: Callable[[Path, np.random.Generator], None]
    commands: tuple[str, ...]
    other_names: tuple[str, ...] = ()

    def write(self, folder: Path, overwrite: bool) -> list[Path]:
        """Write configuration and data into ``folder``, and return both files.

        The numbers are the same every time. Raises ConfigError, with nothing written, for a file
        that exists, without ``overwrite``.
        """
        paths = [folder / f"{self.name}.toml", folder / self.data]
        config, data = (claim(path, overwrite) for path in paths)
        folder.mkdir(parents=True, exist_ok=True)
        self.make(data, generator(0, f"example {self.name}"))
        write_text(config, self.config)
        return paths


def all_examples() -> dict[str, Example]:
    """Return every example in this folder, by name."""
    return discover(__name__, "EXAMPLE")


def get_example(name: str) -> Example:
    """Return the example called ``name``; ConfigError if there is none."""
    found = all_examples()
    if name not in found:
        raise ConfigError(
            f"unknown example '{name}'{suggestion(name, found)}; known: {', '.join(found)}"
        )
    return found[name]
