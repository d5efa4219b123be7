"""What a colleague sends (runs, comparisons, checkpoints, data) neither leads out of its own
directory nor runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from gnopt.training import checkpoint

SHORT = ["--max-updates", 2, "-q"]


@pytest.fixture
def received(tiny, gnopt):
    """A run, and a folder beside it that is nobody's business."""
    assert gnopt("train", "tiny.toml", "--out", "run", *SHORT).code == 0
    (tiny / "victim/checkpoints").mkdir(parents=True)
    for name in ("precious", "log.txt", "checkpoints/step-000001.h5", "checkpoints/latest"):
        shutil.copy(tiny / "run/config.toml", tiny / "victim" / name)
    return tiny


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_runs_of_a_comparison_lie_inside_it(received, gnopt):
    short = ["--methods", "adam", "--budget-updates", 2, "--threads", 1, "-q"]
    assert gnopt("compare", "tiny.toml", *short, "--out", "cmp").code == 0
    (received / "victim").rename(received / "cmp/victim")
    plan = json.loads(Path("cmp/compare.json").read_text())
    absolute = str(received / "cmp/victim")
    for name in ("../victim", absolute, "../runs", "..", "", ".", "a/../../x", "nul\0", 3):
        plan["runs"][0]["id"] = name
        Path("cmp/compare.json").write_text(json.dumps(plan))
        before = contents(received / "cmp")
        for argv in (["compare", "--resume", "--out", "cmp", "-q"], ["plot", "cmp"]):
            result = gnopt(*argv)
            assert result.code == 1, name
            assert "cmp/" in result.err, name
            assert contents(received / "cmp") == before, name
    for text in ("{", "[]", "{}"):
        next(Path("cmp/history").glob("*.json")).write_text(text)
        plan["runs"][0]["id"] = "adam/x"
        Path("cmp/compare.json").write_text(json.dumps(plan))
        result = gnopt("compare", "--resume", "--out", "cmp", "-q")
        assert result.code == 1
        assert "cmp/history/" in result.err


def link(name: str, target: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(Path(target).absolute())

    return make


def pipe(run: Path) -> None:
    (run / "steps.csv").unlink()
    os.mkfifo(run / "steps.csv")


TRAPS = {
    "log": link("log.txt", "victim/log.txt"),
    "rows": link("steps.csv", "victim/precious"),
    "rows that are not there": link("eval.csv", "victim/new"),
    "configuration": link("config.toml", "victim/precious"),
    "checkpoints": link("checkpoints", "victim/checkpoints"),
    "a checkpoint": link("checkpoints/step-000002.h5", "victim/checkpoints/step-000001.h5"),
    "pointer": link("checkpoints/latest", "victim/checkpoints/latest"),
    "members": link("members", "victim"),
    "pipe": pipe,
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_link_out_of_a_run_is_refused_before_anything_is_touched(received, gnopt, trap):
    TRAPS[trap](received / "run")
    before = contents(received / "victim")
    for argv in (
        ["evaluate", "run"],
        ["export", "run", "out.npz"],
        ["predict", "run", "tiny.h5", "out.h5"],
        ["plot", "run"],
        ["inspect-curvature", "run", "--samples", 10, "-q"],
        ["train", "--resume", "--out", "run", "--max-updates", 3, "-q"],
        ["train", "tiny.toml", "--out", "run", "--overwrite", *SHORT],
    ):
        result = gnopt(*argv)
        assert result.code == 1, argv
        assert "is not inside run" in result.err or "a device or a pipe" in result.err, argv
        assert contents(received / "victim") == before, argv
    assert not Path("out.npz").exists()


def test_a_pointer_that_leads_elsewhere_is_not_followed(received, gnopt):
    shutil.copytree("run", "other")
    for text in ("../../other/checkpoints/step-000002.h5", str(received / "other"), "..", "\0"):
        Path("run/checkpoints/best").write_text(text)
        found = json.loads(gnopt("evaluate", "run", "--json").out)
        assert found["checkpoint"].startswith("run/checkpoints/step-")


def test_a_run_that_is_reached_by_a_link_of_its_user_is_a_run(received, gnopt):
    Path("newest").symlink_to("run")
    assert gnopt("train", "--resume", "--out", "newest", "--max-updates", 3, "-q").code == 0
    assert gnopt("evaluate", "newest").code == 0


# ---- code ----------------------------------------------------------------------------------------

PLUG_IN = """
open({mark!r}, "w")
from gnopt.engine.activations import get_activation
A = get_activation("tanh")
"""
READING = [
    ["evaluate", "run"],
    ["plot", "run"],
    ["predict", "run", "tiny.h5", "o.h5"],
    ["export", "run", "o.npz"],
    ["export", "run", "o.onnx"],
    ["inspect-curvature", "run", "--samples", 20, "-q"],
    ["inspect-curvature", "run/config.toml", "--samples", 20, "-q"],
    ["bench", "run/config.toml", "--rounds", 1, "-q"],
    ["config", "show", "run/config.toml"],
    ["config", "check", "run/config.toml"],
    ["train", "run/config.toml", "--dry-run"],
    ["train", "run/config.toml", "--out", "new", *SHORT],
    ["train", "other/config.toml", "--dry-run"],
    ["config", "check", "other/config.toml"],
    ["inspect-curvature", "other/config.toml", "--samples", 20, "-q"],
    ["compare", "run/config.toml", "--methods", "adam", "--out", "c", "--budget-updates", 1],
    ["train", "--resume", "--out", "run", "--max-updates", 3, "-q"],
]


@pytest.fixture
def coded(received):
    """A received run whose configuration names a Python file beside it, and another folder."""
    mark = received / "executed"
    text = Path("run/config.toml").read_text()
    activations = 'activation = ["tanh", "identity", "tanh"]'
    assert activations in text
    text = text.replace(activations, 'activation = ["evil:A", "identity", "tanh"]')
    facts = json.loads(Path("run/run.json").read_text())
    facts["configuration"]["network"]["activation"][0] = "evil:A"
    Path("run/run.json").write_text(json.dumps(facts))
    (received / "other").mkdir()
    for folder in ("run", "other"):
        (received / folder / "config.toml").write_text(text)
        (received / folder / "evil.py").write_text(PLUG_IN.format(mark=str(mark)))
    return mark


def test_nothing_that_is_received_runs_code(coded, gnopt):
    for argv in READING:
        result = gnopt(*argv)
        assert not coded.exists(), argv
        if result.code == 0:
            assert argv[0] in ("plot", "export"), argv  # they can do without the activation
        else:
            assert result.code == 2, argv
            assert "evil.py (sha256 " in result.err, argv
            assert "--allow-plugins" in result.err, argv
    assert gnopt("evaluate", "run", "--allow-plugins").code == 0
    assert coded.exists()


def test_a_configuration_that_is_named_to_train_brings_its_code(coded, gnopt):
    for name in ("random", "evil"):  # the first is also the name of a standard module
        Path("other/evil.py").rename(f"other/{name}.py")
        sets = ["--set", f"network.activation={name}:A", "--out", name]
        done = gnopt("train", "other/config.toml", *sets, *SHORT)
        assert done.code == 0, done.err
        coded.unlink()
        record = json.loads(Path(name, "run.json").read_text())["plug_ins"][name]
        source = Path(f"other/{name}.py")
        assert record["file"] == str(source.absolute())
        assert record["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        source.rename("other/evil.py")


def test_a_run_goes_on_with_the_plug_in_that_it_began_with(coded, gnopt):
    assert gnopt("train", "other/config.toml", "--out", "new", *SHORT).code == 0
    again = ["train", "--resume", "--out", "new", "-q", "--max-updates"]
    assert gnopt(*again, 3).code == 2
    assert gnopt(*again, 3, "--allow-plugins").code == 0
    assert gnopt(*again, 4, "other/config.toml").code == 0
    with Path("other/evil.py").open("a") as file:
        file.write("# changed\n")
    for more in (["--allow-plugins"], ["other/config.toml"]):
        refused = gnopt(*again, 5, *more)
        assert refused.code == 1
        assert "evil.py: not the plug-in that the run was started with" in refused.err
    told = gnopt("evaluate", "new", "--allow-plugins")
    assert told.code == 0
    assert "evil.py: not the plug-in that the run was started with" in told.err


def test_a_checkpoint_never_names_code_to_load(received, gnopt):
    (received / "evil.py").write_text(PLUG_IN.format(mark=str(received / "executed")))
    for path in Path("run/checkpoints").glob("*.h5"):
        stored = checkpoint.load_network(path)
        stored.activations[0] = "evil:A"
        checkpoint.save(path, stored, checkpoint.load_state(path))
    for argv in (["evaluate", "run"], ["predict", "run", "tiny.h5", "o.h5"]):
        for more in ([], ["--allow-plugins"]):
            result = gnopt(*argv, *more)
            assert result.code == 2
            assert "a checkpoint alone loads no code" in result.err
    assert not (received / "executed").exists()


def test_workers_take_nothing_from_the_folder_of_a_configuration(received, gnopt, monkeypatch):
    executed = received / "p/executed"
    Path("p").mkdir()
    shutil.copy("tiny.toml", "p")
    shutil.copy("tiny.h5", "p")
    for name in ("sitecustomize", "random", "signal", "h5py", "numpy", "json"):
        Path(f"p/{name}.py").write_text(f"open({str(executed)!r}, 'w')")
    mine = PLUG_IN.format(mark=str(received / "loaded"))
    Path("p/mine.py").write_text(mine)
    monkeypatch.chdir("p")  # nor from the working directory
    compared = ["--methods", "adam", "--budget-updates", 2, "--threads", 1, "-q"]
    plug_in = ["--set", "network.activation=mine:A"]
    done = gnopt("compare", "tiny.toml", *compared, *plug_in, "--out", "c")
    assert done.code == 0, done.err
    assert not executed.exists()
    assert (received / "loaded").exists()
    again = ["compare", "--resume", "--out", "c", "-q"]
    refused = gnopt(*again)
    assert refused.code == 2
    assert "mine.py (sha256 " in refused.err
    assert gnopt(*again, "--allow-plugins").code == 0


# ---- data that refers to other files -------------------------------------------------------------


def test_data_follow_links_only_where_the_user_says_so(received, gnopt):
    Path("real.h5").write_bytes(Path("tiny.h5").read_bytes())
    with h5py.File("linked.h5", "w") as file:
        file["x"] = h5py.ExternalLink("real.h5", "/x")
    asked = ["--set", "data.follow_links=true"]
    train = ["train", "tiny.toml", "--data", "linked.h5", *SHORT]
    refused = gnopt(*train, "--out", "new")
    assert refused.code == 1
    assert "linked.h5: /x is a link to /x of real.h5; refused" in refused.err
    assert gnopt(*train, *asked, "--out", "new").code == 0
    text = Path("tiny.toml").read_text().replace("[data]", "[data]\nfollow_links = true")
    Path("linked.toml").write_text(text.replace("tiny.h5", "linked.h5"))
    assert gnopt("train", "linked.toml", "--out", "named", *SHORT).code == 0
    compared = [
        "compare",
        "linked.toml",
        "--methods",
        "adam",
        "--budget-updates",
        2,
        "--threads",
        1,
    ]
    assert gnopt(*compared, "--out", "cmp", "-q").code == 0
    again = ["train", "--resume", "--out", "named", "-q", "--max-updates", 3]
    for argv, allowed in (
        (["evaluate", "named"], "--follow-links"),
        (["predict", "named", "linked.h5", "o.h5"], "--follow-links"),
        (["predict", "run", "linked.h5", "o2.h5"], "--follow-links"),
        (["config", "check", "linked.toml"], "--set=data.follow_links=true"),
        (["inspect-curvature", "named", "--samples", 9, "-q"], "--set=data.follow_links=true"),
        (again, "--set=data.follow_links=true"),
        (["compare", "--resume", "--out", "cmp", "-q"], "--allow-plugins"),
    ):
        refused = gnopt(*argv)
        assert refused.code in (1, 2), argv
        assert "any file of this machine" in refused.err, argv
        done = gnopt(*argv, allowed)
        assert done.code == 0, (argv, done.err)
