"""The notes of a run, at its start, on inputs and targets of a bad scale."""

import h5py
import numpy as np
import pytest

from gnopt.config import load
from gnopt.training.advice import scale_notes
from gnopt.training.setup import build

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
[network]
hidden = [4]
loss = "{loss}"
"""


def notes(folder, x, y, loss="squared_error", *sets):
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"] = x, y
    (folder / "net.toml").write_text(CONFIG.format(loss=loss))
    experiment = build(load(folder / "net.toml", sets))
    try:
        return scale_notes(experiment)
    finally:
        experiment.data.close()


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    return random.normal(size=(300, 3)), random.normal(size=(300, 2))


def test_usual_scales_say_nothing(tmp_path, table):
    assert notes(tmp_path, *table) == []
    # A constant target has no scale.
    assert notes(tmp_path, table[0], 5.0 + np.zeros((300, 2))) == []


def test_large_inputs_are_standardised_and_the_note_names_the_column(tmp_path, table):
    x, y = table
    x[:, 1] += 2000.0
    (note,) = notes(tmp_path, x, y)
    assert "inputs are standardised: column 1" in note
    assert "2e+03" in note
    assert "data.standardize = false" in note
    assert notes(tmp_path, x, y, "squared_error", "data.standardize=true") == []


@pytest.mark.parametrize(("factor", "words"), [(1e3, "root mean square"), (1e-8, "no column")])
def test_inputs_left_as_they_are_are_noted(tmp_path, table, factor, words):
    x, y = table
    (note,) = notes(tmp_path, factor * x, y, "squared_error", "data.standardize=false")
    assert words in note
    assert "data.standardize = true" in note
    assert notes(tmp_path, 0.0 * x, y, "squared_error", "data.standardize=false") == []


def test_large_inputs_of_an_autoencoder_are_noted(tmp_path, table):
    (note,) = notes(tmp_path, 100.0 * table[0], table[1], "squared_error", "data.targets=inputs")
    assert "slow training down" in note
    assert "'scale'" in note


@pytest.mark.parametrize(("factor", "scale"), [(1e5, "1e-05"), (1e-4, "1e+04")])
@pytest.mark.parametrize(
    ("init", "words"), [("auto", "output weights start in these units"), ("he", "init = auto")]
)
def test_targets_far_from_unit_deviation_are_noted(tmp_path, table, factor, scale, init, words):
    x, y = table
    (note,) = notes(tmp_path, x, y * factor, "squared_error", f"network.init={init}")
    assert "targets deviate" in note
    assert f"about {scale}" in note
    assert words in note


def test_counts_and_labels_have_no_scale(tmp_path, table):
    x, _ = table
    counts = np.random.default_rng(1).poisson(3000.0, size=(300, 1)) * np.array([1.0, 2.0])
    assert notes(tmp_path, x, counts, "poisson") == []
    assert notes(tmp_path, x, np.arange(300) % 70, "softmax_cross_entropy") == []


def test_batches_of_another_size_than_configured_are_said(tmp_path, table):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"], file["y"] = (np.tile(part, (10, 1)) for part in table)
    (tmp_path / "net.toml").write_text(CONFIG.format(loss="squared_error"))

    def said(batch, *sets):
        experiment = build(load(tmp_path / "net.toml", [f"training.batch_size={batch}", *sets]))
        with experiment.data:
            return experiment.optimizer.notes(batch)

    assert said(8, "optimizer.growth_limit=1") == said(1200) == []
    (few,), (most,) = said(8), said(2000)
    assert "batches hold 1,000 rows, not training.batch_size = 8" in few
    assert "all 3,000 training rows, not training.batch_size = 2000" in most
    assert all("growth_limit = 1" in note for note in (few, most))
