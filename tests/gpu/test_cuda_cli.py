"""The commands as a user runs them, with ``--device cuda``, in processes of their own.

``cupy_double/site`` on PYTHONPATH puts the double in CuPy's place; the workers of ``compare``
inherit it. Every process logs what it asked of the device, so that none of these tests passes on
the CPU by accident.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cupy_double import python_path
from gpu_case import same_files
from processes import finish, has_lines, wait_until

from gnopt.engine.arrays import shared_by
from gnopt.training.checkpoint import load_network

CONFIG = """
[data]
file = "tiny.h5"
[network]
hidden = [6, 4]
activation = ["tanh", "sigmoid"]
loss = "binary_cross_entropy"
[optimizer]
method = "kfra"
weight_decay = 1e-6
[training]
batch_size = 16
updates = 9
evaluate_every = 3
checkpoint_every = 3
keep_checkpoints = 10
dtype = "float64"
"""
SOLVE = (
    "--alignment",
    "--damping",
    "0.1",
    "--cg-tolerance",
    "1e-9",
)  # else rounding decides which iterate is last
TIMES = ("seconds", "wall", "seconds_per_update")


@dataclass
class Place:
    """A folder with a problem, and the commands that are run in it."""

    folder: Path

    def start(self, *argv: object, devices: str = "1", **environment: str) -> subprocess.Popen[str]:
        """Start a command where there are ``devices`` GPUs; "none" is a machine without CuPy."""
        return subprocess.Popen(
            [sys.executable, "-m", "gnopt", *map(str, argv)],
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": python_path(),
                "GNOPT_DOUBLE_DEVICES": devices,
                "GNOPT_DOUBLE_LOG": str(self.log),
                **environment,
            },
        )

    def fails(self, *argv: object, devices: str = "1") -> tuple[int, str]:
        """Run a command that must write nothing to stdout; return its exit code and its stderr."""
        child = self.start(*argv, devices=devices)
        out, err = finish(child)
        assert not out
        return child.returncode, err.strip()

    def __call__(self, *argv: object, devices: str = "1", **environment: str) -> str:
        """Run a command that must succeed, without a warning of NumPy's about device arrays; return
        its stdout.
        """
        child = self.start(*argv, devices=devices, **environment)
        out, err = finish(child)
        assert child.returncode == 0, err
        assert "Warning" not in err
        return out

    @property
    def log(self) -> Path:
        """What the processes asked of the device."""
        return self.folder / "device.jsonl"

    def used(self) -> list[dict[str, Any]]:
        """Return a line for each process that has asked for CuPy since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


def make_place(folder: Path) -> Place:
    rng = np.random.default_rng(0)
    with h5py.File(folder / "tiny.h5", "w") as file:
        file["x"] = rng.random((60, 12))
        file["x"].attrs["image_shape"] = (3, 4)
    (folder / "tiny.toml").write_text(
        CONFIG.replace("[6, 4]", "[6, 4, 6]").replace('"sigmoid"', '"sigmoid", "tanh"')
    )
    return Place(folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder of its own."""
    return make_place(tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same run on either device, ``cpu`` and ``cuda``."""
    place = make_place(tmp_path_factory.mktemp("runs"))
    place("train", "tiny.toml", "--out", "cpu", "-q")
    assert not place.used()  # CuPy is not even imported
    told = json.loads(
        place("train", "tiny.toml", "--out", "cuda", "-q", "--device", "cuda", "--json")
    )
    (used,) = place.used()
    assert told["updates"] == 9
    assert used["kernels"] > 9
    assert used["h2d"] > 9
    return place


def numbers(path: Path) -> dict[str, list[float]]:
    """The columns of a CSV but for times and texts; NaN where a cell is empty."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0]:
        with contextlib.suppress(ValueError):  # a column of texts
            if name not in TIMES:
                found[name] = [float(row[name] or "nan") for row in rows]
    return found


def same_tables(one: Path, other: Path, rtol: float = 1e-6) -> None:
    a, b = numbers(one), numbers(other)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_allclose(
            b[name], a[name], rtol=rtol, atol=1e-9, err_msg=f"{one.name}: {name}"
        )


def same_runs(one: Path, other: Path) -> None:
    """Two runs with the same log, and the same weights in every checkpoint."""
    for name in ("steps.csv", "eval.csv"):
        same_tables(one / name, other / name)
    names = sorted(path.name for path in (one / "checkpoints").glob("*.h5"))
    assert names
    assert names == sorted(path.name for path in (other / "checkpoints").glob("*.h5"))
    for name in names:
        same_weights(*(run / "checkpoints" / name for run in (one, other)))


def same_weights(*checkpoints: Path) -> None:
    a, b = (load_network(path).weights for path in checkpoints)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-6, atol=1e-9)


def leaves(checkpoint: Path) -> list[tuple[str, str, str]]:
    """Name, type and kind of everything in the state that a checkpoint holds."""
    found: list[tuple[str, str, str]] = []
    with h5py.File(checkpoint) as file:
        file["state"].visititems(
            lambda name, item: found.append(
                (name, str(getattr(item, "dtype", "")), str(item.attrs.get("kind")))
            )
        )
    return found


def close(one: Any, other: Any, skip: Callable[[str], bool] = lambda key: False) -> None:
    """Two JSON values that are equal but for rounding, and for what ``skip`` names."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            if not skip(key):
                close(one[key], other[key], skip)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            close(a, b, skip)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-6, abs=1e-8)
    else:
        assert one == other


# ---- train ---------------------------------------------------------------------------------------


def test_a_run_is_the_same_on_either_device(runs):
    same_runs(runs.folder / "cpu", runs.folder / "cuda")
    info = json.loads((runs.folder / "cuda" / "run.json").read_text())
    assert info["status"] == "done"
    assert info["device"] == "cuda"
    assert info["versions"]["gpu"] == "double"
    # Checkpoints are the host's: the same tree, of the same types.
    cpu, cuda = (
        leaves(runs.folder / run / "checkpoints" / "step-000009.h5") for run in ("cpu", "cuda")
    )
    assert cpu == cuda
    assert len(cpu) > 10


def test_resumed_on_the_other_device_and_back(runs):
    out = ("--out", "mixed", "-q")
    runs("train", "tiny.toml", *out, "--max-updates", 2)
    runs("train", "--resume", *out, "--max-updates", 5, "--device", "cuda:0")
    assert len(runs.used()) == 1
    runs("train", "--resume", *out, "--max-updates", 9, "--device", "cpu", devices="none")
    cpu, mixed = runs.folder / "cpu", runs.folder / "mixed"
    same_tables(cpu / "steps.csv", mixed / "steps.csv")
    same_weights(*(run / "checkpoints" / "step-000009.h5" for run in (cpu, mixed)))


def test_stopped_by_a_signal_and_taken_up(place):
    steps = place.folder / "run" / "steps.csv"
    child = place.start(
        "train", "tiny.toml", "--out", "run", "--device", "cuda", "--max-updates", 100000, "-q"
    )
    wait_until(lambda: has_lines(steps, 3), child)
    child.terminate()
    _, err = finish(child)
    assert child.returncode == 143
    assert "resume with: gnopt train --resume --out run" in err
    (_used,) = place.used()
    done = len(numbers(steps)["step"])
    place(
        "train", "--resume", "--out", "run", "-q", "--max-updates", done + 2
    )  # on the device that it was started on
    assert len(place.used()) == 1
    assert numbers(steps)["step"] == list(range(1, done + 3))


def test_dry_run_plans_for_the_device(place):
    found = {}
    for device in ("cpu", "cuda"):
        found[device] = json.loads(
            place("train", "tiny.toml", "--dry-run", "--json", "--device", device)
        )
    cpu, cuda = found["cpu"], found["cuda"]
    assert cuda["free"] == 3 << 30
    assert cuda["parameters"] == cpu["parameters"]
    assert cuda["flops"] == cpu["flops"]
    rows = {"data in memory": cpu["bytes"].pop("data in memory")}  # those stay on the host
    assert cuda["host"] == rows
    assert not cpu["host"]
    assert cuda["bytes"] == cpu["bytes"]
    assert cuda["total"] == sum(cuda["bytes"].values())
    text = place("train", "tiny.toml", "--dry-run", "--device", "cuda", CUPY_GPU_MEMORY_LIMIT="25%")
    assert "of 1.07 GB free" in text
    assert "on the host" in text
    code, err = place.fails(
        "train",
        "tiny.toml",
        "--device",
        "cuda",
        "--out",
        "large",
        "--set",
        "network.hidden=[20000, 20000, 6]",
        "--set",
        "data.validation=0",
    )
    assert code == 1
    assert "are free on cuda" in err
    assert not (place.folder / "large").exists()


# ---- what is done with a run ---------------------------------------------------------------------


def test_evaluate_and_predict(runs):
    found = []
    for device in ("cpu", "cuda"):
        found.append(json.loads(runs("evaluate", "cuda", "--json", "--device", device)))
        runs("predict", "cuda", "tiny.h5", f"{device}.h5", "--layer", "code", "--device", device)
        assert len(runs.used()) == (2 if device == "cuda" else 0)
    close(*found)
    assert len(same_files(runs.folder / "cpu.h5", runs.folder / "cuda.h5", 1e-8)) == 1


def test_a_run_from_a_gpu_is_of_use_without_one(runs):
    """On a machine without CuPy, export and figures work; commands that need a device say how to
    go on.
    """
    runs("export", "cuda", "net.npz", devices="none")
    runs("export", "cuda", "net.onnx", devices="none")
    pytest.importorskip("matplotlib")
    runs("plot", "cuda", "--out", "figures", devices="none")
    runs("plot", "cuda", "--reconstructions", "--out", "figures", devices="none")
    runs("evaluate", "cuda", "--device", "cpu", devices="none")
    assert len(list((runs.folder / "figures").iterdir())) >= 3
    assert not runs.used()


# ---- compare -------------------------------------------------------------------------------------


def test_compare_in_workers_that_share_the_device(place):
    methods = "adam,kfra,ekfac,hessian_free"
    common = (
        "compare",
        "tiny.toml",
        "--methods",
        methods,
        "--budget-updates",
        3,
        "--set",
        "optimizer.iterations=4",
        "--drop-checkpoints",
        "-q",
    )
    dry = place(*common, "--out", "cuda", "--device", "cuda", "--jobs", 2, "--dry-run")
    assert "4 of 4 runs to make" in dry
    assert "taking turns on cuda" in dry
    assert not (place.folder / "cuda").exists()
    place.used()
    first = json.loads(
        place(*common, "--out", "cuda", "--device", "cuda", "--jobs", 2, "--part", "1/2", "--json")
    )
    assert first["made"] == 2
    assert not first["failures"]
    code, err = place.fails("compare", "--resume", "--out", "cuda", "-q", devices="none")
    assert code == 2
    assert "CuPy is not installed" in err
    told = json.loads(place("compare", "--resume", "--out", "cuda", "-q", "--json"))
    used = place.used()
    workers = [line for line in used if line["argv"][0].endswith(".worker")]
    parents = [line for line in used if line not in workers]
    assert len(workers) == 4
    assert all(line["kernels"] > 0 for line in workers)
    assert [line["limit"] for line in workers] == ["45%"] * 4  # of the device's memory, each
    assert len(parents) == 2
    assert not any(line[name] for line in parents for name in ("contexts", "h2d", "calls"))
    assert any("cuda, double, CuPy" in note for note in told["notes"])
    place(*common, "--out", "cpu", "--jobs", 2)
    assert not place.used()
    same_tables(place.folder / "cpu" / "summary.csv", place.folder / "cuda" / "summary.csv")
    for run in sorted(path.parent for path in (place.folder / "cuda" / "runs").rglob("steps.csv")):
        same_tables(
            place.folder / "cpu" / run.relative_to(place.folder / "cuda") / "steps.csv",
            run / "steps.csv",
        )
        assert json.loads((run / "run.json").read_text())["versions"]["gpu"] == "double"


def test_an_ensemble_is_the_same_on_either_device(place):
    two = ["-q", "--set", "training.members=2"]
    place("train", "tiny.toml", "--out", "cpu", *two)
    assert not place.used()
    place("train", "tiny.toml", "--out", "cuda", "--device", "cuda", *two)
    assert len(place.used()) == 3  # the members, and this process for the scores
    assert json.loads((place.folder / "cuda/run.json").read_text())["processes"]["jobs"] == 1
    for number in (1, 2):
        same_runs(*(place.folder / f"{run}/members/{number}" for run in ("cpu", "cuda")))
    scores = [json.loads(place("evaluate", run, "--json")) for run in ("cpu", "cuda")]
    for name in ("splits", "member_objectives"):
        close(*(score[name] for score in scores))
    for run in ("cpu", "cuda"):
        place("predict", run, "tiny.h5", f"{run}.h5")
    with (
        h5py.File(place.folder / "cpu.h5") as one,
        h5py.File(place.folder / "cuda.h5") as other,
    ):
        for name in ("x", "std"):
            np.testing.assert_allclose(other[name][()], one[name][()], rtol=1e-6, atol=1e-9)


def test_shares_of_a_device(monkeypatch):
    monkeypatch.delenv("CUPY_GPU_MEMORY_LIMIT", raising=False)
    assert not shared_by(1)
    assert shared_by(3) == {"CUPY_GPU_MEMORY_LIMIT": "30%"}
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", "1000000000")
    assert not shared_by(3)  # what the user has set stays


def test_compare_over_two_devices_and_one_that_is_not_there(place):
    (place.folder / "grid.toml").write_text(
        '[variants.a]\nmethod = "sgd"\nset = { "training.device" = "cuda:0" }\n'
        '[variants.b]\nmethod = "sgd"\nset = { "training.device" = "cuda:1" }\n'
    )
    common = (
        "compare",
        "tiny.toml",
        "--grid",
        "grid.toml",
        "--budget-updates",
        2,
        "--out",
        "two",
        "-q",
    )
    code, err = place.fails(*common)
    assert code == 2
    assert "device 'cuda:1': this machine has 1 CUDA device" in err
    assert not (place.folder / "two").exists()
    place.used()
    told = json.loads(place(*common, "--json", devices="2"))
    assert [row["done"] for row in told["summary"]] == [1, 1]
    assert sorted(line["device"] for line in place.used() if line["contexts"]) == [0, 1]


# ---- inspect-curvature ---------------------------------------------------------------------------


def test_inspect_a_configuration(place):
    found = []
    for device in ("cpu", "cuda"):
        found.append(
            json.loads(
                place(
                    "inspect-curvature",
                    "tiny.toml",
                    "--samples",
                    10,
                    "--device",
                    device,
                    "--curvature",
                    "all",
                    "--export",
                    f"{device}.h5",
                    "--csv",
                    f"{device}.csv",
                    "--density",
                    "--json",
                    "-q",
                    "--kfac-samples",
                    20,
                    *SOLVE,
                )
            )
        )
    (used,) = place.used()
    assert used["kernels"] > 50
    assert len(same_files(place.folder / "cpu.h5", place.folder / "cuda.h5", 1e-8)) > 30
    close(*found, skip=lambda key: key in ("files", "seconds", "device"))
    assert len(found[0]["alignment"]) > 20
    assert len(found[0]["density"]) == 2
    same_tables(place.folder / "cpu.csv", place.folder / "cuda.csv")


def test_inspect_the_checkpoints_of_a_run(runs):
    # More rows than outputs: where a factor is singular, rounding decides the eigenbasis.
    found = []
    for device in ("cpu", "cuda"):
        found.append(
            json.loads(
                runs(
                    "inspect-curvature",
                    "cuda",
                    "--checkpoints",
                    "0,9",
                    "--samples",
                    40,
                    "--device",
                    device,
                    "--no-summary",
                    "--curvature",
                    "kfra,ekfac",
                    "--json",
                    "-q",
                    *SOLVE,
                )
            )
        )
    assert len(runs.used()) == 1
    assert {row["step"] for row in found[0]["alignment"]} == {0, 9}
    close(*found, skip=lambda key: key in ("files", "seconds"))


def test_surface(place):
    pytest.importorskip("matplotlib")
    found = []
    for device in ("cpu", "cuda"):
        found.append(
            json.loads(
                place(
                    "inspect-curvature",
                    "tiny.toml",
                    "--samples",
                    10,
                    "--surface",
                    "--layers",
                    "4",
                    "--no-summary",
                    "--json",
                    "-q",
                    "--curvature",
                    "kfra",
                    "--figures",
                    device,
                    "--device",
                    device,
                )
            )
        )
    (used,) = place.used()
    assert used["d2h"] < 200  # once a row of the grid, not once a point
    close(*found, skip=lambda key: key in ("files", "seconds"))


def test_check_runs_where_it_is_asked_to(place):
    told = json.loads(
        place("inspect-curvature", "tiny.toml", "--check", "--device", "cuda", "--json")
    )
    assert told["passed"]
    assert len(told["checks"]) > 20
    assert place.used()[0]["kernels"] > 100


# ---- what is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "devices", "says"),
    [
        ("cuda:7", "2", "device 'cuda:7': this machine has 2 CUDA devices, numbered from 0"),
        ("cuda", "none", "device 'cuda:0': CuPy is not installed"),
    ],
)
def test_no_such_device(place, device, devices, says):
    for argv in (
        ("train", "tiny.toml", "--out", "out"),
        ("train", "tiny.toml", "--dry-run"),
        ("compare", "tiny.toml", "--methods", "adam,kfra", "--out", "out"),
        ("inspect-curvature", "tiny.toml", "--export", "out"),
    ):
        code, err = place.fails(*argv, "--device", device, devices=devices)
        assert code == 2
        assert err.startswith(f"gnopt: error: {says}")
        assert "\n" not in err
        assert not (place.folder / "out").exists()
    code, err = place.fails("train", "tiny.toml", "--device", "gpu")
    assert code == 2
    assert "expected cpu, cuda or cuda:N" in err


def test_bench_times_on_the_device(place):
    asked = ("--methods", "adam,kfra", "--rounds", 1, "--device", "cuda", "--json", "-q")
    told = json.loads(place("bench", "tiny.toml", *asked))
    assert told["problem"]["device"] == "cuda"
    assert [cost["method"] for cost in told["results"][0]["methods"]].count("kfra") == 1
    (used,) = place.used()
    assert used["kernels"] > 9
