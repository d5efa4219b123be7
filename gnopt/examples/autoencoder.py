"""A deep autoencoder of small images of curves, as in the paper."""

from pathlib import Path

import numpy as np

from gnopt.data.make_curves import SIZE, render
from gnopt.data.writing import new_file, new_table
from gnopt.examples import Example

ROWS = 1200

CONFIG = """\
# A deep autoencoder: images of curves through six numbers. The targets are the inputs themselves.
# The data come with this file: gnopt example autoencoder

[data]
file = "strokes.h5"              # without targets, the inputs are the targets

[network]
hidden = [200, 100, 50, 6, 50, 100, 200]
activation = ["tanh", "tanh", "tanh", "identity", "tanh", "tanh", "tanh"]   # a linear code
loss = "binary_cross_entropy"    # for numbers from 0 to 1

[training]
updates = 100                    # about ten seconds
"""


def make(path: Path, rng: np.random.Generator) -> None:
    """Write 1200 images (28, 28) of smooth strokes through three random points."""
    with new_file(path, "gnopt example autoencoder") as file:
        points = rng.uniform(2.0, SIZE - 2.0, (ROWS, 3, 2)).astype(np.float32)
        new_table(file, "x", ROWS, (SIZE, SIZE), np.uint8, scale=1 / 255)[:] = render(points)


EXAMPLE = Example(
    "autoencoder",
    "a deep autoencoder of small images",
    CONFIG,
    "strokes.h5",
    make,
    (
        "gnopt train autoencoder.toml --out runs/autoencoder",
        "gnopt plot runs/autoencoder --reconstructions",
        "gnopt predict runs/autoencoder strokes.h5 codes.h5 --layer code",
    ),
    other_names=("curves", "images"),
)
