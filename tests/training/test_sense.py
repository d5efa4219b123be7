"""Doubts about data and loss: what is told, and what is not."""

import h5py
import numpy as np
import pytest

from gnopt import config
from gnopt.errors import DataError
from gnopt.training.sense import doubts
from gnopt.training.setup import build


def told(folder, loss, arrays, **data):
    """Return the doubts of a run on these arrays, or the error."""
    with h5py.File(folder / "d.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    lines = [f'{name} = "{value}"' for name, value in data.items()]
    text = "\n".join(
        ["[data]", 'file = "d.h5"', *lines, "[network]", "hidden = [4]", f'loss = "{loss}"']
    )
    (folder / "c.toml").write_text(text)
    experiment = build(config.load(folder / "c.toml"))
    with experiment.data:
        return "\n".join(doubts(experiment.config, experiment.data, experiment.loss))


DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(200, 3))
SORTED = np.repeat([0, 1, 2, 3], 50)
PRICE = DRAW.normal(1e4, 1e3, 200)


@pytest.mark.parametrize(
    ("loss", "arrays", "data", "words"),
    [
        ("squared_error", {"y": SORTED}, {}, 'to predict y: data.targets = "y"'),
        ("squared_error", {"y": SORTED}, {"targets": "inputs"}, ""),
        ("squared_error", {}, {}, ""),
        ("squared_error", {"y": SORTED}, {"targets": "y"}, '"softmax_cross_entropy"'),
        ("squared_error", {"y": SORTED % 2}, {"targets": "y"}, '"binary_cross_entropy"'),
        ("squared_error", {"y": PRICE}, {"targets": "y"}, ""),
        ("squared_error", {"y": np.arange(200)}, {"targets": "y"}, ""),
        ("poisson", {"y": np.abs(PRICE)}, {"targets": "y"}, '"squared_error"'),
        ("poisson", {"y": SORTED}, {"targets": "y"}, ""),
        ("softmax_cross_entropy", {"y": SORTED}, {"targets": "y"}, ""),
        (
            "softmax_cross_entropy",
            {"y": SORTED},
            {"targets": "y", "split": "end"},
            "the validation rows hold 1 of 4 classes",
        ),
    ],
)
def test_doubts(tmp_path, loss, arrays, data, words):
    found = told(tmp_path, loss, {"x": X, **arrays}, **data)
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("loss", "data", "words"),
    [
        ("softmax_cross_entropy", {}, "data.targets is not set.*such as y"),
        ("binary_cross_entropy", {}, "data.targets is not set.*such as y"),
        ("binary_cross_entropy", {"targets": "price"}, "loss squared_error takes numbers"),
    ],
)
def test_targets_that_a_loss_does_not_take(tmp_path, loss, data, words):
    with pytest.raises(DataError, match=words):
        told(tmp_path, loss, {"x": X, "y": SORTED, "price": PRICE}, **data)


def test_words_for_a_loss_of_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20)
    config_text = '[data]\nfile = "t.csv"\ntargets = "b"\n[network]\nhidden = [3]\nloss = "{}"\n'
    (tmp_path / "c.toml").write_text(config_text.format("squared_error"))
    with pytest.raises(DataError, match=r"'b' holds words, such as x, y"):
        build(config.load(tmp_path / "c.toml"))
