"""A sibling is one file: throw-away siblings of every kind go through every command.

No file outside ``tests/siblings`` knows any of them, and every command has to serve them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from newcomers import NAMES, added

from gnopt.registry import discover

KEYS = {
    "activations": "network.activation",
    "curvature": "optimizer.method",
    "losses": "network.loss",
    "metrics": "training.metrics",
    "optimizers": "optimizer.method",
}
METHODS = [*NAMES["curvature"], *NAMES["optimizers"]]


@pytest.fixture(autouse=True)
def newcomers() -> Iterator[None]:
    """The siblings, found by their packages for the time of a test."""
    with added():
        yield


@pytest.fixture(
    params=[(kind, name) for kind, names in NAMES.items() for name in names],
    ids=lambda sibling: sibling[1],
)
def sets(request: pytest.FixtureRequest) -> list[str]:
    """The arguments that put one of them into a configuration."""
    kind, name = request.param
    more = ["--set", "network.loss=softmax_cross_entropy", "--set", "data.targets=y"]
    return ["--set", f"{KEYS[kind]}={name}", *(more if kind == "metrics" else [])]


@pytest.fixture
def trained(tiny: Path, gnopt, sets: list[str]) -> Path:
    """A run with one of them."""
    result = gnopt("train", "tiny.toml", "--out", "run", *sets)
    assert result.code == 0, result.err
    return tiny / "run"


def test_they_are_listed_and_gone_afterwards(gnopt):
    table = json.loads(gnopt("list", "--json").out)
    for kind, names in NAMES.items():
        assert names
        assert set(names) <= table["methods" if KEYS[kind] == "optimizer.method" else kind].keys()
    discover.cache_clear()


def test_training_reduces_the_loss_and_goes_on_where_it_stopped(trained, gnopt):
    with (trained / "eval.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    resumed = gnopt("train", "--resume", "--out", "run", "--max-updates", 15)
    assert resumed.code == 0, resumed.err


def test_configurations_are_checked(tiny, gnopt, sets):
    for command in ("check", "show"):
        result = gnopt("config", command, "tiny.toml", *sets)
        assert result.code == 0, result.err


def test_a_dry_run_tells_the_cost(tiny, gnopt, sets):
    result = gnopt("train", "tiny.toml", "--dry-run", "--json", *sets)
    assert result.code == 0, result.err
    assert json.loads(result.out)["flops"] > 0.0


VARIANTS = {
    "sketched inverses": "sketch_g=0.3",
    "no averages": "curvature_decay=0.0",
    "exact split": "damping_split=exact",
    "Levenberg-Marquardt": "damping_rule=lm",
    "fixed damping": "damping_rule=fixed",
    "blocks": "factor_width=4",
    "Cholesky factors": "inverse_period=1",
}


@pytest.mark.parametrize("name", NAMES["curvature"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_new_curvature_trains_with_every_option(tiny, gnopt, monkeypatch, name, variant):
    monkeypatch.setattr("gnopt.curvature.blocks.SKETCH_WIDTH", 5)  # all hidden layers but the code
    sets = ("--set", f"optimizer.method={name}", "--set", f"optimizer.{VARIANTS[variant]}")
    result = gnopt("train", "tiny.toml", "--out", "run", "--json", *sets)
    assert result.code == 0, result.err
    with (tiny / "run" / "eval.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES["curvature"])
def test_a_new_curvature_preconditions_conjugate_gradients(tiny, gnopt, name):
    sets = ("optimizer.method=gauss_newton", f"optimizer.preconditioner={name}")
    arguments = [part for text in sets for part in ("--set", text)]
    result = gnopt("train", "tiny.toml", "--out", "run", *arguments)
    assert result.code == 0, result.err


def test_inspection(trained, gnopt):
    result = gnopt("inspect-curvature", "run", "--alignment", "--density", "--surface")
    assert result.code == 0, result.err
    assert gnopt("inspect-curvature", "run", "--export", "e.h5").code == 0


@pytest.mark.parametrize("name", NAMES["curvature"])
def test_inspection_of_a_new_curvature_alone(tiny, gnopt, name):
    """Its own block is looked at, and the alignment needs no method that it knows."""
    assert gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 4).code == 0
    wanted = ("--alignment", "--curvature", name, "--json")
    result = gnopt("inspect-curvature", "run", *wanted)
    assert result.code == 0, result.err
    assert name in result.out


def test_self_test(tiny, gnopt, sets):
    result = gnopt("inspect-curvature", "tiny.toml", "--check", *sets)
    assert result.code == 0, result.out + result.err


def test_export(trained, gnopt):
    for name in ("w.h5", "w.npz", "w.onnx", "w.c", "w.f90"):
        result = gnopt("export", "run", name)
        assert result.code == 0, result.err
    with h5py.File("w.h5") as file, np.load("w.npz") as arrays:
        assert (file["network/layers/1/weight"][()] == arrays["weight_1"]).all()


def test_evaluation_and_prediction(trained, gnopt):
    assert gnopt("evaluate", "run").code == 0
    assert gnopt("predict", "run", "tiny.h5", "p.h5").code == 0
    with h5py.File("p.h5") as file:
        assert np.isfinite(file["x"][()]).all()


def test_figures(trained, gnopt):
    assert gnopt("plot", "run").code == 0


@pytest.mark.parametrize("kind", ["activations", "losses"])
def test_bench_on_a_new_problem(tiny, gnopt, kind):
    sets = [part for name in NAMES[kind] for part in ("--set", f"{KEYS[kind]}={name}")]
    result = gnopt("bench", "tiny.toml", "--rounds", 1, "--json", *sets)
    assert result.code == 0, result.err


def test_bench_of_new_methods(tiny, gnopt):
    """Each is timed, and costs what it says: none is taken for another method."""
    names = ",".join([*METHODS, "kfac"])
    result = gnopt("bench", "tiny.toml", "--rounds", 1, "--methods", names, "--json")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)["results"]
    flops = {method["method"]: method["flops"] for method in found["methods"]}
    assert flops["lion"] < flops["foof"] < flops["rank_one"] < flops["kfac"]
    assert flops["shrunk_fisher"] == flops["kfac"]  # a column passed back, and full matrices
