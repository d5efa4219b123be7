"""The last step of a run is judged by the batch that would come next, and the run can go on as if
it had not been.
"""

import json

import h5py
import numpy as np
import pytest
from cli_tools import rows, same_runs

# Steps 100 times too long: the first makes the loss jump, and is undone by the second update.
WILD = [
    "--set",
    "optimizer.rescale=false",
    "--set",
    "optimizer.learning_rate=100",
    "--set",
    "optimizer.step_limit=0",
    "--set",
    "optimizer.growth_limit=1",
]


def weights(path):
    with h5py.File(path) as file:
        return [
            layer[part][()]
            for layer in file["network/layers"].values()
            for part in ("weight", "bias")
        ]


@pytest.mark.parametrize("in_turn", [True, False])
def test_a_last_step_that_made_the_loss_jump_is_not_handed_out(tiny, gnopt, in_turn):
    periods = [
        "--set",
        f"training.evaluate_every={1 if in_turn else 50}",
        "--set",
        f"training.checkpoint_every={1 if in_turn else 50}",
    ]
    result = gnopt(
        "train", "tiny.toml", "--out", "run", "--max-updates", 1, "--json", *WILD, *periods
    )
    assert result.code == 0, result.err
    found = rows(tiny / "run/eval.csv")
    assert [row["step"] for row in found] == ["0", "1", "1"]
    start, left, closing = (float(row["train_loss"]) for row in found)
    assert closing == start
    assert left > 1.5 * start
    assert json.loads(result.out)["objective"] == start
    assert "is not handed out" in (tiny / "run/log.txt").read_text()
    before, after = (weights(tiny / f"run/checkpoints/step-{k:06d}.h5") for k in (0, 1))
    assert before
    assert all(map(np.array_equal, before, after))
    again = gnopt("train", "--resume", "--out", "run", "--json")
    assert json.loads(again.out) == json.loads(result.out)
    assert len(rows(tiny / "run/eval.csv")) == 3


@pytest.mark.parametrize("period", [1, 2, 50])
def test_a_run_goes_on_from_there_as_if_it_had_not_ended(tiny, gnopt, period):
    settings = [
        *WILD,
        "--set",
        f"training.evaluate_every={period}",
        "--set",
        f"training.checkpoint_every={period}",
    ]
    assert gnopt("train", "tiny.toml", "--out", "whole", "--max-updates", 9, *settings).code == 0
    assert gnopt("train", "tiny.toml", "--out", "parts", "--max-updates", 1, *settings).code == 0
    assert len([row for row in rows(tiny / "parts/eval.csv") if row["step"] == "1"]) == 2
    result = gnopt(
        "train", "tiny.toml", "--out", "parts", "--resume", "--max-updates", 9, *settings
    )
    assert result.code == 0, result.err
    same_runs(tiny / "whole", tiny / "parts")


def test_an_ordinary_end_leaves_no_trace(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run").code == 0
    steps = [row["step"] for row in rows(tiny / "run/eval.csv")]
    assert len(steps) == len(set(steps))
    assert "not handed out" not in (tiny / "run/log.txt").read_text()
