"""`gnopt compare` as a user meets it: end to end, killed and resumed, spread over a job array,
refused.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import ROOT, start
from processes import LIMIT, finish, wait_until

TIMES = ("seconds", "seconds_per_update")
GRID = """
[variants.kfra]
set = { curvature_decay = 0.5 }
[variants.sgd]
grid = { learning_rate = [0.01, 0.1, 1e30], decay_share = [1.0] }
"""


def summary(folder: Path) -> list[dict[str, str]]:
    """summary.csv, times aside."""
    with (folder / "summary.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def first_losses(folder: Path) -> dict[str, set[str]]:
    """Seed → what the runs of all methods and points evaluated before the first update."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("runs/*/*/eval.csv"):
        line = path.read_text().splitlines()[1].split(",")
        found.setdefault(path.parent.name.rpartition("seed")[2], set()).add(line[3])
    return found


@pytest.fixture
def grid(tiny: Path) -> Path:
    (tiny / "grid.toml").write_text(GRID)
    return tiny


def test_a_comparison_end_to_end(grid, process):
    result = process(
        "compare",
        "tiny.toml",
        "--grid",
        "grid.toml",
        "--seeds",
        2,
        "--jobs",
        2,
        "--threads",
        1,
        "--out",
        "c",
        "--json",
        "--target",
        8.3,
    )
    assert result.code == 4, result.err  # a rate of 1e30 diverges, and that is no secret
    document = json.loads(result.out)
    roles = {row["role"]: row for row in document["summary"]}
    assert roles["best"]["point"] == "rate 0.1, halved every 100%"
    assert roles["single"]["variant"] == "kfra"
    assert sum(row["diverged"] for row in document["summary"]) == 2
    for row in document["summary"]:
        if row["validation_objective"] is not None:
            assert row["lowest_validation_objective"] <= row["validation_objective"]
    assert roles["single"]["lowest_validation_objective"] > 0.0
    assert any("2 of 8 runs diverged" in text for text in document["warnings"])
    assert any("1 thread each" in text for text in document["notes"])
    assert len(document["failures"]) == 2
    assert "learning_rate" in next(iter(document["failures"].values()))
    assert [target["target"] for target in document["targets"]] == [8.3, 8.3]
    losses = first_losses(grid / "c")
    assert set(losses) == {"0", "1"}
    assert all(len(found) == 1 for found in losses.values())
    assert losses["0"] != losses["1"]
    for name in ("summary.csv", "curves.csv", "targets.csv", "problem.toml", "compare.json"):
        assert (grid / "c" / name).is_file()
    if document["figures"]:
        page = (grid / "c/report.html").read_text()
        assert "data:image/svg+xml;base64," in page
        assert "curvature_decay = 0.5" in page
        assert "<h2>Validation loss</h2>" in page
        pictures = {"objective.png", "validation.png", "grid.png"}
        assert {path.name for path in (grid / "c").glob("*.png")} == pictures
    checkpoints = list((grid / "c").glob("runs/kfra/*/checkpoints/*.h5"))
    assert len(checkpoints) == 2  # of each finished run the last


def test_finished_runs_are_kept_and_new_ones_added(tiny, process):
    arguments = ("--out", "c", "--jobs", 2, "--threads", 1, "--drop-checkpoints")
    assert process("compare", "tiny.toml", "--methods", "sgd,adam", *arguments).code == 0
    assert not list(tiny.glob("c/runs/**/*.h5"))
    before = {path: path.stat().st_mtime_ns for path in tiny.glob("c/runs/*/*/run.json")}
    result = process("compare", "tiny.toml", "--methods", "nesterov", "--resume", *arguments)
    assert result.code == 0
    assert "1 of 3 runs to make" in result.err
    assert [row["variant"] for row in summary(tiny / "c")] == ["sgd", "adam", "nesterov"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for more, words in (
        (["--set", "training.batch_size=17"], "batch_size = 17"),
        (["--threads", 2], "threads"),
    ):
        result = process(
            "compare", "tiny.toml", "--methods", "sgd", "--resume", "--out", "c", *more
        )
        assert result.code == 2
        assert words in result.err


def test_a_comparison_killed_at_a_random_moment_is_finished_by_resume(grid, process):
    arguments = (
        "tiny.toml",
        "--grid",
        "grid.toml",
        "--jobs",
        2,
        "--threads",
        1,
        "-q",
        "--set",
        "training.updates=150",
    )
    assert process("compare", *arguments, "--out", "whole").code == 4
    child = start("compare", *arguments, "--out", "killed")
    delay = random.uniform(1.2, 3.5)
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    resumed = [*arguments, "--out", "killed", "--resume"]
    if (grid / "killed/compare.json").is_file():
        resumed = ["--resume", "--out", "killed", "-q"]
    result = process("compare", *resumed)
    assert result.code == 4, (delay, result.err)
    assert summary(grid / "killed") == summary(grid / "whole"), delay


def test_an_interrupted_comparison_tells_how_to_resume(grid):
    child = start(
        "compare",
        "tiny.toml",
        "--methods",
        "kfra,kfac",
        "--budget-updates",
        100000,
        "--out",
        "c",
        "--jobs",
        2,
        "--threads",
        1,
    )
    wait_until(lambda: len(list(grid.glob("c/runs/*/*/steps.csv"))) == 2, child)
    child.send_signal(signal.SIGINT)
    _, err = finish(child)
    assert child.returncode == 130
    assert "gnopt compare --resume --out c" in err
    for path in grid.glob("c/runs/*/*/run.json"):
        assert json.loads(path.read_text())["status"] == "interrupted"
        assert (path.parent / "checkpoints/latest").is_file()


def test_a_budget_of_seconds_ends_each_run(tiny, process):
    result = process(
        "compare",
        "tiny.toml",
        "--methods",
        "sgd",
        "--budget-seconds",
        0.05,
        "--timing",
        "exclusive",
        "--json",
        "-q",
    )
    assert result.code == 0
    (row,) = json.loads(result.out)["summary"]
    assert 0.05 <= row["seconds"] < 1.0
    assert row["updates"] > 1
    assert json.loads(result.out)["comparison"] == "runs/compare-tiny"


def test_nothing_is_written_by_a_dry_run(grid, gnopt):
    result = gnopt(
        "compare",
        "tiny.toml",
        "--methods",
        "adam,sgd",
        "--grid",
        "paper",
        "--seeds",
        2,
        "--dry-run",
    )
    assert result.code == 0
    assert "144 of 144 runs" in result.out
    assert not Path("runs").exists()
    result = gnopt("compare", "tiny.toml", "--grid", "grid.toml", "--dry-run", "--json")
    assert len(json.loads(result.out)["to_make"]) == 5


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "CONFIG"),
        (["tiny.toml"], 2, "--methods"),
        (["tiny.toml", "--methods", "kfar"], 2, "did you mean 'kfra'"),
        (["tiny.toml", "--methods", "kfra", "--grid", "papr"], 2, "did you mean 'paper'"),
        (["tiny.toml", "--methods", "kfra,adam", "--set", "optimizer.beta3=1"], 2, "beta3"),
        (
            ["tiny.toml", "--methods", "kfra,adam", "--set", "optimizer.beta1=7"],
            2,
            "optimizer.beta1 = 7",
        ),
        (["tiny.toml", "--methods", "kfra", "--set", "optimizer.method=adam"], 2, "--methods"),
        (["tiny.toml", "--methods", "kfra", "--set", "training.updats=1"], 2, "did you mean"),
        (["tiny.toml", "--methods", "kfra", "--data", "absent.h5"], 1, "absent.h5"),
        (["tiny.toml", "--methods", "kfra", "--engine", "mip"], 2, "did you mean 'mpi'"),
        (["tiny.toml", "--methods", "kfra", "--timing", "exclusive", "--jobs", "2"], 2, "exclude"),
        (["tiny.toml", "--methods", "kfra", "--part", "3/2", "--out", "c"], 2, "--part"),
        (["--resume", "--out", "absent"], 1, "absent"),
        (["--resume"], 2, "--out"),
        (["--resume", "--out", "c", "--methods", "kfra"], 2, "only together with CONFIG"),
        (["tiny.toml", "--methods", "kfra", "--out", "."], 2, "not empty"),
    ],
)
def test_contradictory_requests_are_refused(tiny, gnopt, argv, code, words):
    result = gnopt("compare", *argv)
    assert result.code == code
    assert words in result.err
    assert "Traceback" not in result.err
    assert not Path("runs").exists()
    assert not Path("c").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[variants.a]\nmethod = 'adam'\nset = { beta1 = 2020-01-01 }", "a: optimizer.beta1 ="),
        (
            "[variants.a]\nmethod = 'adam'\nset = { 'training.updates' = 'many' }\n"
            "grid = { decay_share = [0.5] }",
            "a: training.updates = 'many': expected a whole number",
        ),
        ("[variants.a]\nmethod = 'adam'\ngrid = { learning_rate = ['fast'] }", "a: optimizer.l"),
    ],
)
def test_wrong_settings_of_a_variant_are_told_with_its_name(tiny, gnopt, text, words):
    Path("grid.toml").write_text(text)
    result = gnopt("compare", "tiny.toml", "--grid", "grid.toml", "--dry-run")
    assert result.code == 2, result.err
    assert words in result.err


def test_mpi_needs_mpi4py(tiny, gnopt):
    if _has_mpi4py():
        pytest.skip("mpi4py is installed")
    result = gnopt("compare", "tiny.toml", "--methods", "sgd", "--engine", "mpi")
    assert result.code == 1
    assert "pip install 'gnopt[mpi]'" in result.err
    assert not Path("runs").exists()


def _has_mpi4py() -> bool:
    try:
        import mpi4py.MPI  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def test_a_job_array_makes_every_run_and_a_summary(tiny):
    """bin/compare-slurm with a scheduler that runs every job at once, one after the other."""
    shims = tiny / "bin"
    shims.mkdir()
    (shims / "gnopt").write_text(f'#!/bin/sh\nexec {sys.executable} -m gnopt "$@"\n')
    (shims / "sbatch").write_text("""#!/usr/bin/env bash
while [ $# -gt 1 ]; do
    case $1 in --array) array=$2 ;; --wrap) command=$2 ;; esac
    shift
done
echo "$command" >> jobs.txt
for i in $(seq ${array:+1 "${array#*-}"}); do SLURM_ARRAY_TASK_ID=$i bash -c "$command" >&2; done
[ -n "$array" ] || bash -c "$command" > summary.txt
echo 1234
""")
    for path in shims.iterdir():
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": ROOT}
    argv = [
        "2",
        "c",
        "tiny.toml",
        "--methods",
        "sgd,adam",
        "--budget-updates",
        "4",
        "--",
        "--time",
        "10",
    ]
    done = subprocess.run(
        [f"{ROOT}/bin/compare-slurm", *argv],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    jobs = (tiny / "jobs.txt").read_text().splitlines()
    assert len(jobs) == 2
    assert "--part" in jobs[0]
    assert "--resume" in jobs[1]
    assert [row["done"] for row in summary(tiny / "c")] == ["1", "1"]
    assert "adam" in (tiny / "summary.txt").read_text()
    assert len(list((tiny / "c/history").iterdir())) == 3
