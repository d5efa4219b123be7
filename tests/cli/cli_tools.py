"""Running the command line, and comparing what two runs left behind."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from gnopt.training.checkpoint import load_state

ROOT = str(Path(__file__).parents[2])

CONFIG = """
[data]
file = "tiny.h5"
[network]
hidden = [8, 3, 8]
activation = ["tanh", "identity", "tanh"]
loss = "binary_cross_entropy"
[optimizer]
method = "kfra"
weight_decay = 1e-6
[training]
batch_size = 16
updates = 12
evaluate_every = 4
checkpoint_every = 3
"""


def write_problem(folder: Path) -> None:
    """Write tiny.h5 (60 rows of 12 grey pixels, three classes) and tiny.toml."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / "tiny.h5", "w") as file:
        file["x"] = rng.integers(0, 256, (60, 12)).astype(np.uint8)
        file["x"].attrs["scale"] = 1 / 255
        file["y"] = rng.integers(0, 3, 60).astype(np.uint8)
    (folder / "tiny.toml").write_text(CONFIG)


@dataclass
class CommandResult:
    code: int
    out: str
    err: str


def start(*argv: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gnopt", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
    )


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV, times left out."""
    with path.open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "wall")}
            for row in csv.DictReader(file)
        ]


def same_runs(one: Path, other: Path) -> None:
    """Assert that two runs left the same files, times and moments aside."""
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    for name in ("steps.csv", "eval.csv"):
        assert rows(one / name) == rows(other / name), name
        assert (one / name).read_text().splitlines()[0] == (other / name).read_text().splitlines()[
            0
        ]
    names = sorted(path.name for path in (one / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (other / "checkpoints").iterdir())
    for pointer in ("latest", "best"):
        assert (one / "checkpoints" / pointer).read_text() == (
            other / "checkpoints" / pointer
        ).read_text()
    for name in names:
        if name.endswith(".h5"):
            states = [load_state(run / "checkpoints" / name) for run in (one, other)]
            for state in states:
                state["counters"] |= {"seconds": 0.0, "wall": 0.0}
            same_trees(*states)
            with (
                h5py.File(one / "checkpoints" / name) as a,
                h5py.File(other / "checkpoints" / name) as b,
            ):
                for layer in a["network/layers"]:
                    for part in ("weight", "bias"):
                        key = f"network/layers/{layer}/{part}"
                        np.testing.assert_array_equal(a[key][()], b[key][()])


def same_trees(one: object, other: object) -> None:
    """Assert that two trees are equal, types, order and bits."""
    assert type(one) is type(other)
    if isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            same_trees(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same_trees(a, b)
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, float):
        assert np.float64(one).tobytes() == np.float64(other).tobytes()
    else:
        assert one == other
