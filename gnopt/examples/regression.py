"""Prices of houses from a table with numbers, words and missing cells."""

from pathlib import Path

import numpy as np

from gnopt.examples import Example
from gnopt.examples.made_table import with_gaps, write_table

ROWS = 800
DISTRICTS = {"centre": 1.6, "harbour": 1.3, "hills": 1.1, "north": 0.8, "station": 0.95}

CONFIG = """\
# Numbers from a table: the price of a house. The data come with this file: gnopt example regression

[data]
file = "houses.csv"
targets = "price"                # all other columns are inputs
standardize = true

[network]
hidden = [30, 30]
activation = "tanh"
loss = "squared_error"

[training]
metrics = ["r2", "mae"]          # on the training and the validation rows
updates = 1000                   # at most: the run stops when the validation loss falls no more
"""


def make(path: Path, rng: np.random.Generator) -> None:
    """Write 800 houses. Price (in thousands): area times the level of the district, less with age,
    more with a garden, and a tenth of noise.
    """
    area = rng.uniform(35.0, 220.0, ROWS).round()
    rooms = np.clip(np.round(area / 28.0 + rng.normal(0.0, 0.7, ROWS)), 1, 9).astype(int)
    age = rng.gamma(2.0, 18.0, ROWS).round()
    district = rng.choice(list(DISTRICTS), ROWS)
    garden = rng.random(ROWS) < np.where(district == "centre", 0.1, 0.6)
    level = np.array([DISTRICTS[name] for name in district])
    price = 2.4 * area * level * (0.7 + 0.3 * np.exp(-age / 30.0)) + 45.0 * garden * level
    price = (price * np.exp(rng.normal(0.0, 0.1, ROWS))).round(1)
    write_table(
        path,
        {
            "area": area,
            "rooms": rooms,
            "age": with_gaps(age, 0.06, rng),
            "district": district,
            "garden": np.where(garden, "yes", "no"),
            "price": price,
        },
    )


EXAMPLE = Example(
    "regression",
    "numbers from a table with words and missing cells: house prices",
    CONFIG,
    "houses.csv",
    make,
    ("gnopt train regression.toml",),
    other_names=("houses", "table"),
)
