"""A table in raw units on the command line: what is said, and that every command standardises it
as training did.
"""

import json

import h5py
import numpy as np
import pytest
from cli_tools import same_runs

CONFIG = """
[data]
file = "table.h5"
targets = "y"
[network]
hidden = [6]
activation = "tanh"
loss = "squared_error"
[optimizer]
weight_decay = 1e-6
[training]
batch_size = 20
updates = 12
evaluate_every = 4
checkpoint_every = 3
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The working directory, holding table.h5, 80 rows in raw units, and table.toml."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4)) * [1e3, 1e-6, 1.0, 0.0] + [2e5, 0.0, 0.0, 1e6]
    monkeypatch.chdir(tmp_path)
    with h5py.File("table.h5", "w") as file:
        file["x"], file["y"] = x, np.sin(x[:, 2]) + (x[:, 0] - 2e5) / 1e3
    (tmp_path / "table.toml").write_text(CONFIG)
    return tmp_path


def test_a_run_says_which_column_asked_for_it(table, process):
    result = process("train", "table.toml", "--out", "run")
    assert result.code == 0, result.err
    (line,) = [line for line in result.err.splitlines() if "standardised" in line]
    assert "column 3 has a root mean square of 1e+06" in line
    assert "data.standardize = false" in line
    assert line in (table / "run/log.txt").read_text()
    raw = process("train", "table.toml", "--out", "raw", "--set", "data.standardize=false")
    assert "inputs are standardised" not in raw.err
    assert "slow training down: column 3" in raw.err
    assert process("train", "table.toml", "--dry-run").code == 0


def test_resume_equals_uninterrupted(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "whole").code == 0
    assert gnopt("train", "table.toml", "--out", "parts", "--max-updates", 5).code == 0
    assert gnopt("train", "--resume", "--out", "parts", "--max-updates", 12).code == 0
    same_runs(table / "whole", table / "parts")
    with (
        h5py.File("whole/checkpoints/step-000012.h5") as one,
        h5py.File("parts/checkpoints/step-000012.h5") as other,
    ):
        for name in ("mean", "std"):
            np.testing.assert_array_equal(one[f"inputs/{name}"], other[f"inputs/{name}"])


def outputs(arrays, x):
    z = (x - arrays["input_mean"]) / arrays["input_std"] if "input_mean" in arrays else x
    hidden = np.tanh(z @ arrays["weight_1"].T + arrays["bias_1"])
    return hidden @ arrays["weight_2"].T + arrays["bias_2"]


@pytest.mark.parametrize("switch", ["auto", "true", "false"])
def test_predict_and_export_agree_on_raw_inputs(table, gnopt, switch):
    sets = ["--set", f"data.standardize={switch}"]
    assert gnopt("train", "table.toml", "--out", "run", *sets).code == 0
    with h5py.File("table.h5") as file, h5py.File("few.h5", "w") as few:
        x = few["x"] = file["x"][:3] * [1.0, 1.0, 1e-3, 1.0]  # its own moments are others
    assert gnopt("predict", "run", "few.h5", "made.h5").code == 0
    assert gnopt("export", "run", "net.npz").code == 0
    with np.load("net.npz") as arrays, h5py.File("made.h5") as made:
        assert ("input_mean" in arrays) == (switch != "false")
        np.testing.assert_allclose(made["x"][()], outputs(arrays, x), rtol=1e-3, atol=1e-4)


def test_a_run_on_usual_inputs_predicts_large_ones_as_they_are(table, gnopt):
    with h5py.File("table.h5") as file, h5py.File("usual.h5", "w") as usual:
        usual["x"], usual["y"] = file["x"][:, 2:3], file["y"][()]
    with h5py.File("few.h5", "w") as few:
        few["x"] = np.array([[50.0], [-80.0]])
    assert gnopt("train", "table.toml", "--data", "usual.h5", "--out", "run").code == 0
    assert gnopt("predict", "run", "few.h5", "made.h5").code == 0
    assert gnopt("export", "run", "net.npz").code == 0
    with np.load("net.npz") as arrays, h5py.File("made.h5") as made:
        np.testing.assert_allclose(
            made["x"][()], outputs(arrays, np.array([[50.0], [-80.0]])), rtol=1e-4, atol=1e-4
        )


def test_a_run_from_before_the_setting_was_chosen_goes_on(table, gnopt):
    """Its configuration may lack the setting; the checkpoint says what the network has seen."""
    sets = ["--set", "data.standardize=false"]
    assert gnopt("train", "table.toml", "--out", "whole", *sets).code == 0
    assert gnopt("train", "table.toml", "--out", "old", "--max-updates", 6, *sets).code == 0
    for run in ("whole", "old"):
        path = table / run / "config.toml"
        path.write_text(path.read_text().replace("standardize = false\n", ""))
        facts = json.loads((table / run / "run.json").read_text())
        del facts["configuration"]  # which such a run did not record
        (table / run / "run.json").write_text(json.dumps(facts))
    assert gnopt("train", "--resume", "--out", "old", "--max-updates", 12).code == 0
    assert (
        gnopt("evaluate", "old").out.splitlines()[1:]
        == (gnopt("evaluate", "whole").out.splitlines()[1:])
    )
    with h5py.File("old/checkpoints/step-000012.h5") as file:
        assert "inputs" not in file


def test_evaluation_on_other_rows_keeps_the_statistics_of_training(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", "--set", "data.validation=0").code == 0
    with h5py.File("table.h5") as file:
        x, y = file["x"][()], file["y"][()]
    order = np.argsort(x[:, 0])
    for name, part in (("low.h5", order[:40]), ("high.h5", order[40:])):
        with h5py.File(name, "w") as file:
            file["x"], file["y"] = x[part], y[part]

    def objective(*argv):
        splits = json.loads(gnopt("evaluate", "run", "--json", *argv).out)["splits"]
        return next(iter(splits.values()))["objective"]

    parts = [objective("--data", name) for name in ("low.h5", "high.h5")]
    assert np.mean(parts) == pytest.approx(objective(), rel=1e-5)


@pytest.mark.parametrize("stop", [0, 4])
def test_a_run_from_given_weights_sees_inputs_as_they_did(table, gnopt, stop):
    assert gnopt("train", "table.toml", "--out", "run").code == 0
    with h5py.File("table.h5") as file, h5py.File("other.h5", "w") as other:
        other["x"], other["y"] = 3.0 * file["x"][()], file["y"][()]
    new = ["table.toml", "--data", "other.h5", "--init-from", "run/checkpoints/step-000012.h5"]
    result = gnopt("train", *new, "--out", "new", "--max-updates", stop)
    assert result.code == 0, result.err
    assert "as those of the network that the run starts from" in result.err
    assert gnopt("train", "--resume", "--out", "new", "--max-updates", 6).code == 0
    with (
        h5py.File("run/checkpoints/step-000012.h5") as one,
        h5py.File("new/checkpoints/step-000006.h5") as other,
    ):
        assert one["inputs/mean"][()].tobytes() == other["inputs/mean"][()].tobytes()


def test_compare_standardises_every_variant_alike(table, gnopt):
    argv = ["--methods", "kfra,adam", "--budget-updates", 3, "--out", "compared"]
    result = gnopt("compare", "table.toml", *argv)
    assert result.code == 0, result.err
    means = [
        h5py.File(path)["inputs/mean"][()].tobytes()
        for path in sorted((table / "compared").rglob("step-*.h5"))
    ]
    assert len(means) >= 2
    assert len(set(means)) == 1
