"""Metrics from the command line: of finished runs, and as columns and judges of a run.

What a command prints is compared with predictions of the same run, scored here by NumPy alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import rows, same_runs
from scipy import stats

from gnopt.engine.losses import get_loss
from gnopt.metrics import all_metrics, applicable

TABLE = """
[data]
file = "table.h5"
targets = "y"
validation = 0.3
split = "end"
[network]
hidden = [6]
loss = "softmax_cross_entropy"
[optimizer]
method = "kfac"
weight_decay = 1e-6
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
    own, far = (
        json.loads(gnopt("evaluate", "run", "--json", *more).out)["splits"][split]
        for split, more in (("validation", ()), ("all", ("--data", "other.h5")))
    )
    assert own["metrics"]["coverage_90"] > 0.5
    assert far["metrics"]["coverage_90"] == 0.0
    assert far["metrics"]["nll"] > 10.0 * own["metrics"]["nll"]


def test_every_loss_prints_its_metrics_within_80_columns(table, gnopt, loss_name):
    made = gnopt(
        "train", "table.toml", "--out", "run", *sets(optimizer__method="kfra"), *of_loss(loss_name)
    )
    assert made.code == 0, made.err
    allowed = ["run", "--allow-plugins"] if ":" in loss_name else ["run"]
    printed = gnopt("evaluate", *allowed)
    assert printed.code == 0, printed.err
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["train", "validation"]
    found = json.loads(gnopt("evaluate", *allowed, "--json").out)["splits"]["train"]["metrics"]
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


# ---- columns of eval.csv, and the judge ----------------------------------------------------------


def evaluations(run="run"):
    return rows(Path(run, "eval.csv"))


def train(gnopt, *argv, out="run"):
    result = gnopt("train", "table.toml", "--out", out, *argv)
    assert result.code == 0, result.err
    return result


def test_chosen_metrics_are_columns_of_the_evaluations(table, process):
    chosen = sets(training__metrics='["accuracy", "auc"]')
    done = process("train", "table.toml", "--out", "run", *chosen)
    assert done.code == 0, done.err
    found = evaluations()
    columns = ["train_accuracy", "validation_accuracy", "train_auc", "validation_auc"]
    assert list(found[0])[-4:] == columns
    for row in found:
        for name in ("train", "validation"):
            assert float(row[f"{name}_accuracy"]) == pytest.approx(1 - float(row[f"{name}_error"]))
    headings = [line.split() for line in done.err.splitlines()]
    assert ["loss", "loss", "accuracy", "auc", "at", "left"] in [h[-6:] for h in headings]
    assert "train_accuracy" in (table / "run/log.txt").read_text()
    assert "\naccuracy " in done.out
    last = json.loads(process("evaluate", "run", "--checkpoint", "latest", "--json").out)
    for name, split in last["splits"].items():
        for metric in ("accuracy", "auc"):
            value = float(found[-1][f"{name}_{metric}"])
            assert split["metrics"][metric] == pytest.approx(value)


def test_the_noise_is_chosen_before_the_metrics_that_need_it(table, gnopt):
    chosen = sets(training__metrics='["nll", "coverage_90", "rmse"]')
    train(gnopt, *of_loss("squared_error"), *chosen)
    found = evaluations()[-1]
    evaluated = json.loads(gnopt("evaluate", "run", "--checkpoint", "latest", "--json").out)
    for name, split in evaluated["splits"].items():
        for metric in ("nll", "coverage_90", "rmse"):
            value = float(found[f"{name}_{metric}"])
            assert split["metrics"][metric] == pytest.approx(value, rel=1e-6)


def test_one_name_is_a_list_of_one_and_columns_are_empty_without_validation(table, gnopt):
    train(gnopt, *sets(training__metrics="f1", data__validation=0))
    assert all(row["train_f1"] and not row["validation_f1"] for row in evaluations())
    assert gnopt("plot", "run").code == 0


@pytest.mark.parametrize(
    ("loss", "chosen", "expected"),
    [
        ("softmax_cross_entropy", "rmse", "expected accuracy, auc, balanced_accuracy"),
        ("squared_error", "accuracy", "expected coverage_90, mae, nll, r2, rmse"),
        ("softmax_cross_entropy", "acuracy", "did you mean 'accuracy'"),
        ("softmax_cross_entropy", "confusion", "training.metrics = 'confusion'"),
    ],
)
def test_a_metric_that_does_not_apply_is_a_problem_of_the_configuration(
    table, gnopt, loss, chosen, expected
):
    for key in ("training.metrics", "training.judge"):
        arguments = ("table.toml", *of_loss(loss), "--set", f"{key}={chosen}")
        for command in (["config", "check"], ["train", "--out", "run"]):
            result = gnopt(*command, *arguments)
            assert result.code == 2
            assert expected.replace("training.metrics", key) in result.err
    assert not (table / "run").exists()


def test_classes_do_not_apply_to_several_outputs(tiny, gnopt):
    """One output of binary cross-entropy is two classes; the pixels of a picture are numbers."""
    result = gnopt("train", "tiny.toml", "--out", "run", *sets(training__metrics="accuracy"))
    assert result.code == 2
    assert "training.metrics: accuracy does not apply" in result.err
    assert "expected mae, r2, rmse" in result.err
    assert gnopt("train", "tiny.toml", "--out", "run", *sets(training__metrics="rmse")).code == 0


JUDGES = [
    ("softmax_cross_entropy", "accuracy", max),
    ("softmax_cross_entropy", "ece", min),
    ("squared_error", "mae", min),
    ("squared_error", "r2", max),
    ("poisson", "deviance", min),
]
LONG = sets(training__updates=30, training__evaluate_every=2)


@pytest.mark.parametrize(("loss", "judge", "choose"), JUDGES)
@pytest.mark.parametrize("validation", [0.3, 0])
def test_the_judge_decides_what_is_best(table, gnopt, loss, judge, choose, validation):
    more = sets(training__judge=judge, data__validation=validation, training__patience=0)
    result = train(gnopt, *of_loss(loss), *LONG, *more, "--json")
    rows_of = "validation" if validation else "train"
    column = f"{rows_of}_{judge}"
    values = [float(row[column]) for row in evaluations()[1:]]
    best = choose(values)
    handed = json.loads(result.out)["handed_out"]
    assert handed["judged_by"] == column
    assert handed["value"] == best
    equals = [row for row in evaluations()[1:] if float(row[column]) == best]
    first = min(equals, key=lambda row: float(row[f"{rows_of}_loss"]))
    assert handed["step"] == int(first["step"])
    word = {max: "highest", min: "lowest"}[choose]
    sentence = f"{word} {'validation' if validation else 'training'} {judge} {best:.6g}"
    assert handed["reason"] == sentence
    evaluated = gnopt("evaluate", "run", "--json")
    assert sentence in evaluated.err
    again = json.loads(evaluated.out)["splits"][rows_of]["metrics"][judge]
    assert again == pytest.approx(best)


def test_patience_watches_the_judge(table, gnopt):
    more = sets(training__judge="accuracy", training__updates=400)
    found = json.loads(train(gnopt, *more, "--json").out)
    assert found["stop"] == "patience"
    best = found["handed_out"]["step"]
    assert found["updates"] >= 2 * best + 20
    log = (table / "run/log.txt").read_text()
    assert f"stopped: no better validation accuracy since update {best}" in log


def test_where_the_metric_is_not_defined_the_loss_decides(table, gnopt):
    """The validation rows are of one class alone: no row to rank them against."""
    with h5py.File("table.h5", "a") as file:
        y = file["y"][()]
        y[-27:] = 1
        file["y"][...] = y
    more = sets(training__judge="auc", training__updates=400)
    found = json.loads(train(gnopt, *more, "--json").out)
    assert found["stop"] == "patience"
    losses = {float(row["validation_loss"]): int(row["step"]) for row in evaluations()}
    handed = found["handed_out"]
    assert handed["step"] == losses[min(losses)]
    assert handed["value"] is None
    expected = f"lowest validation loss {min(losses):.6g}; validation auc is not defined"
    assert handed["reason"].removeprefix("untrained, ") == expected


@pytest.mark.parametrize(("loss", "judge"), [(loss, judge) for loss, judge, _ in JUDGES])
@pytest.mark.parametrize("stop_at", [1, 6, 7])
def test_resume_equals_uninterrupted_under_a_judge(table, gnopt, loss, judge, stop_at):
    more = (*of_loss(loss), *sets(training__judge=judge, training__metrics="[]"), *LONG)
    train(gnopt, *more, out="whole")
    train(gnopt, *more, "--max-updates", stop_at, out="parts")
    train(gnopt, *more, "--resume", out="parts")
    same_runs(table / "whole", table / "parts")


def test_another_judge_is_refused_on_resume_and_other_metrics_are_not(table, gnopt):
    train(gnopt, *sets(training__metrics="accuracy"), "--max-updates", 4)
    refused = gnopt("train", "--resume", "--out", "run", *sets(training__judge="f1"))
    assert refused.code == 2
    assert "training.judge" in refused.err
    more = sets(training__metrics='["f1"]')
    assert gnopt("train", "--resume", "--out", "run", "--max-updates", 8, *more).code == 0
    first, last = evaluations()[0], evaluations()[-1]
    assert first["train_accuracy"]
    assert not first["validation_f1"]
    assert last["validation_f1"]
    assert not last["train_accuracy"]
    assert gnopt("plot", "run").code == 0
