"""No command replaces a file that its user did not ask to lose."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from gnopt.config import load

SHORT = ["--max-updates", 2, "-q"]


@pytest.fixture
def trained(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run", *SHORT).code == 0
    return tiny


INSPECT = ["inspect-curvature", "run", "--samples", 20, "--curvature", "kfra", "-q"]
COMMANDS = {
    "predict": (["predict", "run", "tiny.h5", "out.h5"], ["out.h5"]),
    "export": (["export", "run", "out.npz"], ["out.npz"]),
    "inspect files": (
        [*INSPECT, "--export", "m.h5", "--csv", "s.csv"],
        ["m.h5", "s.csv"],
    ),
    "inspect folder": ([*INSPECT, "--out", "seen"], ["seen/layers.csv", "seen/methods.csv"]),
    "bench": (["bench", "tiny.toml", "--rounds", 1, "--out", "b.csv", "-q"], ["b.csv"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_existing_file_is_refused_and_replaced_on_demand(trained, gnopt, command):
    argv, outputs = COMMANDS[command]
    for name in outputs:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("precious")
        refused = gnopt(*argv)
        assert refused.code == 2
        assert f"{name}: exists already; --overwrite replaces it" in refused.err
        assert Path(name).read_text() == "precious"
        Path(name).unlink()
    Path(outputs[0]).write_text("precious")
    Path(outputs[0]).chmod(0o640)
    done = gnopt(*argv, "--overwrite")
    assert done.code == 0, done.err
    assert Path(outputs[0]).read_bytes() != b"precious"
    assert Path(outputs[0]).stat().st_mode & 0o777 == 0o640


def test_figures_are_replaced_in_a_run_and_refused_elsewhere(trained, gnopt):
    pytest.importorskip("matplotlib")
    for _ in range(2):
        assert gnopt("plot", "run").code == 0
    for out, name in (("f.png", "f.png"), ("figures", "figures/steps.png")):
        assert gnopt("plot", "run", "--out", out).code == 0
        Path(name).write_text("precious")
        refused = gnopt("plot", "run", "--out", out)
        assert refused.code == 2
        assert "exists already; --overwrite replaces it" in refused.err
        assert gnopt("plot", "run", "--out", out, "--overwrite").code == 0
        assert Path(name).read_bytes() != b"precious"


@pytest.mark.parametrize(
    "argv",
    [
        ["export", "run", "run/checkpoints/step-000002.h5"],
        ["export", "run", "run/checkpoints/step-000009.h5"],
        ["export", "run/checkpoints/step-000002.h5", "run/checkpoints/step-000000.h5"],
        ["export", "run", "tiny.h5"],
        ["predict", "run", "tiny.h5", "tiny.h5"],
        ["predict", "run", "other.h5", "tiny.h5"],
        ["predict", "run", "other.h5", "other.h5"],
        [*INSPECT, "--csv", "run/steps.csv"],
        [*INSPECT, "--export", "run/checkpoints/step-000002.h5"],
        ["bench", "tiny.toml", "--out", "link.csv"],
        ["dataset", "import", "a.csv", "--out", "a.csv"],
    ],
    ids=lambda argv: f"{argv[0]} {argv[-1]}",
)
def test_what_a_command_reads_is_no_place_for_its_results(trained, gnopt, argv):
    Path("other.h5").write_bytes(Path("tiny.h5").read_bytes())
    Path("link.csv").symlink_to("tiny.toml")
    Path("a.csv").write_text("1,2\n3,4\n")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    refused = gnopt(*argv, "--overwrite")
    assert refused.code in (1, 2)
    assert "which is read here; expected another file" in refused.err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_devices_are_written_into_and_links_followed(trained, gnopt):
    Path("link.npz").symlink_to("real.npz")
    assert gnopt("predict", "run", "tiny.h5", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    assert gnopt("export", "run", "link.npz").code == 0
    assert Path("link.npz").is_symlink()
    assert Path("real.npz").read_bytes().startswith(b"PK")


def test_names_are_shown_as_they_are_in_every_markup(tiny, gnopt):
    Path("grid.toml").write_text(
        '[variants."[/b]<i>"]\nmethod = "adam"\n[variants."$b^$ :smile: [red]"]\nmethod = "sgd"\n'
    )
    budget = ["--budget-updates", 2, "--threads", 1, "--target", 9]
    done = gnopt("compare", "tiny.toml", "--grid", "grid.toml", *budget, "--out", "c", "-q")
    assert done.code == 0, done.err
    for name in ("[/b]<i>", "$b^$ :smile: [red]"):
        assert name in done.out
    if Path("c/report.html").is_file():  # there is matplotlib
        assert "[/b]&lt;i&gt;" in Path("c/report.html").read_text()
        assert "$b^$ :smile: [red]" in Path("c/objective.svg").read_text()
    with h5py.File("[b]odd.h5", "w") as file:
        file["[red]x"] = np.zeros((3, 2))
    shown = gnopt("dataset", "info", "[b]odd.h5").out
    assert "[b]odd.h5" in shown
    assert "[red]x" in shown


def test_warnings_of_other_packages_are_shown_on_demand_alone(tiny, gnopt, monkeypatch):
    def complain(*_: object) -> None:
        warnings.warn("something is deprecated", FutureWarning, stacklevel=1)

    monkeypatch.setattr("gnopt.provenance.command_line", lambda: complain() or ["gnopt"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet = gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 1, "-q")
        asked = gnopt("train", "tiny.toml", "--out", "more", "--max-updates", 1, "-q", "-v")
    assert "deprecated" not in quiet.err
    assert "note: FutureWarning: something is deprecated" in asked.err


def test_names_of_files_need_not_be_utf8(tiny, gnopt):
    odd = Path(os.fsdecode(b"b\xff\xfe"))
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("the file system has names in UTF-8 alone")
    shutil.copy("tiny.h5", odd / "d.h5")
    shutil.copy("tiny.toml", odd / "c.toml")
    adam = ["--methods", "adam", "--threads", 1, "--budget-updates", 2, "-q"]
    for argv in (
        ["train", odd / "c.toml", "--data", odd / "d.h5", "--out", odd / "r", *SHORT],
        ["train", "--resume", "--out", odd / "r", "--max-updates", 3, "-q"],
        ["evaluate", odd / "r"],
        ["predict", odd / "r", odd / "d.h5", odd / "o.h5"],
        ["export", odd / "r", odd / "o.npz"],
        ["plot", odd / "r"],
        ["inspect-curvature", odd / "r", "--samples", 9, "--out", odd / "seen", "-q"],
        ["dataset", "info", odd / "d.h5"],
        ["compare", odd / "c.toml", "--data", odd / "d.h5", *adam, "--out", odd / "c"],
    ):
        result = gnopt(*argv)
        assert result.code == 0, (argv, result.err)
    config = load(odd / "r/config.toml")
    assert Path(config.data.file) == (odd / "d.h5").absolute()
    assert "file:/" in (odd / "r/config.toml").read_text(encoding="utf-8")


def test_a_lowest_damping_above_the_highest_is_refused(tiny, gnopt):
    bounds = ["--set", "optimizer.damping_min=10", "--set", "optimizer.damping_max=1"]
    refused = gnopt("config", "check", "tiny.toml", *bounds)
    assert refused.code == 2
    assert "optimizer.damping_min = 10: expected at most damping_max = 1" in refused.err
