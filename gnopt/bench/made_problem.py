"""The built-in problem: an autoencoder on made data, for a bench without a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.data.writing import new_file, new_table
from gnopt.rng import generator
from gnopt.toml import to_toml

INPUTS = 784
SOURCES = 8  # numbers that an image is made of


@dataclass(frozen=True)
class MadeProblem:
    """A deep autoencoder with a linear code in its middle, and its batch."""

    hidden: tuple[int, ...]
    batch: int

    @property
    def rows(self) -> int:
        """Rows of the data: more than a batch, else steps would be judged without noise."""
        return 4 * self.batch


FULL = MadeProblem((1000, 500, 250, 30, 250, 500, 1000), 1000)
QUICK = MadeProblem((96, 32, 8, 32, 96), 200)


def write(problem: MadeProblem, folder: Path) -> Path:
    """Write data and configuration of ``problem`` into ``folder``; return the configuration."""
    data = folder / "made.h5"
    with new_file(data, "gnopt bench: images made of a few random sources") as file:
        table = new_table(file, "x", problem.rows, (INPUTS,), np.uint8, scale=1 / 255)
        table[:] = images(problem.rows)
    layers = ["tanh"] * len(problem.hidden)
    layers[len(layers) // 2] = "identity"
    path = folder / "bench.toml"
    path.write_text(
        to_toml(
            {
                "data": {"file": data.name, "validation": 0.0},
                "network": {
                    "hidden": list(problem.hidden),
                    "activation": layers,
                    "loss": "binary_cross_entropy",
                },
                "training": {"batch_size": problem.batch},
            }
        )
    )
    return path


def images(rows: int) -> np.ndarray:
    """Return bytes (rows, 784): the logistic function of random mixtures of normal numbers."""
    draw = generator(0, "bench")
    mixing = draw.standard_normal((SOURCES, INPUTS))
    logits = draw.standard_normal((rows, SOURCES)) @ mixing
    return np.rint(255.0 / (1.0 + np.exp(-logits))).astype(np.uint8)
