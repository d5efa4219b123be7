"""A network small enough for a look at its exact curvature."""

from pathlib import Path

import numpy as np

from gnopt.examples import Example
from gnopt.examples.made_table import write_table

ROWS = 600
TURNS = 1.25
NOISE = 0.08  # so that the arms overlap: the curvature does not vanish at the end of training

CONFIG = """\
# Two spirals and a network of 354 weights: its exact Hessian and Gauss-Newton matrix fit into
# memory beside every approximation. The data come with this file: gnopt example curvature

[data]
file = "spirals.csv"
targets = "arm"

[network]
hidden = [16, 16]
activation = "tanh"
loss = "softmax_cross_entropy"

[training]
dtype = "float64"
updates = 300
"""


def make(path: Path, rng: np.random.Generator) -> None:
    """Write points of two spiral arms that wind about each other, with noise."""
    arm = rng.integers(0, 2, ROWS)
    along = np.sqrt(rng.uniform(0.03, 1.0, ROWS))
    angle = 2.0 * np.pi * TURNS * along + np.pi * arm
    x, y = (along * f(angle) + rng.normal(0.0, NOISE, ROWS) for f in (np.cos, np.sin))
    arms = np.where(arm == 1, "left", "right")
    write_table(path, {"x": (3.0 * x).round(4), "y": (3.0 * y).round(4), "arm": arms})


EXAMPLE = Example(
    "curvature",
    "exact curvature beside every approximation, on two spirals",
    CONFIG,
    "spirals.csv",
    make,
    (
        "gnopt train curvature.toml --out runs/curvature",
        "gnopt inspect-curvature runs/curvature --alignment",
        "gnopt inspect-curvature runs/curvature --curvature all --figures figures",
    ),
    other_names=("spirals", "inspect"),
)
