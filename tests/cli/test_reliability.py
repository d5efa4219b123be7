"""What happens to the files of a run costs no result and changes none silently.

Damage is seen, said in a sentence, and made good where an older checkpoint allows it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib

import h5py
import pytest
from cli_tools import rows, same_runs

from gnopt import machine
from gnopt.training.rundir import RunDirectory, status_of

ONE_LEFT = ["--set", "training.keep_checkpoints=1"]


def flip(path, place=-100, bit=5):
    """Flip one bit of a file, as a failing disk does."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def whole(made):
    """A run of 12 updates that nothing happened to."""
    return made / "whole"


@pytest.fixture
def run(made, tiny):
    """A copy of a run of 5 updates, with checkpoints after 3 and 5."""
    shutil.copytree(made / "run", tiny / "run")
    return tiny / "run"


def resumed(gnopt, *more):
    return gnopt("train", "--resume", "--out", "run", "--max-updates", 12, "-q", *more)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: flip(path, 20),
        lambda path: flip(path, 510),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:3000]),
    ],
    ids=["a bit", "the digest", "the block", "empty", "cut"],
)
def test_a_damaged_newest_checkpoint_is_reported_and_made_good(whole, run, gnopt, damage):
    damage(run / "checkpoints/step-000005.h5")
    result = resumed(gnopt)
    assert result.code == 0
    assert "step-000005.h5: the file is " in result.err
    assert "goes on from step-000003.h5" in result.err
    assert "goes on from step-000003.h5" in (run / "log.txt").read_text()
    same_runs(whole, run)


def test_commands_that_read_a_run_use_the_previous_whole_checkpoint(run, gnopt):
    """The best network of this run is its newest."""
    assert (run / "checkpoints/best").read_text() == "step-000005.h5\n"
    flip(run / "checkpoints/step-000005.h5")
    for argv in (
        ["evaluate", "run"],
        ["predict", "run", "tiny.h5", "out.h5"],
        ["export", "run", "out.npz"],
        ["evaluate", "run", "--checkpoint", "latest"],
        ["inspect-curvature", "run", "--curvature", "kfra"],
    ):
        result = gnopt(*argv)
        assert result.code == 0, result.err
        (line,) = [line for line in result.err.splitlines() if "damaged" in line]
        assert "step-000005.h5: the file is damaged" in line
        assert "step-000003.h5 is used in its place" in line
    asked = gnopt("evaluate", "run", "--checkpoint", 5)  # this one and no other
    assert asked.code == 1
    assert "step-000005.h5: the file is damaged" in asked.err


def test_without_a_whole_checkpoint_all_damage_is_named(run, gnopt):
    for path in (run / "checkpoints").glob("*.h5"):
        flip(path)
    for result in (resumed(gnopt), gnopt("evaluate", "run")):
        assert result.code == 1
        for step in (3, 5):
            assert f"step-{step:06d}.h5: the file is damaged" in result.err


def test_a_lost_best_network_is_made_again(tiny, gnopt):
    """It lies between two checkpoints; the one before it leads to it again."""
    for rate in (0.6, 0.9, 1.5, 2.5):
        settings = ["evaluate_every=1", "evaluate_share=0", "keep_checkpoints=4", "patience=0"]
        often = ["-q", *(part for text in settings for part in ("--set", f"training.{text}"))]
        method = ["--set", "optimizer.method=momentum", "--set", f"optimizer.learning_rate={rate}"]
        gnopt("train", "tiny.toml", "--out", "one", "--overwrite", *often, *method)
        losses = [float(row["validation_loss"]) for row in rows(tiny / "one/eval.csv")]
        lowest = {n: min(range(n + 1), key=losses.__getitem__) for n in range(5, 12)}
        fit = [(n, best) for n, best in lowest.items() if 3 < best < n and best % 3]
        if fit:
            break
    updates, best = fit[0]
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", updates, *often, *method)
    path = tiny / f"run/checkpoints/step-{best:06d}.h5"
    assert (path.parent / "best").read_text().strip() == path.name
    flip(path)
    result = resumed(gnopt)
    assert result.code == 0
    assert f"{path.name}: the file is damaged" in result.err
    assert f"goes on from step-{best // 3 * 3:06d}.h5" in result.err
    same_runs(tiny / "one", tiny / "run")


def test_a_best_network_that_cannot_be_made_again_is_given_up_with_a_sentence(tiny, gnopt):
    wild = ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.6"]
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 10, "-q", *wild, *ONE_LEFT)
    folder = tiny / "run/checkpoints"
    best = (folder / "best").read_text().strip()
    assert best != (folder / "latest").read_text().strip()
    (folder / best).unlink()
    result = resumed(gnopt)
    assert result.code == 0, result.err
    assert f"{best} is missing; it was the best network" in result.err
    assert "the best of the networks from now on is handed out" in result.err
    found = (folder / "best").read_text().strip()
    assert found in ("step-000011.h5", "step-000012.h5")
    assert (folder / found).is_file()


def test_a_best_network_that_is_damaged_during_the_run_does_not_end_it(tiny, gnopt, monkeypatch):
    add = RunDirectory.add_step

    def add_step(self, row):
        add(self, row)
        if row["step"] == 11:
            flip(self.checkpoints / (self.checkpoints / "best").read_text().strip())

    monkeypatch.setattr(RunDirectory, "add_step", add_step)
    wild = ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.6"]
    result = gnopt("train", "tiny.toml", "--out", "run", "-q", *wild)
    assert result.code == 0, result.err
    (line,) = [line for line in result.err.splitlines() if "damaged" in line]
    assert "is used in its place" in line
    assert "is used in its place" in gnopt("evaluate", "run").err


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("steps.csv", lambda rows: rows[:4] + rows[5:], "after the row of update 3"),
        ("steps.csv", lambda rows: rows[:3], "ends at update 2"),
        ("steps.csv", lambda rows: [], "ends at update 0"),
        ("steps.csv", lambda rows: [*rows[:4], rows[4].replace("4,", "4,9", 1), *rows[5:]], "up"),
        ("steps.csv", lambda rows: [rows[0].replace("loss", "lost"), *rows[1:]], "rows up to"),
        ("eval.csv", lambda rows: rows[:1] + rows[2:], "rows up to update 5 are not those"),
        ("eval.csv", lambda rows: [*rows[:3], rows[3].replace("0.", "1.", 1), *rows[4:]], "not"),
    ],
    ids=["gap", "end", "empty", "a number", "a name", "no start", "an evaluation"],
)
def test_a_damaged_table_is_made_good_or_refused(whole, run, gnopt, name, edit, said):
    """By the checkpoint of update 3 where the rows until then are whole."""
    rows = (run / name).read_text().splitlines(keepends=True)
    edited = edit(rows)
    assert edited != rows
    (run / name).write_text("".join(edited))
    untouched = rows[:4] == edited[:4]  # updates 1 to 3; evaluations after 0, 1 and 2
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.name != "log.txt"}
    result = resumed(gnopt)
    assert name in result.err
    assert said in result.err
    if untouched:
        assert result.code == 0
        assert "goes on from step-000003.h5" in result.err
        same_runs(whole, run)
    else:
        assert result.code == 1
        assert "Traceback" not in result.err
        assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("name", ["steps.csv", "eval.csv"])
def test_a_missing_table_is_refused(run, gnopt, name):
    (run / name).unlink()
    result = resumed(gnopt)
    assert result.code == 1
    assert f"{name}" in result.err
    assert "missing" in result.err


def test_a_checkpoint_of_an_earlier_version_has_its_rows_counted(whole, run, gnopt):
    """It has neither a digest nor marks of the tables."""
    for path in (run / "checkpoints").glob("*.h5"):
        path.write_bytes(path.read_bytes()[512:])
    rows = (run / "steps.csv").read_text().splitlines(keepends=True)
    (run / "steps.csv").write_text("".join(rows[:4] + rows[5:]))
    result = resumed(gnopt)
    assert result.code == 0
    assert "carries no digest" in result.err
    assert "after the row of update 3 comes one that begins with '5'" in result.err
    same_runs(whole, run)


def test_new_metrics_do_not_look_like_an_edited_table(tiny, gnopt):
    gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 5, "-q")
    more = ["--set", "training.metrics=r2"]
    for updates in (8, 12):
        result = gnopt("train", "--resume", "--out", "run", "--max-updates", updates, "-q", *more)
        assert result.code == 0
        assert "written" not in result.err


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("\nseed = 0", "\nseed = 1", "training.seed"),
        ("batch_size = 16", "batch_size = 8", "training.batch_size"),
        ('dtype = "float32"', 'dtype = "float64"', "training.dtype"),
        ('method = "kfra"', 'method = "kfac"', "optimizer.method"),
        ('"tanh", "identity"', '"relu", "identity"', "network.activation"),
        ('standardize = "auto"', "standardize = true", "data.standardize"),
        ("validation = 0.1", "validation = 0.4", "data.validation"),
        ('targets = "inputs"', 'targets = "y"', "data.targets"),
        ("weight_decay = 1e-06", "weight_decay = 1e-05", "optimizer.weight_decay"),
    ],
)
def test_an_edited_configuration_is_refused_by_name(run, gnopt, before, after, key):
    path = run / "config.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    for result in (resumed(gnopt), gnopt("evaluate", "run")):
        assert result.code == 2
        assert f"{key}: the run was started with" in result.err
        assert result.err.count("\n") == 1


def test_a_setting_that_may_change_is_taken_from_an_edited_configuration(run, gnopt):
    path = run / "config.toml"
    path.write_text(path.read_text().replace("checkpoint_every = 3", "checkpoint_every = 2"))
    assert resumed(gnopt).code == 0
    assert (
        json.loads((run / "run.json").read_text())["configuration"]["training"]["checkpoint_every"]
        == 2
    )


def test_a_lost_configuration_is_written_again(whole, run, gnopt):
    before = (run / "config.toml").read_text()
    (run / "config.toml").unlink()
    result = resumed(gnopt)
    assert result.code == 0
    assert "config.toml: missing; written again from run.json" in result.err
    assert tomllib.loads(before)["data"] == tomllib.loads((run / "config.toml").read_text())["data"]
    same_runs(whole, run)


def test_a_run_of_an_earlier_version_is_compared_with_its_config_toml(run, gnopt):
    info = json.loads((run / "run.json").read_text())
    del info["configuration"]
    (run / "run.json").write_text(json.dumps(info))
    assert gnopt("evaluate", "run").code == 0
    result = resumed(gnopt, "--seed", 4)
    assert result.code == 2
    assert "training.seed: the run was started with 0, but now it is 4" in result.err
    assert resumed(gnopt).code == 0


def test_commands_that_use_the_data_of_a_run_notice_other_data(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 2, "-q").code == 0
    with h5py.File("tiny.h5", "a") as file:
        file["x"][5, 5] += 1
    for argv in (
        ["evaluate", "run"],
        ["plot", "run", "--reconstructions"],
        ["inspect-curvature", "run", "--curvature", "kfra"],
        ["train", "--resume", "--out", "run", "--max-updates", 3],
    ):
        result = gnopt(*argv)
        assert result.code == 1
        assert "tiny.h5: not the data that the run in run was started with" in result.err
        assert "its content has changed" in result.err
    on_purpose = ["--data", "tiny.h5"]
    assert gnopt("evaluate", "run", *on_purpose).code == 0
    assert gnopt("inspect-curvature", "run", "--curvature", "kfra", *on_purpose).code == 0
    curves = gnopt("plot", "run")
    assert curves.code == 0
    assert "the floor is not drawn" in curves.err
    with h5py.File("tiny.h5", "a") as file:
        file["more"] = [1, 2]
    result = gnopt("evaluate", "run")
    assert result.code == 1
    assert "bytes, and had" in result.err


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"status": "done"}',
        '{"status": 3, "argv": []}',
        '{"status": "done", "argv": [3]}',
        '{"status": "done", "argv": [], "resumed": 1}',
        '{"status": "done", "argv": [], "data": 1}',
        '{"status": "done", "argv": [], "configuration": {}, "data": {}}',
        '{"status": "done", "argv": [], "configuration": {"data": 1}}',
        '{"status": "done", "argv": []}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_damaged_run_json_is_one_sentence(run, gnopt, damage):
    (run / "run.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    result = resumed(gnopt)
    assert result.code in (1, 2)
    assert result.err.startswith("gnopt: error: ")
    assert "internal error" not in result.err
    assert len(result.err) < 400 or "the run was started with" in result.err


def test_a_start_that_was_killed_before_run_json_does_not_block_the_directory(tiny, gnopt):
    (tiny / "x/checkpoints").mkdir(parents=True)
    (tiny / "x/log.txt").touch()
    (tiny / "x/.tmp-1-run.json").write_text("{")
    (tiny / "x/checkpoints/.tmp-1-step-000000.h5").write_text("half")
    assert gnopt("train", "tiny.toml", "--out", "x", "-q", "--max-updates", 1).code == 0
    assert not list((tiny / "x").rglob(".tmp-*"))
    (tiny / "y").mkdir()
    (tiny / "y/log.txt").write_text("someone's own\n")
    assert gnopt("train", "tiny.toml", "--out", "y", "-q").code == 2


def test_a_run_that_was_being_replaced_is_not_resumed(run, tiny, gnopt, monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    argv = ["train", "tiny.toml", "--out", "run", "-q", "--overwrite", "--max-updates", 1]
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "_clear", killed)
        gnopt(*argv)
    result = resumed(gnopt)
    assert result.code == 2
    assert "was being replaced" in result.err
    assert gnopt(*argv).code == 0


def test_a_dead_run_does_not_say_that_it_is_running(run):
    info = json.loads((run / "run.json").read_text())

    def said(**changes):
        (run / "run.json").write_text(json.dumps(info | changes))
        return status_of(run)

    own = {"pid": os.getpid(), "process_start": machine.process_start(os.getpid())}
    assert said() == "done"
    assert said(status="running", **own) == "running"
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert said(status="running", pid=dead.pid) == "killed"
    # Another process has got the number since, and another machine's processes cannot be seen.
    assert said(status="running", **(own | {"process_start": "an earlier boot 5"})) == "killed"
    assert said(status="running", **own, host="elsewhere") == "running"
    assert said(status="interrupted") == "interrupted"
