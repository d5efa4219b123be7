"""Counts: how many bicycles are rented in an hour."""

from pathlib import Path

import numpy as np

from gnopt.examples import Example
from gnopt.examples.made_table import write_table

ROWS = 1000
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

CONFIG = """\
# Counts from a table: bicycles that are rented in an hour. The network gives the logarithm of the
# expected count. The data come with this file: gnopt example counts

[data]
file = "rentals.csv"
targets = "rentals"              # whole numbers from 0; all other columns are inputs
standardize = true

[network]
hidden = [30, 30]
activation = "tanh"
loss = "poisson"

[training]
metrics = ["deviance"]           # on the training and the validation rows
updates = 1000                   # at most: the run stops when the validation loss falls no more
"""


def make(path: Path, rng: np.random.Generator) -> None:
    """Write 1000 hours. The rate has peaks in the morning and the evening of working days and one
    at noon of the weekend, rises with temperature and falls with rain.
    """
    hour = rng.integers(0, 24, ROWS)
    day = rng.choice(DAYS, ROWS)
    temperature = rng.normal(14.0, 8.0, ROWS).round(1)
    rain = (rng.gamma(0.4, 2.0, ROWS) * (rng.random(ROWS) < 0.4)).round(1)
    free = np.isin(day, DAYS[5:])
    working = np.exp(-(((hour - 8) / 1.5) ** 2)) + 1.3 * np.exp(-(((hour - 17.5) / 2.0) ** 2))
    shape = np.where(free, 1.1 * np.exp(-(((hour - 13) / 4.0) ** 2)), working)
    rate = 2.0 + 60.0 * shape * np.exp(0.04 * np.minimum(temperature - 14.0, 12.0) - 0.25 * rain)
    columns = {"hour": hour, "day": day, "temperature": temperature, "rain": rain}
    write_table(path, {**columns, "rentals": rng.poisson(rate)})


EXAMPLE = Example(
    "counts",
    "counts from a table: bicycles rented in an hour (Poisson)",
    CONFIG,
    "rentals.csv",
    make,
    ("gnopt train counts.toml",),
    other_names=("poisson", "rentals"),
)
