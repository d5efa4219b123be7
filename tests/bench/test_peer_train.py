"""The training loop that runs under a peer's interpreter, with a stand-in for the peer."""

import json
import sys

import numpy as np
import pytest

from peers import peer_runs, peer_train
from peers.problems import QUICK
from peers.targets import Problem, evaluations


class Halving:
    """A loss that each update halves."""

    def __init__(self, task, weights):
        self.value, self.shapes, self.seen = 1024.0, [w.shape for w in weights], []

    def step(self, data):
        x, _ = next(data)
        self.seen.append(len(x))
        self.value /= 2.0

    def evaluate(self, x, y):
        return self.value


@pytest.fixture
def task(tmp_path):
    return {
        "seconds": 1e9,
        "every": 0.0,
        "target": -1.0,
        "log": str(tmp_path / "eval.csv"),
        "batch": 30,
        "seed": 0,
    }


def test_ends_at_the_target(task, tmp_path):
    x = np.zeros((70, 2), "float32")
    peer = Halving({}, [])
    peer_train.train(peer, {**task, "target": 0.07}, x, x)
    steps = evaluations(tmp_path / "eval.csv")
    assert [(step, loss) for step, _, loss in steps] == [
        (0, 1024.0),
        (12, 0.25),
        (13, 0.125),
        (14, 0.0625),
    ]
    assert set(peer.seen) == {30}


def test_ends_with_the_budget_or_a_loss_that_is_not_finite(task, tmp_path):
    x = np.zeros((70, 2), "float32")
    peer_train.train(Halving({}, []), {**task, "seconds": 1e-9}, x, x)
    assert len(evaluations(tmp_path / "eval.csv")) == 2
    peer = Halving({}, [])
    peer.value = np.nan
    peer_train.train(peer, task, x, x)
    assert len(evaluations(tmp_path / "eval.csv")) == 2


def test_batches_run_through_every_row():
    x = np.arange(60)
    taken = peer_train.batches(x, x, 20, 1)
    epoch = np.concatenate([next(taken)[0] for _ in range(3)])
    assert sorted(epoch) == list(range(60))


def test_a_peer_starts_from_gnopts_weights(tmp_path):
    net = QUICK["mnist10k"]
    told = peer_runs._export(Problem(net.path, net.sets), tmp_path / "start.npz")
    arrays = np.load(tmp_path / "start.npz")
    assert [arrays[f"W{layer}"].shape[0] for layer in range(6)] == [96, 32, 8, 32, 96, 784]
    assert told["activations"] == ["tanh", "tanh", "identity", "tanh", "tanh", "identity"]
    assert np.any(arrays["W5"][:, -1]), "the output bias starts at the data's mean"
    assert json.dumps(told)


def test_absent_programs_are_told(tmp_path):
    runs, absent = peer_runs.peer_runs(str(tmp_path / "python"), 1)
    assert runs == []
    assert len(absent) == 2
    assert "No such file" in absent[0]
    assert "No module named" in peer_runs._lacks(sys.executable, "no_such_module")
