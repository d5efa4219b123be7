"""A run counts its seconds by the clock that it is given."""

from itertools import count

import h5py
import numpy as np

from gnopt.config import load
from gnopt.training import start
from gnopt.training.loop import Reporter, run_to_end

CONFIG = """
[data]
file = "data.h5"
validation = 0
[network]
hidden = [3]
loss = "squared_error"
[optimizer]
method = "sgd"
[training]
max_seconds = 21
evaluate_every = 0
checkpoint_every = 0
"""


def test_the_seconds_of_a_run_are_those_of_its_clock(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.random.default_rng(0).normal(size=(20, 4))
    (tmp_path / "net.toml").write_text(CONFIG)
    ticks = count(step=7.0)  # each look at the clock is 7 seconds after the last
    trainer = start.begin(
        load(tmp_path / "net.toml"),
        tmp_path / "run",
        None,
        False,
        Reporter(),
        [],
        lambda _: None,
        clock=lambda: next(ticks),
    )
    counters = run_to_end(trainer).counters
    trainer.experiment.data.close()
    assert (counters.step, counters.seconds) == (3, 21.0)  # an update lasts from look to look
    assert counters.wall % 7.0 == 0.0 < counters.wall
