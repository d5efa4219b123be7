"""`gnopt train`: files, streams, exit codes, and everything that it must refuse."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import CONFIG, ROOT, rows

from gnopt import optimizers
from gnopt.training.csv_table import EVAL_COLUMNS, STEP_COLUMNS


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_a_run_directory_holds_these_files_and_columns(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run")
    assert result.code == 0, result.err
    assert "lowest loss possible" in result.out
    assert "the targets allow no loss below" in result.err
    run = tiny / "run"
    assert {p.name for p in run.iterdir()} == {
        "config.toml",
        "run.json",
        "steps.csv",
        "eval.csv",
        "checkpoints",
        "log.txt",
    }
    assert tuple((run / "steps.csv").read_text().splitlines()[0].split(","))[:13] == STEP_COLUMNS
    assert tuple((run / "eval.csv").read_text().splitlines()[0].split(",")) == EVAL_COLUMNS
    steps = rows(run / "steps.csv")
    assert [int(r["step"]) for r in steps] == list(range(1, 13))
    evaluations = [int(r["step"]) for r in rows(run / "eval.csv")]
    assert evaluations[:3] == [0, 1, 2]
    assert evaluations[-1] == 12
    assert all(np.isfinite(float(r["loss"])) for r in steps)
    assert float(steps[-1]["epoch"]) == int(steps[-1]["examples"]) / 54
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "done"
    assert info["exit_code"] == 0
    assert info["seed"] == 0
    assert info["step"] == 12
    assert info["data"]["sha256"]
    assert info["versions"]["numpy"] == np.__version__
    assert info["start"] <= info["end"]
    assert (run / "log.txt").read_text().strip().endswith("done")


def test_a_checkpoint_has_this_layout(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run")
    folder = tiny / "run" / "checkpoints"
    assert (folder / "latest").read_text() == "step-000012.h5\n"
    with h5py.File(folder / "step-000012.h5") as file:
        assert file.attrs["step"] == 12
        assert file.attrs["schema"] == 1
        assert file.attrs["loss"] == "binary_cross_entropy"
        assert file.attrs["dtype"] == "float32"
        shapes = [file[f"network/layers/{i}/weight"].shape for i in range(1, 5)]
        assert shapes == [(8, 12), (3, 8), (8, 3), (12, 8)]
        assert file["network/layers/4/bias"].shape == (12,)
        names = [file[f"network/layers/{i}"].attrs["activation"] for i in range(1, 5)]
        assert names == ["tanh", "identity", "tanh", "identity"]


def test_the_resolved_configuration_runs_again(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "one", "--set", "training.seed=7")
    os.chdir(tiny / "one")
    assert gnopt("train", "config.toml", "--out", tiny / "two").code == 0
    assert rows(tiny / "one/steps.csv") == rows(tiny / "two/steps.csv")
    assert (tiny / "one/config.toml").read_text() == (tiny / "two/config.toml").read_text()


def test_progress_is_on_stderr_and_json_alone_on_stdout(tiny, process):
    result = process("train", "tiny.toml", "--out", "run", "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["updates"] == 12
    assert found["run"] == "run"
    assert found["gap"] == pytest.approx(found["objective"] - found["floor"])
    assert "\x1b" not in result.err
    assert "update" in result.err
    quiet = process("train", "tiny.toml", "--out", "run2", "-q")
    assert quiet.err == ""
    assert "best network: update" in quiet.out
    evaluations = {int(row["step"]): row for row in rows(tiny / "run/eval.csv")}
    handed = evaluations[found["handed_out"]["step"]]
    assert float(handed["train_loss"]) == found["objective"]


def test_default_directories_do_not_collide(tiny, gnopt):
    for name in ("tiny-sgd-3", "tiny-sgd-3-2", "tiny-sgd-3-3"):
        result = gnopt(
            "train",
            "tiny.toml",
            "--set",
            "optimizer.method=sgd",
            "--seed",
            3,
            "--max-updates",
            1,
            "--json",
        )
        assert json.loads(result.out)["run"] == f"runs/{name}"
        assert (tiny / "runs" / name / "run.json").is_file()


def test_flag_beats_set_beats_file(tiny, gnopt):
    result = gnopt(
        "train",
        "tiny.toml",
        "--out",
        "run",
        "--set",
        "training.seed=1",
        "--seed",
        2,
        "--set",
        "training.updates=3",
        "--dtype",
        "float64",
    )
    assert result.code == 0
    with (tiny / "run/config.toml").open("rb") as file:
        training = tomllib.load(file)["training"]
    assert [training[k] for k in ("seed", "updates", "dtype", "batch_size")] == [
        2,
        3,
        "float64",
        16,
    ]
    with h5py.File(tiny / "run/checkpoints/step-000003.h5") as file:
        assert file["network/layers/1/weight"].dtype == np.float64


def test_an_occupied_directory_is_refused_and_left_alone(tiny, gnopt):
    (tiny / "run").mkdir()
    (tiny / "run/precious.txt").write_text("mine")
    for extra in ([], ["--overwrite"]):
        result = gnopt("train", "tiny.toml", "--out", "run", *extra)
        assert result.code == 2
        assert "run" in result.err
        assert "Traceback" not in result.err
        assert [p.name for p in (tiny / "run").iterdir()] == ["precious.txt"]
    assert gnopt("train", "tiny.toml", "--out", "tiny.h5").code == 2


def test_overwrite_replaces_only_what_a_run_writes(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run")
    (tiny / "run/notes.txt").write_text("mine")
    before = snapshot(tiny / "run")
    refused = gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 2)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert "--overwrite" in refused.err
    assert snapshot(tiny / "run") == before
    assert gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 2, "--overwrite").code == 0
    assert len(rows(tiny / "run/steps.csv")) == 2
    assert (tiny / "run/notes.txt").read_text() == "mine"
    assert not (tiny / "run/checkpoints/step-000012.h5").exists()


def test_nothing_is_written_where_something_is_wrong(tiny, gnopt):
    before = snapshot(tiny)
    assert gnopt("train", "tiny.toml", "--out", "run", "--set", "training.batch_size=0").code == 2
    assert gnopt("train", "tiny.toml", "--out", "run", "--data", "absent.h5").code == 1
    assert gnopt("train", "tiny.toml", "--out", "run", "--init-from", "absent.h5").code == 1
    assert gnopt("train", "tiny.toml", "--out", "run", "--set", "data.inputs=z").code == 1
    assert gnopt("train", "tiny.toml", "--out", "run", "--dry-run").code == 0
    assert snapshot(tiny) == before
    assert not (tiny / "run").exists()


def test_a_dry_run_tells_parameters_flops_and_bytes(tiny, gnopt):
    found = json.loads(gnopt("train", "tiny.toml", "--dry-run", "--json").out)
    assert found["parameters"] == 8 * 13 + 3 * 9 + 8 * 4 + 12 * 9
    assert found["flops"] > 0
    assert found["total"] == sum(found["bytes"].values()) < found["free"]


def test_dry_run_counts_what_a_method_needs_for_a_while(tiny, gnopt):
    def temporaries(*settings):
        flags = [word for setting in settings for word in ("--set", setting)]
        return json.loads(gnopt("train", "tiny.toml", "--dry-run", "--json", *flags).out)["bytes"][
            "temporaries"
        ]

    exact, one = (
        temporaries("optimizer.method=kflr"),
        temporaries("optimizer.method=kflr", "optimizer.columns=1"),
    )
    batch = 54  # it grows to all training rows
    # Columns for 12 outputs, at two layers and at a narrow one.
    assert exact - one == batch * (12 + 1) * (2 * 8 + 3) * 4
    assert one == temporaries("optimizer.method=kfra")
    fixed = temporaries("optimizer.method=kfra", "optimizer.growth_limit=1")
    assert fixed < one
    assert temporaries("optimizer.method=adam") == fixed


def test_what_does_not_fit_is_refused(tiny, gnopt, monkeypatch):
    from gnopt.engine.arrays.numpy import NumpyBackend

    monkeypatch.setattr(NumpyBackend, "free_memory", lambda self: 1000)
    for extra in (["--dry-run"], ["--out", "run"]):
        result = gnopt("train", "tiny.toml", *extra)
        assert result.code == 1
        assert "1,000" in result.err
        assert "bytes" in result.err
        assert "would make it fit" in result.err
    assert not (tiny / "run").exists()


def test_init_from_starts_at_the_weights_of_a_checkpoint(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "one")
    best = tiny / "one/checkpoints/step-000012.h5"
    assert (
        gnopt("train", "tiny.toml", "--out", "two", "--init-from", best, "--max-updates", 0).code
        == 0
    )
    ends, begins = rows(tiny / "one/eval.csv")[-1], rows(tiny / "two/eval.csv")[0]
    assert ends["train_loss"] == begins["train_loss"]
    wrong = gnopt(
        "train",
        "tiny.toml",
        "--out",
        "three",
        "--init-from",
        best,
        "--set",
        "network.hidden=[8,4,8]",
    )
    assert wrong.code == 1
    assert "layers/2" in wrong.err
    assert "(3, 8)" in wrong.err
    assert "(4, 8)" in wrong.err


@pytest.mark.parametrize("method", optimizers.methods())
def test_every_method_starts_from_the_same_weights_and_learns(tiny, gnopt, method):
    settings = ["--dtype", "float64"]
    if method == "sgd":
        settings += ["--set", "optimizer.learning_rate=0.02"]
    result = gnopt(
        "train", "tiny.toml", "--out", "run", "--set", f"optimizer.method={method}", *settings
    )
    assert result.code == 0, result.err
    losses = [float(r["train_loss"]) for r in rows(tiny / "run/eval.csv")]
    reference = gnopt(
        *("train", "tiny.toml", "--out", "other", "--dtype", "float64"),
        *("--set", "optimizer.method=adam", "--max-updates", 0),
    )
    assert reference.code == 0
    assert losses[0] == float(rows(tiny / "other/eval.csv")[0]["train_loss"])
    assert losses[-1] < losses[0]


def test_divergence_has_its_own_exit_code_and_keeps_a_checkpoint(tiny, gnopt):
    settings = (
        "optimizer.method=sgd",
        "optimizer.learning_rate=1e6",
        "network.loss=squared_error",
        "network.activation=identity",
        "training.updates=500",
    )
    result = gnopt(
        "train", "tiny.toml", "--out", "run", *(word for s in settings for word in ("--set", s))
    )
    assert result.code == 3
    assert "Traceback" not in result.err
    assert "Warning" not in result.err
    named = result.err.split("last good checkpoint: ")[1].split()[0]
    with h5py.File(named) as file:
        assert np.isfinite(file["network/layers/1/weight"][()]).all()
    assert json.loads((tiny / "run/run.json").read_text())["status"] == "diverged"


def test_a_budget_of_seconds_ends_the_run(tiny, gnopt):
    result = gnopt(
        *("train", "tiny.toml", "--out", "run", "--max-updates", 10**6, "--max-seconds", 0.2),
        *("--set", "training.patience=0", "--json"),
    )
    found = json.loads(result.out)
    assert result.code == 0
    assert 0.2 <= found["seconds"] < 5
    assert found["updates"] < 10**6
    assert int(rows(tiny / "run/eval.csv")[-1]["step"]) == found["updates"]


def test_seconds_count_training_alone(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run")
    import csv

    with (tiny / "run/steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    seconds, wall = [[float(r[k]) for r in steps] for k in ("seconds", "wall")]
    assert seconds == sorted(seconds)
    assert wall == sorted(wall)
    assert all(s < w for s, w in zip(seconds, wall, strict=True))


def test_a_classifier_reports_its_classification_error(tiny, gnopt):
    result = gnopt(
        "train",
        "tiny.toml",
        "--out",
        "run",
        "--set",
        "data.targets=y",
        "--set",
        "network.loss=softmax_cross_entropy",
        "--json",
    )
    found = json.loads(result.out)
    assert found["error_name"] == "classification error"
    assert 0 <= found["error"] <= 1
    with h5py.File(tiny / "run/checkpoints/step-000012.h5") as file:
        assert file["network/layers/4/weight"].shape == (3, 8)


def test_a_mixture_learns_odd_or_even(tiny, gnopt):
    mixture = ["--set", "network.loss=binary_mixture", "--set", "data.target_transform=parity"]
    mixture += ["--set", "data.split=end"]
    result = gnopt(
        "train", "tiny.toml", "--out", "run", "--set", "data.targets=y", *mixture, "--json"
    )
    assert result.code == 0, result.err
    assert json.loads(result.out)["objective"] < np.log(2)
    assert json.loads(result.out)["error"] < 0.5
    gnopt(
        "train",
        "tiny.toml",
        "--out",
        "start",
        "--set",
        "data.targets=y",
        *mixture,
        "--max-updates",
        0,
    )
    with h5py.File("tiny.h5") as file, h5py.File("start/checkpoints/step-000000.h5") as start:
        odd = (file["y"][:54] % 2).mean()
        np.testing.assert_allclose(
            start["network/layers/4/bias"][1], np.log(odd / (1 - odd)), rtol=1e-5
        )
    wrong = gnopt("train", "tiny.toml", "--out", "other", *mixture)
    assert wrong.code == 1
    assert "target_transform" in wrong.err


def test_a_method_that_needs_a_likelihood_refuses_a_plug_in_without_one(tiny, gnopt):
    (tiny / "mine.py").write_text(
        "from gnopt.engine.losses import Loss\n"
        "class Hinge(Loss):\n"
        "    likelihood = False\n    diagonal = True\n"
        "    def value(self, ops, h, y): return ((h - y) ** 4).sum(axis=1)\n"
        "    def gradient(self, ops, h, y): return 4 * (h - y) ** 3\n"
        "    def gn_diagonal(self, ops, h, y): return 12 * (h - y) ** 2\n"
    )
    loss = ["--set", "network.loss=mine:Hinge", "--max-updates", 3]
    good = gnopt("train", "tiny.toml", "--out", "run", *loss)
    assert good.code == 0, good.err
    assert gnopt("evaluate", "run", "--allow-plugins").code == 0
    again = ["train", "--resume", "--out", "run", "--max-updates"]
    assert gnopt(*again, 5, "--allow-plugins").code == 0
    assert gnopt(*again, 7, "tiny.toml", *loss[:2]).code == 0
    bad = gnopt("train", "tiny.toml", "--out", "other", *loss, "--set", "optimizer.method=kfac")
    assert bad.code == 2
    assert "likelihood" in bad.err
    lost = gnopt("train", "tiny.toml", "--out", "other", "--set", "network.loss=mine:Absent")
    assert lost.code == 2
    assert "mine:Absent" in lost.err


def test_hidden_may_be_empty(tiny, gnopt):
    linear = CONFIG.replace("[8, 3, 8]", "[]").replace('["tanh", "identity", "tanh"]', '"tanh"')
    (tiny / "linear.toml").write_text(linear)
    assert gnopt("train", "linear.toml", "--out", "run").code == 0


def test_permission_and_missing_folders(tiny, gnopt):
    if os.geteuid() == 0:
        blocked = tiny / "tiny.toml" / "run"  # below a file: not even root can make it
    else:
        (tiny / "closed").mkdir(mode=0o500)
        blocked = tiny / "closed" / "run"
    result = gnopt("train", "tiny.toml", "--out", blocked)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "tiny.toml" in result.err or "closed" in result.err


def test_a_full_disk_is_one_line_and_leaves_the_run_resumable(tiny, gnopt):
    """A limit on the size of files stands in for the disk: every write beyond it fails."""
    command = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "from gnopt.cli import main; main(['train', 'tiny.toml', '--out', 'run', '-q',"
        " '--set', 'network.hidden=[200, 50, 200]', '--set', 'optimizer.method=adam'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "step-000000.h5" in done.stderr
    assert not list((tiny / "run/checkpoints").iterdir())
    assert json.loads((tiny / "run/run.json").read_text())["status"] == "failed"
    assert gnopt("train", "--resume", "--out", "run").code == 0
