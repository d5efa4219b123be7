"""A network that is no better than a constant is never handed out without a sentence, and a run
that stands still makes another start.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import CONFIG, rows, same_runs

from gnopt.training import setup

SENTENCE = "than the best constant on the training rows"
# Steps too short to learn anything by.
IDLE = ["--set", "optimizer.method=sgd", "--set", "optimizer.learning_rate=1e-9"]


def test_the_constant_is_shown_beside_the_first_evaluation(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run")
    assert result.code == 0, result.err
    words = "loss of the best constant prediction: "
    (line,) = (line for line in result.err.splitlines() if line.startswith(words))
    shown = float(line.removeprefix(words))
    with h5py.File(tiny / "tiny.h5") as file:
        y = file["x"][:] / 255.0
    with h5py.File(tiny / "run/checkpoints/step-000012.h5") as file:
        assert file.attrs["train_constant"] == pytest.approx(shown, rel=1e-3)
        p = 1.0 / (1.0 + np.exp(-file["constant"][:]))
    np.testing.assert_allclose(p, y.mean(axis=0), atol=0.1)
    assert SENTENCE not in result.err + result.out


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_train_says_that_nothing_was_learned(tiny, gnopt, quiet):
    result = gnopt("train", "tiny.toml", "--out", "run", *IDLE, *quiet)
    assert result.code == 0, result.err
    assert (SENTENCE in result.err) == (not quiet)
    assert SENTENCE in result.out
    assert SENTENCE in (tiny / "run/log.txt").read_text()
    info = json.loads((tiny / "run/run.json").read_text())
    assert SENTENCE in info["shortcomings"][0]


def test_those_who_use_the_network_are_told(tiny, gnopt):
    summary = gnopt("train", "tiny.toml", "--out", "run", "--json", *IDLE)
    found = json.loads(summary.out)
    assert SENTENCE in found["shortcomings"][0]
    assert found["constant"] < found["objective"] + 1e-3
    evaluated = gnopt("evaluate", "run", "--split", "train", "--json")
    assert SENTENCE in evaluated.err
    split = json.loads(evaluated.out)["splits"]["train"]
    assert split["constant"] == pytest.approx(found["constant"], rel=1e-6)
    assert SENTENCE in gnopt("predict", "run", "tiny.h5", "out.h5").err
    assert SENTENCE in gnopt("export", "run", "out.npz").err


def test_first_weights_that_are_scaled_to_the_data_are_told(tiny, process):
    deep = ["--set", f"network.hidden={[4] * 12}", "--set", 'network.activation="gelu"']
    short = ["--max-updates", 2]
    told = "initial weights are scaled to the data layer by layer: 12 hidden layers"
    result = process("train", "tiny.toml", "--out", "run", *deep, *short)
    assert result.code == 0, result.err
    assert told in result.err
    assert told in (tiny / "run/log.txt").read_text()
    named = process("train", "tiny.toml", "--out", "he", *deep, *short, "--set", "network.init=he")
    assert "initial weights" not in named.err
    assert process("train", "tiny.toml", *deep, "--dry-run").code == 0
    resumed = process("train", "--out", "run", "--resume", "--max-updates", 4)
    assert resumed.code == 0, resumed.err
    whole = process("train", "tiny.toml", "--out", "whole", *deep, "--max-updates", 4)
    assert whole.code == 0, whole.err
    same_runs(Path("whole"), Path("run"))


def test_a_trained_network_needs_no_word(tiny, gnopt):
    (tiny / "tiny.toml").write_text(CONFIG.replace('"identity"', '"tanh"'))
    result = gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 30)
    assert SENTENCE not in result.err
    assert SENTENCE not in gnopt("evaluate", "run", "--split", "train").err


# ---- the ladder ----------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """Efforts of ten updates."""
    monkeypatch.setattr("gnopt.training.watch.EFFORT", {1: 10, 2: 10})


@pytest.fixture
def dead(tiny, short, monkeypatch):
    """A configuration whose first weights leave every unit of the first layer dead, so that no
    method can move them.
    """

    def initial_weights(experiment, init_from=None):
        theta = original(experiment, init_from)
        if init_from is None:
            first = experiment.net.views(theta)[0]
            first[:, :-1], first[:, -1] = 0.0, -1.0
        return theta

    original = setup.Experiment.initial_weights
    monkeypatch.setattr(setup.Experiment, "initial_weights", initial_weights)
    (tiny / "dead.toml").write_text(CONFIG.replace('"tanh"', '"relu"'))
    return "dead.toml"


def told(folder):
    """The lines of the ladder in a log."""
    lines = (folder / "log.txt").read_text().splitlines()
    words = "best constant's", "; start "
    return [line.partition(" ")[2] for line in lines if any(word in line for word in words)]


@pytest.mark.parametrize("method", ["adam", "gauss_newton"])
def test_another_start_cures_a_dead_network(dead, gnopt, method):
    arguments = ["train", dead, "--set", f"optimizer.method={method}"]
    if method == "adam":
        arguments += ["--set", "optimizer.learning_rate=0.05"]
    result = gnopt(*arguments, "--out", "run", "--max-updates", 40)
    assert result.code == 0, result.err
    (line,) = told(Path("run"))
    assert line.startswith("update 10: in 10 updates")
    assert "layer 1: 8 of 8 relu units give 0 on every row; start 2 begins" in line
    assert line in result.err
    assert SENTENCE not in result.err


def test_without_restarts_a_run_only_says_so(dead, gnopt):
    settings = ["--set", "training.restarts=0", "--max-updates", 40]
    settings += ["--set", "optimizer.method=adam"]
    assert gnopt("train", dead, "--out", "run", *settings).code == 0
    (line,) = told(Path("run"))
    assert "layer 1" in line
    assert "; try another network.activation, fewer layers" in line


@pytest.mark.parametrize("stop", [9, 10, 11, 17, 20, 25])
@pytest.mark.parametrize("method", ["kfac", "momentum"])
def test_a_run_resumed_on_the_ladder_equals_one_that_was_never_stopped(dead, gnopt, method, stop):
    settings = [
        *("--set", f"optimizer.method={method}"),
        *("--set", "training.checkpoint_every=4"),
        *("--set", "data.targets=y", "--set", "network.loss=softmax_cross_entropy"),
    ]
    if method == "momentum":  # learns nothing, and climbs the whole ladder
        settings += ["--set", "optimizer.learning_rate=1e-9"]
    whole, parts = ["--out", "whole"], ["--out", "parts"]
    assert gnopt("train", dead, *whole, "--max-updates", 45, *settings).code == 0
    assert gnopt("train", dead, *parts, "--max-updates", stop, *settings).code == 0
    result = gnopt("train", *parts, "--resume", "--max-updates", 45)
    assert result.code == 0, result.err
    same_runs(Path("whole"), Path("parts"))
    assert len(told(Path("whole"))) == (3 if method == "momentum" else 1)


@pytest.mark.parametrize("last", [8, 12, 20])
def test_a_killed_run_climbs_the_same_ladder_again(dead, gnopt, last):
    settings = [
        *("--set", "optimizer.method=momentum", "--set", "optimizer.learning_rate=1e-9"),
        *("--set", "training.checkpoint_every=4", "--set", "training.keep_checkpoints=20"),
    ]
    assert gnopt("train", dead, "--out", "whole", "--max-updates", 36, *settings).code == 0
    assert len(told(Path("whole"))) == 3
    shutil.copytree("whole", "killed")
    (Path("killed") / "checkpoints" / "latest").unlink()
    for path in Path("killed/checkpoints").glob("step-*.h5"):
        if int(path.stem.partition("-")[2]) > last:
            path.unlink()
    assert gnopt("train", "--out", "killed", "--resume").code == 0
    same_runs(Path("whole"), Path("killed"))


def test_dead_units_are_counted_and_spoken_of_once(dead, gnopt):
    settings = ["--set", "training.restarts=0", "--max-updates", 30]
    assert gnopt("train", dead, "--out", "run", *settings).code == 0
    counts = [row["dead_units"] for row in rows(Path("run/steps.csv"))]
    assert counts[0].startswith("19")  # all: what follows a dead layer does not vary
    text = "update 1: layer 1: 8 of 8 relu units give 0 on every row"
    assert (Path("run") / "log.txt").read_text().count(text) == 1
    info = json.loads((Path("run") / "run.json").read_text())
    assert info["starts"] == 1


def test_inputs_that_do_not_vary_are_named(tiny, gnopt, short):
    with h5py.File(tiny / "same.h5", "w") as file:
        file["x"], file["y"] = np.ones((60, 3)), np.random.default_rng(0).integers(0, 3, 60)
    settings = ["--set", "data.targets=y", "--set", "network.loss=softmax_cross_entropy"]
    result = gnopt("train", "tiny.toml", "--data", "same.h5", "--out", "run", *settings)
    assert result.code == 0, result.err
    (line,) = told(tiny / "run")
    assert line.endswith("; the inputs are the same on every row")


def test_weights_that_were_given_are_kept(dead, gnopt):
    adam = ["--set", "optimizer.method=adam"]
    assert gnopt("train", dead, "--out", "first", "--max-updates", 2, *adam).code == 0
    given = ["--init-from", "first/checkpoints/step-000002.h5"]
    assert gnopt("train", dead, "--out", "run", "--max-updates", 30, *adam, *given).code == 0
    (line,) = told(Path("run"))
    assert "start 2" not in line


def test_a_run_that_diverges_before_it_has_learned_starts_again(tiny, gnopt):
    wild = ["--set", "optimizer.method=sgd", "--set", "optimizer.learning_rate=1e30"]
    result = gnopt("train", "tiny.toml", "--out", "run", *wild)
    assert result.code == 3
    log = (tiny / "run/log.txt").read_text()
    assert "start 2 begins" in log
    assert "start 3 begins" in log
    assert "start 4" not in log


def test_all_the_way_to_advice(tiny, process):
    result = process(
        "train",
        "tiny.toml",
        "--out",
        "run",
        "--max-updates",
        3100,
        *IDLE,
        "--set",
        "data.split=end",
    )
    assert result.code == 0, result.err
    lines = told(tiny / "run")
    assert [line.split(":")[0] for line in lines] == ["update 1000", "update 2000", "update 3000"]
    assert "; start 2 begins" in lines[0]
    assert "; start 3 begins" in lines[1]
    assert "try another network.activation" in lines[2]
    assert "start 3 of 3" not in lines[2]


def test_a_run_that_learns_never_hears_of_it(tiny, gnopt, short):
    assert gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 60).code == 0
    with_it = rows(tiny / "run/steps.csv")
    assert told(tiny / "run") == []
    off = ["--set", "training.restarts=0"]
    assert gnopt("train", "tiny.toml", "--out", "off", "--max-updates", 60, *off).code == 0
    assert rows(tiny / "off/steps.csv") == with_it
