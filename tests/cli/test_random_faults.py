"""Faults drawn at random: kills at any moment, and damaged files of every kind.

A kill never costs more than the updates since the last checkpoint, and what follows is the same to
the last bit. A damaged file is an error of a few lines with an exit code of the contract, or it
changes nothing, or it is spoken of. ``bin/test`` draws few faults, ``bin/test --long`` thousands.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import same_runs, write_problem
from forked import Forked
from processes import LIMIT

from gnopt import optimizers
from gnopt.errors import DataError
from gnopt.training import checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Argument of a test → how many draws in bin/test, and with --long.
DRAWS = {
    "chain": (3, 250),  # of 4 kills each
    "damaged_run": (20, 4000),
    "damaged_input": (40, 5000),
    "damaged_checkpoints": (6, 20),  # of 50 each
}
KILLS, CHECKPOINTS = 4, 50


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, counts in DRAWS.items():
        if argument in metafunc.fixturenames:
            count = counts[bool(metafunc.config.getoption("--long"))]
            metafunc.parametrize(argument, range(count))


def test_a_run_killed_at_any_moment_ends_like_an_undisturbed_one(tiny, gnopt, chain):
    draw = random.Random(chain)
    settings = [
        "--set",
        f"optimizer.method={draw.choice(list(optimizers.methods()))}",
        "--set",
        f"training.checkpoint_every={draw.randint(1, 9)}",
        "--set",
        f"training.evaluate_every={draw.randint(1, 9)}",
        "--set",
        f"training.keep_checkpoints={draw.randint(1, 3)}",
        "--set",
        "training.patience=0",
    ]
    endless = ["train", "tiny.toml", "--out", "run", "-q", "--max-updates", 100_000, *settings]
    for _ in range(KILLS):
        again = ["--resume"] if (tiny / "run/run.json").exists() else []
        command = Forked(tiny, [*endless, *again])
        time.sleep(draw.uniform(0.0, 0.25))
        command.kill()
    log = tiny / "run/steps.csv"
    made = len(log.read_bytes().splitlines()) if log.exists() else 0
    target = ["--max-updates", made + 10]
    again = ["--resume"] if (tiny / "run/run.json").exists() else []
    last = gnopt("train", "tiny.toml", "--out", "run", "-q", *settings, *target, *again)
    assert last.code == 0, last.err
    whole = gnopt("train", "tiny.toml", "--out", "whole", "-q", *settings, *target)
    assert whole.code == 0, whole.err
    same_runs(tiny / "whole", tiny / "run")
    assert not list((tiny / "run").rglob(".tmp-*"))


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return a file damaged in one place, in one of the ways of disks, editors and networks."""
    start = draw.randrange(len(content) + 1)
    stop = min(len(content), start + draw.choice([1, 4, 100, 5000]))
    before, piece, after = content[:start], content[start:stop], content[stop:]
    kind = draw.randrange(7)
    if kind == 0:
        return before  # cut short
    if kind == 1:
        return before + after
    if kind == 2:
        return before + piece + piece + after
    if kind == 3:
        return before + bytes(len(piece)) + after
    if kind == 4:
        return before + draw.randbytes(len(piece)) + after
    if kind == 5:  # a digit
        digits = [i for i in range(start, len(content)) if chr(content[i]).isdecimal()]
        start = draw.choice(digits[:50]) if digits else min(start, len(content) - 1)
        return content[:start] + str(draw.randrange(10)).encode() + content[start + 1 :]
    at = min(start, len(content) - 1)
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def damaged(path: Path, draw: random.Random) -> bool:
    """Damage a file and return whether it differs now."""
    before = path.read_bytes()
    path.write_bytes(mutated(before, draw))
    return path.read_bytes() != before


def check_said(result) -> None:
    """Assert that a command ended as the contract says, without a traceback."""
    assert result.code in (0, 1, 2, 3), result
    for words in ("Traceback", "internal error", "Error:"):
        assert words not in result.err, result.err
    if result.code:
        assert "gnopt: error: " in result.err, result.err
        assert len(result.err.splitlines()) <= 60


def test_a_damaged_run_never_goes_on_with_other_numbers(made, tmp_path, damaged_run):
    """Whatever file of the run it is: an error, a word, or the same run as without the damage."""
    draw = random.Random(damaged_run)
    shutil.copytree(made / "run", tmp_path / "run")
    files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    path = draw.choice([file for file in files if file.name != "log.txt"])
    damaged(path, draw)
    argv = ["train", "--resume", "--out", "run", "--max-updates", 12, "-q"]
    result = Forked(tmp_path, argv).finish(LIMIT)
    check_said(result)
    if result.code == 0 and not result.err:
        same_runs(made / "whole", tmp_path / "run")


def test_a_damaged_checkpoint_is_never_read(made, tmp_path, damaged_checkpoints):
    draw = random.Random(damaged_checkpoints)
    path = tmp_path / "step-000005.h5"
    content = (made / "run/checkpoints" / path.name).read_bytes()
    for _ in range(CHECKPOINTS):
        path.write_bytes(mutated(content, draw))
        if path.read_bytes() == content:
            continue
        for read in (checkpoint.load_network, checkpoint.load_state):
            with pytest.raises(DataError, match=r"step-000005\.h5"):
                read(path)


def write_inputs(folder: Path) -> None:
    """Write a file of each kind that commands read."""
    write_problem(folder)
    rows = np.random.default_rng(0).random((40, 3)).round(3).tolist()
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c"], *rows])
    np.savez(folder / "arrays.npz", x=np.eye(6), y=np.arange(6))
    with h5py.File(folder / "packed.h5", "w") as file:
        file.create_dataset("x", data=np.eye(30), chunks=(7, 30), compression="gzip")
        file["y"] = np.arange(30) % 3


INPUTS = {
    "tiny.toml": [["config", "check", "tiny.toml"], ["train", "tiny.toml", "--dry-run"]],
    "tiny.h5": [
        ["dataset", "info", "tiny.h5"],
        ["train", "tiny.toml", "--out", "new", "--max-updates", 2, "-q"],
    ],
    "packed.h5": [["dataset", "info", "packed.h5"]],
    "table.csv": [["dataset", "import", "table.csv", "out.h5", "-q"]],
    "arrays.npz": [["dataset", "import", "arrays.npz", "out.h5", "-q"]],
}


def test_a_damaged_input_is_an_error_of_a_few_lines(tmp_path, damaged_input):
    draw = random.Random(damaged_input)
    write_inputs(tmp_path)
    name = draw.choice(list(INPUTS))
    damaged(tmp_path / name, draw)
    check_said(Forked(tmp_path, draw.choice(INPUTS[name])).finish(LIMIT))
