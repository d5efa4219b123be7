"""`gnopt plot` on runs under way, on comparisons, and without matplotlib."""

from __future__ import annotations

import signal
from pathlib import Path

import h5py
import pytest
from cli_tools import ROOT, start
from processes import finish, has_lines, wait_until


def test_a_run_under_way_can_be_plotted(tiny, gnopt):
    pytest.importorskip("matplotlib")
    # A run that neither patience nor convergence stops.
    long = ["training.updates=1000000", "training.patience=0", "optimizer.method=adam"]
    sets = [word for setting in long for word in ("--set", setting)]
    child = start("train", "tiny.toml", "--out", "run", *sets, "-q")
    try:
        wait_until(lambda: has_lines(Path("run/steps.csv"), 20), child)
        result = gnopt("plot", "run", "--out", "figures")
        assert result.code == 0
        assert child.poll() is None
        assert result.out.split() == ["figures/curves.png", "figures/steps.png"]
    finally:
        child.send_signal(signal.SIGTERM)
        finish(child)


def test_several_runs_and_comparisons(tiny, gnopt):
    pytest.importorskip("matplotlib")
    for method in ("sgd", "kfra"):
        assert (
            gnopt("train", "tiny.toml", "--out", method, "--set", f"optimizer.method={method}").code
            == 0
        )
    assert gnopt("plot", "sgd", "kfra", "--out", "both.svg").code == 0
    text = Path("both.svg").read_text()
    assert "sgd" in text
    assert "kfra" in text
    assert "lowest loss that the targets allow" in text
    for name in ("one", "two"):
        assert (
            gnopt(
                "compare",
                "tiny.toml",
                "--methods",
                "sgd",
                "--out",
                name,
                "-q",
                "--set",
                "training.updates=4",
            ).code
            == 0
        )
    result = gnopt("plot", "one", "two", "--out", "figure.svg", "--json")
    assert result.code == 0
    assert '"figure.svg"' in result.out
    assert "one" in Path("figure.svg").read_text()
    assert "seconds of training" in Path("figure.svg").read_text()
    result = gnopt("plot", "one", "sgd")
    assert result.code == 2
    assert "found both" in result.err


def test_plot_says_when_matplotlib_is_missing(tiny, process):
    with h5py.File("tiny.h5", "a") as file:
        file["x"].attrs["image_shape"] = [3, 4]
    (tiny / "none/matplotlib").mkdir(parents=True)
    (tiny / "none/matplotlib/__init__.py").write_text("raise ImportError('not here')\n")
    environment = {"PYTHONPATH": f"{tiny / 'none'}:{ROOT}"}
    assert process("train", "tiny.toml", "--out", "run", "-q", **environment).code == 0
    for argv in (["run"], ["run", "--reconstructions"]):
        result = process("plot", *argv, **environment)
        assert result.code == 1
        assert "pip install 'gnopt[plot]'" in result.err
        assert len(result.err.splitlines()) == 1
    result = process("compare", "tiny.toml", "--methods", "sgd", "--out", "c", **environment)
    assert result.code == 0
    assert "no figures" in result.err
    assert Path("c/summary.csv").is_file()
