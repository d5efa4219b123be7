"""What a colleague sends (runs, comparisons, checkpoints, data) neither leads out of its own
directory nor runs code.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
