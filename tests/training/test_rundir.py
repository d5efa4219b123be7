"""Run directories and their tables."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from gnopt.errors import ConfigError, DataError, GnoptError
from gnopt.training.csv_table import Table, cell, read_table, truncate
from gnopt.training.rundir import RunDirectory, check_free, default_run_path, read_info


def test_cells_read_back_as_the_same_numbers():
    assert [cell(v) for v in (None, 3, 0.1, True, "x", 1e-300, float("nan"))] == [
        "",
        "3",
        "0.1",
        "1",
        "x",
        "1e-300",
        "nan",
    ]
    assert cell(np.float32(0.5)) == "0.5"
    assert cell(np.float64(0.1)) == "0.1"
    assert cell(np.int64(2)) == "2"


def test_table_fixes_its_header(tmp_path):
    table = Table(tmp_path / "t.csv", ("step", "loss", "rho"))
    table.append({"step": 1, "loss": 0.1, "later": 5})
    table.append({"step": 2, "loss": 1 / 3, "rho": None})
    with (tmp_path / "t.csv").open() as file:  # rows are there before the file is closed
        assert list(csv.reader(file)) == [
            ["step", "loss", "rho"],
            ["1", "0.1", ""],
            ["2", repr(1 / 3), ""],
        ]
    table.close()


def test_truncate_drops_later_rows_and_a_broken_end(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"step,loss\n1,0.5\n2,0.25\n3,0.125\n4,0.06")
    assert [row["step"] for row in read_table(path)] == ["1", "2", "3"]
    truncate(path, lambda step: step <= 2)
    assert path.read_bytes() == b"step,loss\n1,0.5\n2,0.25\n"
    truncate(path, lambda step: False)
    assert not path.exists()
    truncate(path, lambda step: False)
    path.write_bytes(b"\xff\xff\n")
    with pytest.raises(DataError):
        truncate(path, lambda step: True)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match="expected 'step' first"):
        truncate(path, lambda step: True)


def test_default_paths_avoid_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(default_run_path("c", "kfra", 0)) == "runs/c-kfra-0"
    (tmp_path / "runs/c-kfra-0").mkdir(parents=True)
    assert str(default_run_path("c", "kfra", 0)) == "runs/c-kfra-0"  # empty, so free
    (tmp_path / "runs/c-kfra-0/x").touch()
    (tmp_path / "runs/c-kfra-0-2").touch()
    assert str(default_run_path("c", "kfra", 0)) == "runs/c-kfra-0-3"


def test_a_run_is_created_locked_finished_and_resumed(tmp_path):
    path = tmp_path / "run"
    run = RunDirectory.create(path, "a = 1\n", {"argv": ["gnopt"], "seed": 3}, False)
    assert read_info(path)["status"] == "running"
    with pytest.raises(GnoptError, match="in use by another process"):
        RunDirectory.resume(path)
    for step in (1, 2, 3):
        run.add_step({"step": step, "loss": 1.0 / step, "extra": step})
        run.add_eval({"step": step, "train_loss": 1.0})
    run.finish("done", 0)
    run.close()
    assert json.loads((path / "run.json").read_text())["status"] == "done"
    assert list(read_table(path / "steps.csv")[0])[-1] == "extra"

    with pytest.raises(ConfigError, match="--overwrite"):
        check_free(path, False)
    run = RunDirectory.resume(path)
    run.rewind(2, None, False, "a = 2\n", {"argv": ["gnopt", "again"]})
    run.add_step({"step": 3, "loss": 0.5, "extra": 4, "unknown": 1})
    run.close()
    assert [row["step"] for row in read_table(path / "steps.csv")] == ["1", "2", "3"]
    assert [row["step"] for row in read_table(path / "eval.csv")] == ["1"]
    info = read_info(path)
    assert info["argv"] == ["gnopt"]
    assert info["status"] == "running"
    assert info["seed"] == 3
    assert [entry["step"] for entry in info["resumed"]] == [2]

    run = RunDirectory.create(path, "a = 3\n", {"argv": ["new"]}, True)
    run.close()
    assert not (path / "steps.csv").exists()
    assert "resumed" not in read_info(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_a_damaged_run_json_is_a_data_error(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"run\.json"):
        read_info(tmp_path)
    with pytest.raises(DataError, match="not a run directory"):
        read_info(tmp_path / "absent")


def test_what_a_run_leaves_that_was_killed_at_its_start_is_free(tmp_path):
    path = tmp_path / "r"
    (path / "checkpoints").mkdir(parents=True)
    for name in ("log.txt", ".tmp-1-run.json", "checkpoints/.tmp-1-step-000000.h5"):
        (path / name).touch()
    check_free(path, False)
    RunDirectory.create(path, "", {}, False).close()
    assert sorted(p.name for p in path.rglob("*")) == [
        "checkpoints",
        "config.toml",
        "log.txt",
        "run.json",
    ]


@pytest.mark.parametrize("name", ["log.txt", "checkpoints/step-000001.h5", "notes", "checkpoints"])
def test_files_of_others_are_no_killed_start(tmp_path, name):
    path = tmp_path / "r" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        check_free(tmp_path / "r", False)
