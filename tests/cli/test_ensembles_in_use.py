"""What predict, evaluate and export say of an ensemble, against plain averages of its members."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.training.checkpoint import load_network

CONFIG = """
[data]
file = "table.h5"
targets = "y"
validation = 0.2
[network]
hidden = [6]
loss = "squared_error"
[optimizer]
weight_decay = 1e-6
[training]
dtype = "float64"
batch_size = 40
updates = 6
members = 3
"""
CLASSES = ["--set", "data.targets=c", "--set", "network.loss=softmax_cross_entropy"]
FOLDS = ["--set", "training.members=1", "--set", "training.folds=3"]
STANDARDIZE = ["--set", "data.standardize=true"]
BOOTSTRAP = ["--set", "training.member_rows=bootstrap"]
VARIANTS = {
    "seeds": [],
    "folds": [*FOLDS, *STANDARDIZE],
    "bootstrap": [*BOOTSTRAP, *STANDARDIZE],
    "rows on disk": [*BOOTSTRAP, *STANDARDIZE, "--set", "data.memory=1KB"],
}


@pytest.fixture
def table(tiny: Path) -> Path:
    """The working directory with a table of inputs on different scales, numbers and classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)) * [1.0, 3.0, 0.2, 50.0] + [0.0, 5.0, 1.0, -20.0]
    y = np.stack([np.sin(x[:, 0]), x[:, 1] / 3.0 + x[:, 2]], axis=1)
    with h5py.File(tiny / "table.h5", "w") as file:
        for group, rows in (("", slice(0, 70)), ("test/", slice(70, 90))):
            file[group + "x"], file[group + "y"] = x[rows], y[rows]
            file[group + "c"] = ((y[rows, 0] > 0) + (y[rows, 1] > 3)).astype(np.uint8)
    with h5py.File(tiny / "new.h5", "w") as file:
        file["x"] = rng.normal(size=(30, 4)) * 5.0
    (tiny / "table.toml").write_text(CONFIG)
    return tiny


def member(number: int) -> str:
    return f"run/members/{number}"


def best(number: int):
    folder = Path(member(number)) / "checkpoints"
    return load_network(folder / (folder / "best").read_text().strip())


def column(file: str, name: str) -> np.ndarray:
    with h5py.File(file) as handle:
        values: np.ndarray = handle[name][()]
    return values


def predictions(gnopt, data: str, layer: str = "output", path: str = "x") -> np.ndarray:
    """What each member predicts alone, (M, N, K)."""
    made = []
    for number in (1, 2, 3):
        arguments = ["run", data, f"{number}.h5", "--layer", layer, "--member", number]
        assert gnopt("predict", *arguments, "--overwrite").code == 0
        made.append(column(f"{number}.h5", path))
    return np.array(made)


def check_derivatives(gnopt, *argv: str) -> None:
    """Those of the mean, by differences; each member standardises the inputs by its own rows."""
    x = column("new.h5", "x")
    steps = np.eye(4) * [1e-5, 3e-5, 1e-6, 1e-4]
    with h5py.File("moved.h5", "w") as file:
        file["x"] = np.concatenate([x + step for step in (*steps, *-steps)])
    for data, *more in (("new.h5", "--jacobian"), ("moved.h5",)):
        result = gnopt("predict", "run", data, f"slopes-{data}", "--overwrite", *argv, *more)
        assert result.code == 0, result.err
    up, down = column("slopes-moved.h5", "x").reshape(2, 4, 30, 2)
    expected = (up - down) / (2.0 * steps.diagonal()[:, None, None])
    found = column("slopes-new.h5", "jacobian")
    assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_are_averaged_and_their_variances_added(table, gnopt, variant):
    assert gnopt("train", "table.toml", "--out", "run", *VARIANTS[variant]).code == 0
    result = gnopt("predict", "run", "new.h5", "all.h5", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["datasets"] == {"/x": [30, 2], "/std": [30, 2]}
    assert [m["member"] for m in document["members"]] == [1, 2, 3]
    made = predictions(gnopt, "new.h5")
    noise = np.mean([best(number).noise.variance for number in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(column("all.h5", "x"), made.mean(axis=0), rtol=1e-10)
    deviation = np.sqrt(noise + made.var(axis=0))
    np.testing.assert_allclose(column("all.h5", "std"), deviation, rtol=1e-10)
    check_derivatives(gnopt)


def test_probabilities_are_averaged_with_their_deviation(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", *CLASSES, *STANDARDIZE).code == 0
    for layer in ("output", "logits"):
        result = gnopt("predict", "run", "new.h5", "all.h5", "--layer", layer, "--overwrite")
        assert result.code == 0, result.err
        assert "3 members, at steps" in result.err
        made = predictions(gnopt, "new.h5", layer)
        mean, deviation = made.mean(axis=0), made.std(axis=0)
        np.testing.assert_allclose(column("all.h5", "x"), mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(column("all.h5", "std"), deviation, rtol=1e-9, atol=1e-12)
        check_derivatives(gnopt, "--layer", layer)
    hidden = gnopt("predict", "run", "new.h5", "code.h5", "--layer", "code")
    assert hidden.code == 2
    assert "--member N" in hidden.err
    assert not (table / "code.h5").exists()


def test_each_group_of_a_file_gets_both_datasets(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run").code == 0
    assert gnopt("predict", "run", "table.h5", "all.h5").code == 0
    for path, rows in (("train", 70), ("test", 20)):
        assert column("all.h5", f"{path}/x").shape == (rows, 2)
        assert column("all.h5", f"{path}/std").shape == (rows, 2)


def test_classes_are_scored_by_their_mean_probability(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", *CLASSES).code == 0
    result = gnopt("evaluate", "run", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    mean = predictions(gnopt, "table.h5", path="test/x").mean(axis=0)
    labels = column("table.h5", "test/c")
    log_loss = -np.log(mean[np.arange(20), labels]).mean()
    test = document["splits"]["test"]
    assert test["objective"] == pytest.approx(log_loss, rel=1e-10)
    assert test["metrics"]["log_loss"] == pytest.approx(log_loss, rel=1e-10)
    assert test["error"] == np.mean(mean.argmax(axis=1) != labels)
    for number in (1, 2, 3):
        alone = json.loads(gnopt("evaluate", "run", "--member", number, "--json").out)
        assert document["member_objectives"]["test"][number - 1] == pytest.approx(
            alone["splits"]["test"]["objective"], rel=1e-10
        )
    assert "folds" not in document


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_are_scored_at_their_mean_and_by_their_total_variance(table, gnopt, variant):
    assert gnopt("train", "table.toml", "--out", "run", *VARIANTS[variant]).code == 0
    test = json.loads(gnopt("evaluate", "run", "--json").out)["splits"]["test"]
    made = predictions(gnopt, "table.h5", path="test/x")
    y = column("table.h5", "test/y")
    squares = np.square(made.mean(axis=0) - y)
    assert test["objective"] == pytest.approx(0.5 * squares.sum(axis=1).mean(), rel=1e-10)
    noise = np.mean([best(number).noise.variance for number in (1, 2, 3)], axis=0)
    total = noise + made.var(axis=0)
    nll = 0.5 * (np.log(2.0 * np.pi * total) + squares / total)
    per_output = json.loads(gnopt("evaluate", "run", "--json").out)["splits"]["test"]["per_output"]
    np.testing.assert_allclose(per_output["nll"], nll.mean(axis=0), rtol=1e-10)


def test_the_score_of_a_cross_validation_is_that_of_unseen_folds(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", *FOLDS, *CLASSES).code == 0
    document = json.loads(gnopt("evaluate", "run", "--json").out)
    assert set(document["splits"]) == {"train", "test"}
    assert document["splits"]["train"]["rows"] == 70
    alone = [json.loads(gnopt("evaluate", member(n), "--json").out)["splits"] for n in (1, 2, 3)]
    assert sum(splits["validation"]["rows"] for splits in alone) == 70
    assert all(s["train"]["rows"] + s["validation"]["rows"] == 70 for s in alone)
    for name, key in (("objective", "objective"), ("error", "error")):
        values = [splits["validation"][key] for splits in alone]
        found = document["folds"][name]
        assert found["values"] == pytest.approx(values, rel=1e-10)
        assert found["mean"] == pytest.approx(np.mean(values), rel=1e-10)
        error = np.std(values, ddof=1) / np.sqrt(3)
        assert found["standard_error"] == pytest.approx(error, rel=1e-10)
    accuracy = [splits["validation"]["metrics"]["accuracy"] for splits in alone]
    assert document["folds"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracy), rel=1e-10)
    text = gnopt("evaluate", "run")
    assert "3 folds, unseen" in text.out
    assert "ensemble of 3 members" in text.out
    assert "3 folds" not in gnopt("evaluate", "run", "--split", "test").out


def test_training_ends_with_the_scores_of_the_ensemble(table, gnopt):
    result = gnopt("train", "table.toml", "--out", "run", "--json", *FOLDS, *CLASSES)
    scores = json.loads(result.out)["scores"]
    document = json.loads(gnopt("evaluate", "run", "--json").out)
    assert scores["train"]["objective"] == document["splits"]["train"]["objective"]
    assert json.loads(result.out)["objective"] == scores["train"]["objective"]
    assert json.loads((table / "run/run.json").read_text())["scores"] == scores
    assert "unseen folds: " in (table / "run/log.txt").read_text()
    assert scores["folds"] == document["folds"]["objective"]
    shared = gnopt("train", "table.toml", "--out", "run", "--overwrite", "--json", *CLASSES)
    scores = json.loads(shared.out)["scores"]
    document = json.loads(gnopt("evaluate", "run", "--json").out)
    assert scores["validation"]["objective"] == document["splits"]["validation"]["objective"]
    assert scores["folds"] is None
    assert "member_objectives" in document


def test_a_member_that_is_not_trained_is_left_out_and_named(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run").code == 0
    path = table / "run/members/2/run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"status": "diverged"}))
    result = gnopt("predict", "run", "new.h5", "all.h5")
    assert result.code == 0
    assert "2 members" in result.err
    assert "2 (diverged)" in result.err
    made = predictions(gnopt, "new.h5")[[0, 2]]
    np.testing.assert_allclose(column("all.h5", "x"), made.mean(axis=0), rtol=1e-10)
    for number in (1, 3):
        path = table / f"run/members/{number}/run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "interrupted"}))
    result = gnopt("evaluate", "run")
    assert result.code == 1
    assert "no member of this ensemble is trained" in result.err


def test_exports_hold_every_member(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", *STANDARDIZE).code == 0
    for name in ("all.h5", "all.npz", "all.onnx", "all.c", "all.f90"):
        result = gnopt("export", "run", name, "--json")
        assert result.code == 0, result.err
        assert len(json.loads(result.out)["members"]) == 3
    with h5py.File("all.h5") as file, np.load("all.npz") as arrays:
        assert file.attrs["format"] == "gnopt-ensemble"
        assert list(arrays["members"]) == [1, 2, 3]
        for number in (1, 2, 3):
            network = best(number)
            group = file[f"members/{number}"]
            for layer, weights in enumerate(network.weights, start=1):
                stored = group[f"network/layers/{layer}/weight"][()]
                np.testing.assert_array_equal(stored, weights[:, :-1])
                array = arrays[f"member_{number}_bias_{layer}"]
                np.testing.assert_array_equal(array, weights[:, -1])
            np.testing.assert_array_equal(group["inputs/mean"][()], network.statistics.mean)
            assert str(arrays[f"member_{number}_loss"]) == "squared_error"
    assert gnopt("export", "run", "one.onnx", "--member", 2).code == 0
    assert gnopt("export", "run", "all.txt").code == 2


def test_a_group_of_validation_rows_is_scored_beside_the_folds(table, gnopt):
    with h5py.File("table.h5", "a") as file:
        for name in "xyc":
            file[f"validation/{name}"] = file[f"test/{name}"][:15]
    arguments = [*FOLDS, *CLASSES, "--set", "data.validation=0.1"]
    result = gnopt("train", "table.toml", "--out", "run", "--json", *arguments)
    assert json.loads(result.out)["scores"]["validation"]["rows"] == 15
    document = json.loads(gnopt("evaluate", "run", "--json").out)
    rows = {name: split["rows"] for name, split in document["splits"].items()}
    assert rows == {"train": 70, "validation": 15, "test": 20}


def test_another_file_is_scored_without_the_folds(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run", *FOLDS, *CLASSES).code == 0
    (table / "table.h5").rename(table / "moved.h5")
    result = gnopt("evaluate", "run", "--data", "moved.h5", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["splits"]["train"]["rows"] == 70
    assert "folds" not in document
