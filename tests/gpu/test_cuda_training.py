"""Whole commands with ``--device cuda`` on the double: training, resuming on the other device, use,
inspection.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cupy_double import Counters, installed
from gpu_case import same_files

from gnopt.cli import main
from gnopt.training.checkpoint import load_network
from gnopt.training.setup import Experiment

CONFIG = """
[data]
file = "tiny.h5"
[network]
hidden = [8, 3, 8]
activation = ["tanh", "identity", "tanh"]
loss = "binary_cross_entropy"
[optimizer]
method = "kfra"
growth_rate = 1.3
growth_noise = 0.0
weight_decay = 1e-6
[training]
batch_size = 16
updates = 12
evaluate_every = 4
checkpoint_every = 3
dtype = "float64"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "tiny.h5", "w") as file:
        file["x"] = rng.random((90, 9))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path / "tiny.toml"


def gnopt(*argv: object) -> int:
    """The exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, argv)])
    return int(caught.value.code or 0)


def numbers(path: Path) -> np.ndarray:
    with path.open() as file:
        rows = [
            {k: v for k, v in row.items() if k not in ("seconds", "wall")}
            for row in csv.DictReader(file)
        ]
    return np.array([[float(v or "nan") for v in row.values()] for row in rows])


def same(one: Path, other: Path) -> None:
    for name in ("steps.csv", "eval.csv"):
        np.testing.assert_allclose(numbers(one / name), numbers(other / name), rtol=1e-6, atol=1e-8)
    last = [
        load_network(run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip())
        for run in (one, other)
    ]
    for a, b in zip(last[0].weights, last[1].weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_train_on_either_device_and_change_between(config, tmp_path, capsys):
    assert gnopt("train", config, "--out", tmp_path / "cpu", "-q") == 0
    with installed() as counters:
        assert gnopt("train", config, "--out", tmp_path / "gpu", "-q", "--device", "cuda:0") == 0
        whole = counters.d2h
    same(tmp_path / "cpu", tmp_path / "gpu")
    info = json.loads((tmp_path / "gpu" / "run.json").read_text())
    assert info["device"] == "cuda:0"
    assert info["versions"]["gpu"] == "double"
    assert whole < 12 * 3 + 5 * 60  # scalars of updates; arrays of checkpoints; sums of evaluations
    mixed = tmp_path / "mixed"
    assert gnopt("train", config, "--out", mixed, "-q", "--max-updates", 3) == 0
    with installed():
        assert (
            gnopt("train", "--resume", "--out", mixed, "-q", "--device", "cuda", "--max-updates", 8)
            == 0
        )
    assert (
        gnopt("train", "--resume", "--out", mixed, "-q", "--device", "cpu", "--max-updates", 12)
        == 0
    )
    same(tmp_path / "cpu", mixed)


@pytest.mark.parametrize("method", ["kfac", "momentum"])
def test_another_start_is_made_on_either_device(config, tmp_path, monkeypatch, method):
    def dead(experiment, init_from=None):
        theta = original(experiment, init_from)
        experiment.net.views(theta)[0][:] = -1.0
        return theta

    original = Experiment.initial_weights
    monkeypatch.setattr(Experiment, "initial_weights", dead)
    monkeypatch.setattr("gnopt.training.watch.EFFORT", {1: 12, 2: 12})
    growth = "growth_rate = 1.3\ngrowth_noise = 0.0\n"
    text = CONFIG.replace(growth, "").replace("kfra", method).replace('"tanh"', '"relu"')
    config.write_text(text)
    logs = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        with installed():
            arguments = ["--device", device, "--max-updates", 20]
            assert gnopt("train", config, "--out", out, "-q", *arguments) == 0
        lines = (out / "log.txt").read_text().splitlines()
        logs.append([line.partition(" ")[2] for line in lines if "start 2 begins" in line])
    assert len(logs[0]) == 1
    assert "layer 1: 8 of 8 relu units give 0 on every row" in logs[0][0]
    assert logs[1] == logs[0]
    tables = [(tmp_path / device / "steps.csv").read_text() for device in ("cpu", "cuda")]
    first = [float(list(csv.DictReader(table.splitlines()))[12]["loss"]) for table in tables]
    assert first[1] == pytest.approx(first[0], rel=1e-9)


@pytest.mark.parametrize("method", ["adam", "ekfac", "kflr", "hessian_free"])
def test_other_methods(config, tmp_path, method):
    growth = "growth_rate = 1.3\ngrowth_noise = 0.0\n"
    few = "iterations = 5\n" if method == "hessian_free" else ""
    config.write_text(CONFIG.replace(growth, few).replace("kfra", method))
    runs = []
    for device in ("cpu", "cuda"):
        runs.append(tmp_path / device)
        with installed():
            assert (
                gnopt(
                    "train", config, "--out", runs[-1], "-q", "--device", device, "--max-updates", 4
                )
                == 0
            )
    same(*runs)


def test_use_of_a_run(config, tmp_path, capsys):
    run = tmp_path / "run"
    assert gnopt("train", config, "--out", run, "-q", "--max-updates", 3) == 0
    capsys.readouterr()
    found = []
    for device in ("cpu", "cuda"):
        with installed():
            assert gnopt("evaluate", run, "--json", "--device", device) == 0
            found.append(capsys.readouterr().out)
            assert (
                gnopt(
                    "predict",
                    run,
                    tmp_path / "tiny.h5",
                    tmp_path / f"{device}.h5",
                    "--device",
                    device,
                )
                == 0
            )
            capsys.readouterr()
    one, other = (
        json.loads(text, parse_float=lambda digits: f"{float(digits):.9g}") for text in found
    )
    assert one == other
    assert "." in found[0]
    same_files(tmp_path / "cpu.h5", tmp_path / "cuda.h5", 1e-10)


def test_inspection(config, tmp_path):
    files = []
    for device in ("cpu", "cuda"):
        files.append(tmp_path / f"{device}.h5")
        with installed():
            assert (
                gnopt(
                    "inspect-curvature",
                    config,
                    "--samples",
                    20,
                    "--device",
                    device,
                    "--export",
                    files[-1],
                    "--alignment",
                    "--density",
                    "--curvature",
                    "hessian,gauss_newton,kflr,kfra,kfac",
                    "-q",
                )
                == 0
            )
    assert len(same_files(*files, 1e-8)) > 20


def test_the_plan_counts_the_device(config, tmp_path, capsys):
    with installed():
        assert gnopt("train", config, "--device", "cuda", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["free"] == 3 << 30


def test_no_device_is_a_matter_of_configuration(config, tmp_path, capsys):
    with installed(devices=0, driver=0):
        assert gnopt("train", config, "--device", "cuda", "--out", tmp_path / "none") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "gnopt[cuda13]" in lines[0]
    assert not (tmp_path / "none").exists()


def test_batches_are_announced_and_taken(config, tmp_path):
    from gnopt.config import load
    from gnopt.engine.arrays.cupy import CudaBackend
    from gnopt.training.batches import Batches
    from gnopt.training.setup import build

    experiment = build(load(config, (), {}))
    with installed() as counters:
        assert isinstance(counters, Counters)
        ops = CudaBackend(0)
        batches = Batches(experiment.data.train, experiment.loss, ops)
        batches.announce(16, 16)
        batches.settle()
        before = counters.h2d
        x, y = batches.take(16, 16)
        assert x is y
        assert counters.h2d == before
        np.testing.assert_array_equal(ops.to_host(x), experiment.data.train.batch(16, 16)[0])
        batches.announce(32, 16)
        other, _ = batches.take(32, 20)  # another size than announced: read anew
        assert other.shape == (20, 9)
        assert counters.h2d == before + 2
        batches.close()
    experiment.data.close()
