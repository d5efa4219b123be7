"""The best network of a run is handed out, and a run stops by itself."""

import json
import random
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import rows, same_runs, start
from processes import has_lines, wait_until

CONFIG = """
[data]
file = "table.h5"
targets = "y"
{data}
[network]
hidden = [{width}]
activation = "relu"
loss = "squared_error"
[optimizer]
weight_decay = 0.0
[training]
updates = {updates}
checkpoint_every = {every}
"""


def table(folder: Path, updates=400, every=30, rows=120, data="standardize = true", width=50):
    """A regression that a network overfits: 10 inputs, and noise as strong as what they tell."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 10))
    with h5py.File(folder / "table.h5", "w") as file:
        file["x"] = x
        file["y"] = x @ rng.normal(size=10) + 4.0 * rng.normal(size=rows)
    text = CONFIG.format(updates=updates, every=every, data=data, width=width)
    (folder / "table.toml").write_text(text)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path)
    return tmp_path


def best_of(run: Path, column="validation_loss"):
    found = [(float(row[column]), int(row["step"])) for row in rows(run / "eval.csv")]
    return min(found)


def pointed(run: Path, name="best"):
    return int((run / "checkpoints" / name).read_text()[5:11])


def test_best_is_the_lowest_of_all_evaluations_and_is_handed_out(here, gnopt):
    result = gnopt("train", "table.toml", "--out", "run", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    loss, step = best_of(here / "run")
    assert 0 < step < found["updates"]
    assert step % 30
    assert pointed(here / "run") == step
    assert found["handed_out"]["step"] == step
    assert found["handed_out"]["judged_by"] == "validation_loss"
    assert found["handed_out"]["value"] == found["validation_objective"] == loss
    assert found["checkpoint"].endswith(f"step-{step:06d}.h5")
    info = json.loads((here / "run/run.json").read_text())
    assert info["handed_out"]["step"] == step
    assert info["stop"] == found["stop"] == "patience"
    assert pointed(here / "run", "latest") == found["updates"]

    evaluated = json.loads(gnopt("evaluate", "run", "--json").out)
    assert evaluated["step"] == step
    assert evaluated["splits"]["validation"]["objective"] == pytest.approx(loss)
    for which, expected in (("best", step), ("latest", found["updates"])):
        chosen = json.loads(gnopt("evaluate", "run", "--checkpoint", which, "--json").out)
        assert chosen["step"] == expected
    number = gnopt("evaluate", "run", "--checkpoint", found["updates"], "--json")
    assert json.loads(number.out)["step"] == found["updates"]


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_commands_say_which_network_they_use_and_why(here, gnopt, command):
    gnopt("train", "table.toml", "--out", "run", "-q")
    step = pointed(here / "run")
    more = {"evaluate": [], "predict": ["table.h5", "out.h5"], "export": ["out.npz"]}[command]
    again = [*more, "--overwrite"] if more else []
    result = gnopt(command, "run", *more)
    assert result.code == 0, result.err
    assert f"step {step}, lowest validation loss" in result.err
    assert all(len(line) <= 80 for line in result.err.splitlines())
    found = json.loads(gnopt(command, "run", *again, "--json").out)
    assert found["handed_out"]["step"] == found["step"] == step
    asked = gnopt(command, "run", *again, "--checkpoint", "latest", "--json")
    assert json.loads(asked.out)["step"] == pointed(here / "run", "latest")
    assert "lowest" not in asked.err


def test_reconstructions_use_the_best_network(tiny, gnopt):
    pytest.importorskip("matplotlib")
    with h5py.File(tiny / "tiny.h5", "a") as file:
        file["x"].attrs["image_shape"] = (3, 4)
    gnopt("train", "tiny.toml", "--out", "run", "-q")
    found = json.loads(gnopt("plot", "run", "--reconstructions", "--json").out)
    assert found["handed_out"]["step"] == pointed(tiny / "run")


def test_the_summary_is_of_the_network_handed_out(here, gnopt):
    result = gnopt("train", "table.toml", "--out", "run")
    loss, step = best_of(here / "run")
    assert f"update {step}, lowest validation loss {loss:.6g}" in result.out
    assert f"stopped: no lower validation loss since update {step}" in result.err
    assert f"handed out: update {step}" in (here / "run/log.txt").read_text()
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_without_validation_rows_the_training_objective_decides(here, gnopt):
    table(here, updates=25, data="validation = 0")
    result = gnopt("train", "table.toml", "--out", "run", "--json")
    found = json.loads(result.out)
    assert found["stop"] == "updates"
    assert found["handed_out"]["judged_by"] == "train_loss"
    assert found["handed_out"]["step"] == best_of(here / "run", "train_loss")[1] > 0
    assert "lowest training objective" in gnopt("evaluate", "run").err


def test_patience_is_the_first_evaluation_that_is_late_enough(here, gnopt):
    gnopt("train", "table.toml", "--out", "run", "-q")
    found = rows(here / "run/eval.csv")
    steps = [int(row["step"]) for row in found]
    _, best = best_of(here / "run")
    last = len(rows(here / "run/steps.csv"))
    assert last == next(step for step in steps if step >= 2 * best + 20)
    whole = gnopt("train", "table.toml", "--out", "whole", "--set", "training.patience=0", "--json")
    assert json.loads(whole.out)["updates"] == 400


def test_a_converged_run_stops_without_validation_rows(here, gnopt):
    """Weights at the minimum of a small full-batch problem no longer move."""
    rng = np.random.default_rng(0)
    with h5py.File(here / "table.h5", "w") as file:
        file["x"], file["y"] = rng.normal(size=(40, 2)), np.zeros(40)
    table_config = CONFIG.format(updates=3000, every=500, data="validation = 0", width=2)
    (here / "table.toml").write_text(table_config)
    settings = ["--set", "optimizer.method=sgd", "--set", "optimizer.learning_rate=0.5"]
    found = json.loads(gnopt("train", "table.toml", "--out", "run", "--json", *settings).out)
    assert found["stop"] == "converged"
    assert found["updates"] < 3000
    assert "have not changed" in (here / "run/log.txt").read_text()


def test_training_that_only_makes_it_worse_is_said(here, gnopt):
    """Validation rows whose targets have the other sign: what is learned does not hold there."""
    rng = np.random.default_rng(0)
    with h5py.File(here / "table.h5", "w") as file:
        for name, sign in (("train", 1.0), ("validation", -1.0)):
            x = rng.normal(size=(60, 10))
            file[f"{name}/x"], file[f"{name}/y"] = x, sign * x[:, 0]
    text = CONFIG.format(updates=9, every=4, data='validation = "validation"', width=20)
    (here / "table.toml").write_text(text)
    result = gnopt("train", "table.toml", "--out", "run")
    assert result.code == 0, result.err
    assert "update 0, untrained, lowest validation loss" in result.out
    assert pointed(here / "run") == 0
    complaint = "training made the network worse; the untrained network is handed out"
    assert complaint in result.err
    assert complaint in gnopt("evaluate", "run").err
    assert complaint in json.loads((here / "run/run.json").read_text())["shortcomings"]


def test_a_run_that_stopped_goes_on_with_more_patience(here, gnopt):
    gnopt("train", "table.toml", "--out", "parts", "-q")
    done = len(rows(here / "parts/steps.csv"))
    again = gnopt("train", "--resume", "--out", "parts", "--json")
    assert json.loads(again.out)["updates"] == done
    more = ["--set", "training.patience=0", "--max-updates", done + 45]
    assert gnopt("train", "--resume", "--out", "parts", "-q", *more).code == 0
    assert gnopt("train", "table.toml", "--out", "whole", "-q", *more).code == 0
    same_runs(here / "whole", here / "parts")


@pytest.mark.parametrize("stop_at", [1, 2, 7, 31, 60, 61])
def test_a_run_in_parts_has_the_same_best_and_the_same_end(here, gnopt, stop_at):
    gnopt("train", "table.toml", "--out", "whole", "-q")
    gnopt("train", "table.toml", "--out", "parts", "-q", "--max-updates", stop_at)
    result = gnopt("train", "table.toml", "--out", "parts", "-q", "--resume")
    assert result.code == 0, result.err
    same_runs(here / "whole", here / "parts")


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_has_the_same_best_and_the_same_end(here, gnopt, seed):
    gnopt("train", "table.toml", "--out", "whole", "-q")
    wait, resume = random.Random(seed), []
    for _ in range(3):
        child = start("train", "table.toml", "--out", "parts", "-q", *resume)
        wait_until(lambda: has_lines(here / "parts/steps.csv", 3), child)
        time.sleep(wait.uniform(0.0, 0.4))
        child.kill()
        child.communicate()
        resume = ["--resume"]
        if (here / "parts/checkpoints/best").exists():
            evaluated = gnopt("evaluate", "parts", "--json")
            assert evaluated.code == 0, evaluated.err
    assert gnopt("train", "table.toml", "--out", "parts", "-q", *resume).code == 0
    same_runs(here / "whole", here / "parts")


def test_the_best_network_needs_little_room_and_is_not_resumed_from(here, gnopt):
    gnopt("train", "table.toml", "--out", "run", "-q")
    folder = here / "run/checkpoints"
    with h5py.File(folder / f"step-{pointed(here / 'run'):06d}.h5") as file:
        assert list(file["state"]) == ["counters"]
    (folder / "latest").unlink()
    done = len(rows(here / "run/steps.csv"))
    more = ["--set", "training.patience=0", "--max-updates", done + 5]
    assert gnopt("train", "--resume", "--out", "run", "-q", *more).code == 0
    assert [int(row["step"]) for row in rows(here / "run/steps.csv")] == [*range(1, done + 6)]


@pytest.mark.parametrize("patience", [None, 2.0])
def test_a_comparison_stops_early_only_if_the_configuration_says_so(here, gnopt, patience):
    table(here, updates=200)
    given = ["--set", f"training.patience={patience}"] if patience else []
    arguments = ["--methods", "kfra", "--jobs", 1, "--out", "c", "-q"]
    result = gnopt("compare", "table.toml", *arguments, *given)
    assert result.code == 0, result.err
    (path,) = (here / "c/runs").rglob("run.json")
    info = json.loads(path.read_text())
    assert info["stop"] == ("patience" if patience else "updates")
    assert (info["step"] < 200) == bool(patience)
