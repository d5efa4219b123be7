"""A network that is no better than a constant is never handed out without a sentence."""

import json

import h5py
import numpy as np
import pytest
from cli_tools import CONFIG

SENTENCE = "than the best constant on the training rows"
# Steps too short to learn anything by.
IDLE = ["--set", "optimizer.method=sgd", "--set", "optimizer.learning_rate=1e-9"]


def test_the_constant_is_shown_beside_the_first_evaluation(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run")
    assert result.code == 0, result.err
    (line,) = (line for line in result.err.splitlines() if line.startswith("constant "))
    shown = float(line.split()[1].rstrip(":"))
    with h5py.File(tiny / "tiny.h5") as file:
        y = file["x"][:] / 255.0
    with h5py.File(tiny / "run/checkpoints/step-000012.h5") as file:
        assert file.attrs["train_constant"] == pytest.approx(shown, abs=1e-4)
        p = 1.0 / (1.0 + np.exp(-file["constant"][:]))
    np.testing.assert_allclose(p, y.mean(axis=0), atol=0.1)
    assert SENTENCE not in result.err + result.out


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_train_says_that_nothing_was_learned(tiny, gnopt, quiet):
    result = gnopt("train", "tiny.toml", "--out", "run", *IDLE, *quiet)
    assert result.code == 0, result.err
    assert (SENTENCE in result.err) == (not quiet)
    assert ": the network is " in result.out
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


def test_a_trained_network_needs_no_word(tiny, gnopt):
    (tiny / "tiny.toml").write_text(CONFIG.replace('"identity"', '"tanh"'))
    result = gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 30)
    assert SENTENCE not in result.err
    assert SENTENCE not in gnopt("evaluate", "run", "--split", "train").err
