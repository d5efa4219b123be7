"""Ensembles: members are ordinary runs in one directory, and go on like one that never stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import same_runs, start
from processes import finish, has_lines, wait_until

from gnopt.data.options import DataSettings
from gnopt.data.source import open_data
from gnopt.training.checkpoint import load_network

MEMBERS = ["--set", "training.members=3"]
FOLDS = ["--set", "training.folds=3", "--set", "data.targets=y"]
CLASSES = ["--set", "network.loss=softmax_cross_entropy"]


def info(run: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads((run / "run.json").read_text())
    return facts


def same_ensembles(one: Path, other: Path) -> None:
    """Assert that two ensembles left the same files, times aside."""
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    names = sorted(path.name for path in (one / "members").iterdir())
    assert names == sorted(path.name for path in (other / "members").iterdir())
    for name in names:
        same_runs(one / "members" / name, other / "members" / name)


def test_the_first_member_is_the_run_without_members(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "alone").code == 0
    result = gnopt("train", "tiny.toml", "--out", "three", *MEMBERS)
    assert result.code == 0, result.err
    same_runs(tiny / "alone", tiny / "three/members/1")
    assert info(tiny / "three")["status"] == "done"
    assert info(tiny / "three")["members"] == 3
    for number in (1, 2, 3):
        assert info(tiny / f"three/members/{number}")["seed"] == number - 1


def test_a_single_member_is_an_ordinary_run(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "alone").code == 0
    single = ["--set", "training.members=1", "--set", "training.folds=0"]
    assert gnopt("train", "tiny.toml", "--out", "single", *single).code == 0
    same_runs(tiny / "alone", tiny / "single")
    assert not (tiny / "single/members").exists()
    assert gnopt("train", "tiny.toml", "--out", "other", "--jobs", 2).code == 2


def test_json_names_every_member(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run", "--json", *MEMBERS, "--jobs", 1)
    document = json.loads(result.out)
    assert [m["member"] for m in document["members"]] == [1, 2, 3]
    assert [m["seed"] for m in document["members"]] == [0, 1, 2]
    assert all(m["validation_objective"] == m["handed_out"]["value"] for m in document["members"])
    assert "one run at a time" in result.err
    assert result.err.count("[") == 3
    dry = gnopt("train", "tiny.toml", "--dry-run", "--json", *MEMBERS)
    assert json.loads(dry.out)["networks"] == 3


def test_each_member_is_validated_on_its_fold(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run", *FOLDS, *CLASSES, "--seed", 4)
    assert result.code == 0, result.err
    held = []
    for number in (1, 2, 3):
        path = tiny / f"run/members/{number}/config.toml"
        assert f'rows = "fold {number}/3"' in path.read_text()
        settings = DataSettings(file="tiny.h5", rows=f"fold {number}/3", rows_seed=4)
        with open_data(settings, seed=0, dtype="float64") as data:
            assert data.validation is not None
            held.append(data.validation.rows_at(0, 60)[0])
    with h5py.File("tiny.h5") as file:
        x = file["x"][:] / 255
    assert sorted(map(tuple, np.concatenate(held).round(9))) == sorted(map(tuple, x.round(9)))


def test_bootstrap_members_see_other_rows(tiny, gnopt):
    rows = ["--set", "training.member_rows=bootstrap"]
    result = gnopt("train", "tiny.toml", "--out", "run", *MEMBERS, *rows)
    assert result.code == 0, result.err
    for number in (1, 2, 3):
        text = (tiny / f"run/members/{number}/config.toml").read_text()
        assert 'rows = "bootstrap"' in text
        assert f"rows_seed = {number - 1}\n" in text


def test_a_class_that_a_fold_holds_out_has_an_output_everywhere(tiny, gnopt):
    with h5py.File("tiny.h5", "a") as file:
        file["y"][17] = 3  # its only row
    result = gnopt("train", "tiny.toml", "--out", "run", *FOLDS, *CLASSES, "--max-updates", 2)
    assert result.code == 0, result.err
    for number in (1, 2, 3):
        assert info(tiny / f"run/members/{number}")["sizes"][-1] == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.folds=1"], "training.folds"),
        (["training.folds=3", "training.members=2"], "training.members"),
        (["training.member_rows=bootstrap"], "training.member_rows"),
        (["training.folds=3", 'data.rows="fold 1/2"'], "data.rows"),
        (["training.folds=3", "data.standardize=true"], "data.standardize"),
        (["training.members=0"], "training.members"),
    ],
)
def test_settings_that_contradict_each_other_are_named(tiny, gnopt, settings, words):
    sets = [part for text in settings for part in ("--set", text)]
    result = gnopt("train", "tiny.toml", "--out", "run", *sets)
    assert result.code == 2
    assert words in result.err
    assert not (tiny / "run").exists()


def test_more_updates_go_on_with_every_member(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "whole", *MEMBERS).code == 0
    short = ["--max-updates", 5, *MEMBERS]
    assert gnopt("train", "tiny.toml", "--out", "parts", *short).code == 0
    result = gnopt("train", "tiny.toml", "--out", "parts", "--resume", *MEMBERS)
    assert result.code == 0, result.err
    same_ensembles(tiny / "whole", tiny / "parts")


def test_trained_members_are_left_alone(tiny, gnopt):
    first = gnopt("train", "tiny.toml", "--out", "run", "--json", *MEMBERS)
    files = [tiny / f"run/members/{number}/run.json" for number in (1, 2, 3)]
    before = [path.read_bytes() for path in files]
    again = gnopt("train", "--out", "run", "--resume", "--json")
    assert again.code == 0, again.err
    assert json.loads(first.out) == json.loads(again.out)
    assert [path.read_bytes() for path in files] == before
    changed = gnopt("train", "--out", "run", "--resume", "--set", "training.members=4")
    assert changed.code == 2
    assert "training.members" in changed.err


def test_overwriting_leaves_no_member_behind(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run", *MEMBERS).code == 0
    assert gnopt("train", "tiny.toml", "--out", "run").code == 2
    two = ["--set", "training.members=2", "--overwrite"]
    assert gnopt("train", "tiny.toml", "--out", "run", *two).code == 0
    assert sorted(path.name for path in (tiny / "run/members").iterdir()) == ["1", "2"]
    assert gnopt("train", "tiny.toml", "--out", "run", "--overwrite").code == 0
    assert not (tiny / "run/members").exists()
    assert (tiny / "run/steps.csv").is_file()


LONG = [*MEMBERS, "--max-updates", "100000", "--set", "training.patience=0", "--jobs", "3"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_members_after_a_checkpoint(tiny, gnopt, number, code):
    child = start("train", "tiny.toml", "--out", "run", "-q", *LONG)
    steps = [tiny / f"run/members/{k}/steps.csv" for k in (1, 2, 3)]
    wait_until(lambda: all(has_lines(path, 3) for path in steps), child)
    child.send_signal(number)
    out, err = finish(child)
    assert child.returncode == code, err
    assert "3 of 3 members are not trained" in err
    assert "gnopt train --resume --out run" in err
    assert out == ""
    assert "Traceback" not in err
    assert info(tiny / "run")["status"] == "interrupted"
    assert info(tiny / "run")["exit_code"] == code
    for path in steps:
        facts = info(path.parent)
        assert facts["status"] == "interrupted"
        assert (path.parent / "checkpoints/latest").is_file()


@pytest.mark.parametrize("variant", [MEMBERS, [*FOLDS, *CLASSES]])
def test_an_ensemble_killed_at_any_moment_ends_like_an_undisturbed_one(tiny, gnopt, variant):
    """Kill it in the first members, in the middle and in the last one."""
    settings = [*variant, "--jobs", 2, "--set", "training.checkpoint_every=9"]
    settings += ["--max-updates", 150, "--set", "training.patience=0"]
    assert gnopt("train", "tiny.toml", "--out", "whole", *settings).code == 0
    resume: list[str] = []
    for updates in (20, 170, 340):
        child = start("train", "tiny.toml", "--out", "parts", "-q", *settings, *resume)
        wait_until(lambda: made(tiny / "parts") >= updates, child)  # noqa: B023
        child.send_signal(signal.SIGKILL)
        child.communicate()
        resume = ["--resume"]
    result = gnopt("train", "tiny.toml", "--out", "parts", "-q", *settings, *resume)
    assert result.code == 0, result.err
    same_ensembles(tiny / "whole", tiny / "parts")


def made(ensemble: Path) -> int:
    """The updates of all members so far."""
    count = 0
    for path in ensemble.glob("members/*/steps.csv"):
        with contextlib.suppress(FileNotFoundError):  # its run goes back to its first update
            count += path.read_bytes().count(b"\n") - 1
    return count


def bad_row(path: Path, row: int) -> None:
    """Make a file of a regression whose training diverges with this one row."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        x = rng.normal(size=(40, 3))
        file["y"] = x[:, :1] ** 2
        x[row] = 1e25
        file["x"] = x


STEEP = """
[data]
file = "bad.h5"
targets = "y"
standardize = false
validation = 0
[network]
hidden = [4]
activation = "relu"
loss = "squared_error"
[optimizer]
method = "sgd"
[training]
batch_size = 40
updates = 5
restarts = 0
members = 4
member_rows = "bootstrap"
"""


def test_a_member_that_diverges_is_left_out(tiny, gnopt):
    bad_row(tiny / "bad.h5", 2)
    (tiny / "steep.toml").write_text(STEEP)
    result = gnopt("train", "steep.toml", "--out", "run", "--json")
    statuses = [info(tiny / f"run/members/{k}")["status"] for k in (1, 2, 3, 4)]
    assert set(statuses) == {"done", "diverged"}
    assert result.code == 0, result.err
    lost = [k for k, status in enumerate(statuses, start=1) if status == "diverged"]
    assert f"{len(lost)} of 4 members diverged and are left out: {', '.join(map(str, lost))}" in (
        result.err
    )
    document = json.loads(result.out)
    assert document["trained"] == 4 - len(lost)
    assert info(tiny / "run")["status"] == "done"
    again = gnopt("train", "--out", "run", "--resume")
    assert again.code == 0
    assert "0 of 4 members to train" in again.err


def test_an_ensemble_without_a_member_left_has_diverged(tiny, gnopt):
    bad_row(tiny / "bad.h5", 2)
    (tiny / "steep.toml").write_text(STEEP)
    result = gnopt("train", "steep.toml", "--out", "run", "--set", "training.member_rows=all")
    assert result.code == 3
    assert "all 4 members diverged" in result.err
    assert info(tiny / "run")["status"] == "diverged"
    assert info(tiny / "run")["exit_code"] == 3


def test_a_member_that_fails_is_named_and_made_again(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run", *MEMBERS, "--max-updates", 3).code == 0
    checkpoints = tiny / "run/members/2/checkpoints"
    shutil.copytree(checkpoints, tiny / "whole")
    for path in checkpoints.glob("*.h5"):
        path.write_bytes(path.read_bytes()[:3000])
    result = gnopt("train", "--out", "run", "--resume", "--max-updates", 6)
    assert result.code == 1
    assert "1 of 3 members failed" in result.err
    assert "member 2" in result.err
    assert "gnopt train --resume --out run" in result.err
    assert info(tiny / "run/members/3")["step"] == 6
    shutil.copytree(tiny / "whole", checkpoints, dirs_exist_ok=True)
    assert gnopt("train", "--out", "run", "--resume").code == 0
    assert info(tiny / "run/members/2")["step"] == 6


def test_threads_stay_those_that_the_ensemble_began_with(tiny, process):
    settings = ["--out", "run", *MEMBERS, "--max-updates", 2]
    assert process("train", "tiny.toml", *settings, OMP_NUM_THREADS="1").code == 0
    more = ["--resume", "--max-updates", 4, "--jobs", 1]
    result = process("train", "--out", "run", *more, OMP_NUM_THREADS="2")
    assert result.code == 0, result.err
    assert "1 thread," in result.err
    assert info(tiny / "run/members/1")["threads"]["OMP_NUM_THREADS"] == "1"
    assert process("train", "tiny.toml", *MEMBERS, OMP_NUM_THREADS="many").code == 2


def test_other_commands_ask_for_a_member(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run", *MEMBERS).code == 0
    for command in (["inspect-curvature", "run"], ["plot", "run", "--reconstructions"]):
        result = gnopt(*command)
        assert result.code == 2
        assert "an ensemble of 3 members" in result.err
        assert "--member N" in result.err
        assert "run/members/1" in result.err
    only = ["--no-summary", "--density", "--member"]
    assert gnopt("inspect-curvature", "run", *only, 2).code == 0
    missing = gnopt("inspect-curvature", "run", *only, 9)
    assert missing.code == 2
    assert "the members of run are 1, 2, 3" in missing.err
    assert "no ensemble" in gnopt("plot", "run/members/1", "--member", 1).err


def test_a_comparison_trains_single_networks(tiny, gnopt):
    result = gnopt("compare", "tiny.toml", "--methods", "sgd", "--out", "c", *MEMBERS)
    assert result.code == 0, result.err
    assert not list(tiny.glob("c/runs/*/*/members"))


def test_members_find_a_plug_in_beside_the_configuration(tiny, gnopt, monkeypatch):
    (tiny / "mine_of_members.py").write_text(
        "from gnopt.engine.losses.squared_error import SquaredError\n\n\n"
        "class Mine(SquaredError):\n    name = ''\n"
    )
    (tiny / "elsewhere").mkdir()
    monkeypatch.chdir(tiny / "elsewhere")
    plug_in = ["--set", "network.loss=mine_of_members:Mine", *MEMBERS]
    result = gnopt("train", "../tiny.toml", "--out", "run", *plug_in, "--max-updates", 2)
    assert result.code == 0, result.err
    again = ["train", "--resume", "--out", "run", "--max-updates", 3]
    assert gnopt(*again).code == 2
    assert gnopt(*again, "--allow-plugins").code == 0
    for number in (1, 2, 3):
        recorded = info(Path(f"run/members/{number}"))["plug_ins"]["mine_of_members"]
        assert recorded["file"] == str(tiny / "mine_of_members.py")


def test_all_members_begin_with_given_weights(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "first", "--max-updates", 3).code == 0
    given = tiny / "first/checkpoints/step-000003.h5"
    keep = ["--max-updates", 2, "--set", "training.checkpoint_every=1"]
    keep += ["--set", "training.keep_checkpoints=9"]
    result = gnopt("train", "tiny.toml", "--out", "run", *MEMBERS, *keep, "--init-from", given)
    assert result.code == 0, result.err
    expected = load_network(given).weights
    after = []
    for number in (1, 2, 3):
        folder = tiny / f"run/members/{number}/checkpoints"
        for one, other in zip(
            load_network(folder / "step-000000.h5").weights, expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)
        after.append(load_network(folder / "step-000002.h5").weights[0])
    assert not np.array_equal(after[0], after[1])
    wrong = ["--set", "network.hidden=[5,3,8]", "--init-from", given]
    result = gnopt("train", "tiny.toml", "--out", "other", *MEMBERS, *wrong)
    assert result.code == 1
    assert not (tiny / "other").exists()


def test_an_ensemble_of_untrained_networks(tiny, gnopt):
    result = gnopt("train", "tiny.toml", "--out", "run", *MEMBERS, "--max-updates", 0, "--json")
    assert result.code == 0, result.err
    assert [m["updates"] for m in json.loads(result.out)["members"]] == [0, 0, 0]


def test_a_member_that_has_learned_nothing_is_named(tiny, gnopt):
    still = ["--set", "optimizer.method=sgd", "--set", "optimizer.learning_rate=1e-12"]
    still += ["--set", "training.restarts=0"]
    result = gnopt("train", "tiny.toml", "--out", "run", "--json", *MEMBERS, *still)
    assert result.code == 0, result.err
    for number in (1, 2, 3):
        assert f"member {number} (seed {number - 1}): the network is" in result.err
    assert all(m["shortcomings"] for m in json.loads(result.out)["members"])
    assert "than the best constant" in (tiny / "run/log.txt").read_text()
