"""Metrics from the command line: of finished runs, and as columns and judges of a run.

What a command prints is compared with predictions of the same run, scored here by NumPy alone.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from scipy import stats

from gnopt.engine.losses import get_loss
from gnopt.metrics import all_metrics, applicable

TABLE = """
[data]
file = "table.h5"
targets = "y"
validation = 0.3
[network]
hidden = [6]
loss = "softmax_cross_entropy"
[optimizer]
method = "kfac"
[training]
batch_size = 40
updates = 8
evaluate_every = 4
checkpoint_every = 3
"""
CLASSES = ["ash", "birch", "cherry"]
# Targets in table.h5 for a loss that has other than three classes.
TARGETS = {
    "squared_error": "numbers",
    "poisson": "counts",
    "binary_cross_entropy": "yes",
    "binary_mixture": "yes",
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The working directory, holding table.toml and table.h5 with targets of several kinds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4))
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["x"] = x
        file["y"] = (x[:, :3] + 0.5 * rng.normal(size=(90, 3))).argmax(axis=1)
        file["y"].attrs["classes"] = CLASSES
        file["yes"] = (x[:, 0] + rng.normal(size=90) > 0.0).astype(np.uint8)
        file["numbers"] = x[:, :2] * [1.0, 50.0] + rng.normal(size=(90, 2)) * [0.3, 5.0]
        file["counts"] = rng.poisson(np.exp(x[:, 0]))
    (tmp_path / "table.toml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sets(**settings):
    """Arguments for these settings; two underscores stand for the dot."""
    return [part for k, v in settings.items() for part in ("--set", f"{k.replace('__', '.')}={v}")]


def of_loss(name):
    return sets(network__loss=name, data__targets=TARGETS.get(name, "y"))


def outputs(gnopt, *argv):
    """The predictions of the validation rows by `gnopt predict`: the last 27 of the file."""
    assert gnopt("predict", "run", "table.h5", "out.h5", *argv).code == 0
    with h5py.File("out.h5") as file:
        return file["x"][()][-27:].astype(float)


def test_evaluate_gives_all_metrics_of_classes(table, process, gnopt):
    assert process("train", "table.toml", "--out", "run", "-q").code == 0
    found = json.loads(process("evaluate", "run", "--json").out)
    validation = found["splits"]["validation"]
    p = outputs(gnopt)
    with h5py.File("table.h5") as file:
        y = file["y"][()][-27:]
    assert found["classes"] == CLASSES
    metrics = validation["metrics"]
    assert metrics["accuracy"] == pytest.approx((p.argmax(axis=1) == y).mean())
    assert metrics["accuracy"] == pytest.approx(1.0 - validation["error"])
    assert metrics["log_loss"] == pytest.approx(validation["objective"], rel=1e-5)
    assert metrics["log_loss"] == pytest.approx(-np.log(p[np.arange(27), y]).mean(), rel=1e-5)
    table = np.array(validation["tables"]["confusion"])
    assert table.tolist() == [
        [((y == t) & (p.argmax(axis=1) == c)).sum() for c in range(3)] for t in range(3)
    ]
    assert validation["per_class"]["balanced_accuracy"] == pytest.approx(
        table.diagonal() / table.sum(axis=1)
    )
    kind = get_loss("softmax_cross_entropy").predicts(3)
    assert set(metrics) == {name for name, m in applicable(kind).items() if m.scalar}


def test_evaluate_gives_all_metrics_of_numbers_in_the_units_of_the_user(table, process, gnopt):
    made = process("train", "table.toml", "--out", "run", "-q", *of_loss("squared_error"))
    assert made.code == 0, made.err
    found = json.loads(process("evaluate", "run", "--json").out)["splits"]["validation"]
    h = outputs(gnopt)
    with h5py.File("table.h5") as file:
        y = file["numbers"][()][-27:]
    r = h - y
    deviation = np.sqrt((r**2).mean(axis=0))  # the noise is that of the validation rows
    assert found["per_output"]["rmse"] == pytest.approx(deviation, rel=1e-4)
    assert found["metrics"]["mae"] == pytest.approx(np.abs(r).mean(), rel=1e-4)
    nll = -stats.norm(h, deviation).logpdf(y).sum(axis=1).mean()
    assert found["metrics"]["nll"] == pytest.approx(nll, rel=1e-4)
    inside = np.abs(r) <= stats.norm.ppf(0.95) * deviation
    assert found["per_output"]["coverage_90"] == pytest.approx(inside.mean(axis=0))
    with h5py.File("run/checkpoints/" + (table / "run/checkpoints/best").read_text().strip()) as f:
        np.testing.assert_allclose(f["noise"][()], deviation**2, rtol=1e-4)


def test_the_noise_is_that_of_the_run_also_on_other_data(table, gnopt):
    loss = of_loss("squared_error")
    assert gnopt("train", "table.toml", "--out", "run", *loss).code == 0
    with h5py.File("table.h5") as file, h5py.File("other.h5", "w") as other:
        other["x"], other["numbers"] = file["x"][()], file["numbers"][()] + 1000.0
    arguments = ("evaluate", "run", "--split", "validation", "--json")
    own, far = (
        json.loads(gnopt(*arguments, *more).out)["splits"]["validation"]
        for more in ((), ("--data", "other.h5"))
    )
    assert own["metrics"]["coverage_90"] > 0.5
    assert far["metrics"]["coverage_90"] == 0.0
    assert far["metrics"]["nll"] > 10.0 * own["metrics"]["nll"]


def test_every_loss_prints_its_metrics_within_80_columns(table, gnopt, loss_name):
    made = gnopt(
        "train", "table.toml", "--out", "run", *sets(optimizer__method="kfra"), *of_loss(loss_name)
    )
    assert made.code == 0, made.err
    printed = gnopt("evaluate", "run")
    assert printed.code == 0, printed.err
    lines = printed.out.splitlines()
    assert max(len(line) for line in lines[lines.index("") :]) <= 80
    found = json.loads(gnopt("evaluate", "run", "--json").out)["splits"]["train"]["metrics"]
    assert found
    assert set(found) <= set(all_metrics())
    for name in found:
        assert f"\n{name} " in printed.out


def test_class_names_stand_beside_the_confusion_table(table, gnopt):
    assert gnopt("train", "table.toml", "--out", "run").code == 0
    printed = gnopt("evaluate", "run", "--split", "train").out
    assert "confusion of the train rows" in printed
    for number, name in enumerate(CLASSES):
        assert f"\n{number} {name}" in printed


def test_a_table_of_many_classes_is_left_to_json(table, gnopt):
    with h5py.File("table.h5", "a") as file:
        del file["y"]
        file["y"] = np.arange(90) % 25
    assert gnopt("train", "table.toml", "--out", "run").code == 0
    assert "25 classes are too many" in gnopt("evaluate", "run").out
    found = json.loads(gnopt("evaluate", "run", "--json").out)["splits"]["train"]
    assert np.shape(found["tables"]["confusion"]) == (25, 25)


def test_a_checkpoint_without_an_evaluation_has_no_noise(table, gnopt):
    arguments = (*of_loss("squared_error"), *sets(training__checkpoint_every=4))
    assert gnopt("train", "table.toml", "--out", "run", *arguments).code == 0
    arguments = ("evaluate", "run", "--checkpoint", 4)
    printed = gnopt(*arguments)
    assert "the noise is not known" in printed.err
    assert "\nnll" not in printed.out
    assert json.loads(gnopt(*arguments, "--json").out)["splits"]["train"]["metrics"]["nll"] is None
