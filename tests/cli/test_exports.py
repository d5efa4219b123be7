"""Exported files, run by other programs, give what ``gnopt predict`` writes."""

from __future__ import annotations

import shutil
import subprocess

import h5py
import numpy as np
import pytest


@pytest.fixture
def predicted(tiny, gnopt) -> tuple[np.ndarray, np.ndarray]:
    """Raw inputs of a run with standardised inputs, and its predictions."""
    sets = ("data.standardize=true", "network.loss=squared_error")
    arguments = [part for text in sets for part in ("--set", text)]
    assert gnopt("train", "tiny.toml", "--out", "run", "--max-updates", 4, *arguments).code == 0
    assert gnopt("predict", "run", "tiny.h5", "p.h5").code == 0
    with h5py.File("tiny.h5") as data, h5py.File("p.h5") as made:
        return data["x"][()] * data["x"].attrs["scale"], made["x"][()]


def test_a_model_gives_what_predict_writes(predicted, gnopt):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, expected = predicted
    assert gnopt("export", "run", "net.onnx").code == 0
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (made,) = session.run(["prediction"], {"input": x.astype("f4")})
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)


def test_a_program_writes_what_predict_writes(predicted, gnopt):
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    x, expected = predicted
    assert gnopt("export", "run", "net.c").code == 0
    subprocess.run(["gcc", "-std=c99", "-Dnet_MAIN", "net.c", "-lm", "-o", "net"], check=True)
    text = "\n".join(",".join(map(repr, row)) for row in x.tolist())
    done = subprocess.run(["./net"], input=text, text=True, capture_output=True, check=True)
    made = np.array([line.split(",") for line in done.stdout.splitlines()], dtype=float)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
