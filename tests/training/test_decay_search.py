"""Weight decay by cross-validation before a run."""

import json

import h5py
import numpy as np
import pytest

from gnopt.config import load
from gnopt.training import decay_search
from gnopt.training.setup import build

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = {validation}
[network]
hidden = [8]
loss = "{loss}"
[training]
updates = {updates}
checkpoint_every = 30
"""


def write(folder, noise=1.0, loss="squared_error", rows=80, validation=0, updates=60):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 6))
    y = np.sin(x[:, :1]) + noise * rng.standard_normal((rows, 1))
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"] = x, y if loss == "squared_error" else (y[:, 0] > 0).astype(np.int64)
    text = CONFIG.format(loss=loss, validation=validation, updates=updates)
    (folder / "net.toml").write_text(text)
    return folder / "net.toml"


@pytest.fixture
def experiment(tmp_path):
    opened = []

    def make(*sets, **facts):
        opened.append(build(load(write(tmp_path, **facts), sets)))
        return opened[-1]

    yield make
    for e in opened:
        e.data.close()


def test_noisy_targets_get_more_decay_than_clean_ones(experiment):
    noisy, clean = (decay_search.search(experiment(noise=noise)) for noise in (1.0, 0.0))
    assert noisy.best.decay > 10.0 * clean.best.decay
    assert [t.decay for t in noisy.trials] == pytest.approx([10.0**p for p in decay_search.PLACES])
    for choice in (noisy, clean):
        assert f"{choice.best.decay:.2g}" in choice.text
        assert json.loads(json.dumps(choice.facts()))["best"]["decay"] == choice.best.decay


def test_the_same_seed_chooses_the_same(experiment):
    first, second = (decay_search.search(experiment()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_parts_hold_out_every_row_once(experiment, loss):
    e = experiment(loss=loss)
    parts = list(decay_search._parts(e, 4))
    held = np.concatenate([part.held_x for part in parts])
    whole = e.data.train.rows_at(0, 80)[0]
    assert sorted(map(tuple, held)) == sorted(map(tuple, whole))
    for part in parts:
        assert len(part.x) + len(part.held_x) == 80
        batch = np.concatenate([part.batch(30)[0] for _ in range(2)])
        assert len({tuple(row) for row in batch}) == 60  # an epoch holds every row once
        assert len(part.batch(10_000)[0]) == len(part.x)


def test_the_budget_of_the_run_plays_no_part(experiment):
    folds = {
        decay_search.folds_within(experiment(*sets))
        for sets in ((), ("training.updates=1",), ("training.max_seconds=0.1",))
    }
    assert len(folds) == 1
    assert folds.pop() >= 1


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ((), True),
        (("training.aim=objective",), False),
        (("optimizer.weight_decay=1e-4",), False),
        (("optimizer.weight_decay=evidence",), False),
        (("training.aim=objective", "optimizer.weight_decay=cross_validation"), True),
        (("optimizer.method=adam",), False),
        (("network.hidden=[1000,1000,1000]", "training.batch_size=80"), False),
    ],
)
def test_a_search_is_made_where_it_is_asked_for_or_cheap(experiment, sets, expected):
    assert decay_search.wanted(experiment(*sets)) is expected


def test_losses_are_averaged_with_their_neighbours():
    smooth = decay_search._smoothed([np.e, 1.0, np.e, np.e**3])
    assert smooth == pytest.approx([0.75, 0.5, 1.25, 2.5])
    assert decay_search._smoothed([-1.0, 1.0, 1.0]) == pytest.approx([-0.5, 0.5, 1.0])
    assert decay_search._smoothed([1.0, 1.0, float("inf")])[:1] == [0.0]
