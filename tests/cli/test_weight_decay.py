"""Weight decay that the data choose, and the aims, as a user runs them."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import same_runs
from matplotlib.axes import Axes

CONFIG = """
[data]
file = "table.h5"
targets = "y"
validation = {validation}
[network]
hidden = [6]
loss = "squared_error"
[optimizer]
weight_decay = "{decay}"
[training]
updates = 60
checkpoint_every = 7
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    def write(decay="auto", validation=0):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((70, 4))
        with h5py.File("table.h5", "w") as file:
            file["x"], file["y"] = x, np.sin(x[:, :1]) + rng.standard_normal((70, 1))
        (tmp_path / "net.toml").write_text(CONFIG.format(decay=decay, validation=validation))

    monkeypatch.chdir(tmp_path)
    return write


def rows(run):
    with open(f"{run}/steps.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("decay", ["auto", "evidence"])
@pytest.mark.parametrize("validation", [0, 0.2])
def test_a_run_in_parts_is_that_of_a_whole_one(table, gnopt, decay, validation):
    table(decay, validation)
    assert gnopt("train", "net.toml", "--out", "whole", "--quiet").code == 0
    assert gnopt("train", "net.toml", "--out", "parts", "--quiet", "--max-updates", 23).code == 0
    for updates in (41, 60):
        resumed = gnopt("train", "--resume", "--out", "parts", "--quiet", "--max-updates", updates)
        assert resumed.code == 0, resumed.err
    same_runs(Path("whole"), Path("parts"))


def test_a_run_killed_before_its_first_checkpoint_keeps_what_was_chosen(table, gnopt):
    table()
    assert gnopt("train", "net.toml", "--out", "whole", "--quiet").code == 0
    assert gnopt("train", "net.toml", "--out", "killed", "--quiet", "--max-updates", 0).code == 0
    for path in Path("killed/checkpoints").iterdir():
        path.unlink()
    for name in ("steps.csv", "eval.csv"):
        (Path("killed") / name).unlink(missing_ok=True)
    resumed = gnopt("train", "--resume", "--out", "killed", "-q", "--max-updates", 60)
    assert resumed.code == 0, resumed.err
    assert len(rows("killed")) == len(rows("whole"))
    assert rows("killed")[-1]["weight_decay"] == rows("whole")[-1]["weight_decay"]


def test_cross_validation_is_said_and_kept(table, gnopt):
    table()
    result = gnopt("train", "net.toml", "--out", "run")
    assert result.code == 0, result.err
    assert "by cross-validation, 4 folds, 9 values" in result.err
    facts = json.loads(Path("run/run.json").read_text())["weight_decay"]
    assert len(facts["trials"]) == 9
    assert f"{facts['best']['decay']:.2g}" in result.err
    found = rows("run")
    assert len({row["weight_decay"] for row in found}) == 1
    seen = [row for row in found if row["log_evidence"]]
    assert all(0.0 < float(row["effective"]) < 31.0 for row in seen)


def test_the_evidence_is_logged_and_judges_without_validation_rows(table, gnopt):
    table("evidence")
    assert gnopt("train", "net.toml", "--out", "run").code == 0
    found = rows("run")
    assert len({row["weight_decay"] for row in found}) > 3
    assert "weights in use, noise" in Path("run/log.txt").read_text()
    handed = json.loads(Path("run/run.json").read_text())["handed_out"]
    assert handed["judged_by"] == "log_evidence"
    assert handed["reason"].startswith("highest log evidence")


def test_the_aim_decides_what_is_left_open(table, gnopt):
    table()
    result = gnopt("train", "net.toml", "--out", "run", "--set", "training.aim=objective")
    assert result.code == 0, result.err
    assert "cross-validation" not in result.err
    assert len(rows("run")) == 60
    assert json.loads(Path("run/run.json").read_text())["handed_out"]["judged_by"] == "train_loss"


def test_evidence_is_refused_by_its_nearest_name(table, gnopt):
    table("evidense")
    result = gnopt("train", "net.toml", "--out", "run")
    assert result.code == 2
    assert "evidence" in result.err


def test_numbers_of_some_updates_are_drawn_as_lines(table, gnopt, monkeypatch):
    table("evidence")
    assert gnopt("train", "net.toml", "--out", "run", "--quiet").code == 0
    drawn = {}
    plot = Axes.plot

    def record(axis, x, y, *rest, **style):
        drawn[len(drawn)] = len(x), bool(np.isfinite(y).all())
        return plot(axis, x, y, *rest, **style)

    monkeypatch.setattr(Axes, "plot", record)
    assert gnopt("plot", "run", "--out", "drawn").code == 0
    updates = len(rows("run"))
    seen = sum(bool(row["log_evidence"]) for row in rows("run"))
    lengths = [length for length, finite in drawn.values() if finite]
    assert seen > 2
    assert seen in lengths
    assert updates in lengths
