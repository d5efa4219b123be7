"""`gnopt plot`: figures appear as files, and nothing else does."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib")


@pytest.fixture
def trained(tiny, gnopt):
    with h5py.File("tiny.h5", "a") as file:
        file["x"].attrs["image_shape"] = [3, 4]
    assert gnopt("train", "tiny.toml", "--out", "run").code == 0
    return tiny


def test_curves_of_runs_are_drawn_in_every_format(trained, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "other", "--set", "data.validation=0").code == 0
    for name in ("c.png", "c.pdf", "c.svg"):
        assert gnopt("plot", "run", "other", "--out", name).code == 0
        assert (trained / name).stat().st_size > 1000
    result = gnopt("plot", "run")
    assert result.out == "run/curves.png\nrun/steps.png\n"
    assert (trained / "run/curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_of_a_run_has_a_title_its_metrics_and_a_mark_at_the_best(trained, gnopt):
    sets = ("--set", 'training.metrics=["mae", "rmse"]', "--set", "training.judge=rmse")
    assert gnopt("train", "tiny.toml", "--out", "judged", *sets).code == 0
    drawn = {}
    for run in ("run", "judged"):
        assert gnopt("plot", run, "--out", f"{run}.svg").code == 0
        drawn[run] = (trained / f"{run}.svg").read_text()
        assert "kfra on tiny.h5, network 12-8-3-8-12" in drawn[run]
        for words in ("best network", "training rows", "validation rows", "batches, sliding mean"):
            assert f">{words}</text>" in drawn[run]
    assert ">squared error</text>" in drawn["run"]
    assert re.search(r"best: update \d+, lowest validation loss", drawn["run"])
    assert drawn["judged"].index(">rmse</text>") < drawn["judged"].index(">mae</text>")
    assert "lowest validation rmse" in drawn["judged"]


def test_reconstructions_are_drawn_for_any_count(trained, gnopt):
    for count in (1, 3, 20):
        assert gnopt("plot", "run", "--reconstructions", "--count", count).code == 0
    assert (trained / "run/reconstructions.png").read_bytes().startswith(b"\x89PNG")
    assert (
        gnopt(
            "train",
            "tiny.toml",
            "--out",
            "standard",
            "--set",
            "data.standardize=true",
            "--set",
            "network.loss=squared_error",
        ).code
        == 0
    )
    assert gnopt("plot", "standard", "--reconstructions", "--checkpoint", "best").code == 0


def test_what_cannot_be_drawn_is_refused(trained, gnopt):
    for argv, code in (
        (["absent"], 1),
        (["run", "--out", "x.gif"], 2),
        ([], 2),
        (["run", "run", "--reconstructions"], 2),
        (["absent", "--reconstructions"], 1),
    ):
        result = gnopt("plot", *argv)
        assert result.code == code, argv
        assert "Traceback" not in result.err, argv
    gnopt(
        "train",
        "tiny.toml",
        "--out",
        "classes",
        "--set",
        "data.targets=y",
        "--set",
        "network.loss=softmax_cross_entropy",
    )
    result = gnopt("plot", "classes", "--reconstructions")
    assert result.code == 1
    assert "autoencoders" in result.err
    with h5py.File("odd.h5", "w") as file:
        file["x"] = np.random.default_rng(0).random((20, 13))
    gnopt("train", "tiny.toml", "--out", "odd", "--data", "odd.h5")
    result = gnopt("plot", "odd", "--reconstructions")
    assert result.code == 1
    assert "13" in result.err
