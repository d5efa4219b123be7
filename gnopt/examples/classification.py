"""Three kinds of birds from a table of measurements."""

from pathlib import Path

import numpy as np

from gnopt.examples import Example
from gnopt.examples.made_table import with_gaps, write_table

# Kind → share of the rows, means of bill length and depth, wing (mm) and mass (g), and islands.
KINDS = {
    "auk": (0.45, (38.5, 18.2, 189.0, 3650.0), ("east", "west", "south")),
    "puffin": (0.2, (46.6, 18.0, 194.0, 3720.0), ("south",)),
    "guillemot": (0.35, (47.4, 15.0, 216.0, 5050.0), ("east",)),
}
DEVIATIONS = (2.9, 1.1, 6.6, 450.0)
ROWS = 360

CONFIG = """\
# One of several classes from a table. The data come with this file: gnopt example classification

[data]
file = "birds.csv"
targets = "kind"                 # words are classes; all other columns are inputs
standardize = true

[network]
hidden = [30]
activation = "tanh"
loss = "softmax_cross_entropy"

[training]
metrics = ["accuracy", "auc"]    # on the training and the validation rows
updates = 1000                   # at most: the run stops when the validation loss falls no more
"""


def make(path: Path, rng: np.random.Generator) -> None:
    """Write 360 birds: normal measurements about the means of their kind, 4 % of cells missing."""
    kind = rng.choice(list(KINDS), ROWS, p=[share for share, *_ in KINDS.values()])
    means = np.array([KINDS[name][1] for name in kind])
    size = rng.normal(0.0, 0.6, (ROWS, 1))  # large birds are large in every measure
    numbers = means + (size + rng.normal(0.0, 1.1, means.shape)) * DEVIATIONS
    islands = [str(rng.choice(KINDS[name][2])) for name in kind]
    columns = {
        name: with_gaps(column.round(1 if place < 2 else 0), 0.04, rng)
        for place, (name, column) in enumerate(
            zip(("bill_length", "bill_depth", "wing", "mass"), numbers.T, strict=True)
        )
    }
    write_table(path, {"island": islands, **columns, "kind": kind})


EXAMPLE = Example(
    "classification",
    "one of several classes from a table: kinds of birds",
    CONFIG,
    "birds.csv",
    make,
    ("gnopt train classification.toml",),
    other_names=("birds", "classifier", "iris", "penguins"),
)
