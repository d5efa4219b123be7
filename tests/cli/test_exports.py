"""Exported files, run by other programs, give what ``gnopt predict`` writes."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import h5py
import numpy as np
import pandas as pd
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
    if shutil.which("cc") is None:
        pytest.skip("there is no cc")
    x, expected = predicted
    (step,) = (
        line.removeprefix("next: ")
        for line in gnopt("export", "run", "net.c").out.splitlines()
        if line.startswith("next: ")
    )
    subprocess.run(shlex.split(step), check=True)
    text = "\n".join(",".join(map(repr, row)) for row in x.tolist())
    done = subprocess.run(["./net"], input=text, text=True, capture_output=True, check=True)
    made = np.array([line.split(",") for line in done.stdout.splitlines()], dtype=float)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)


TABLE = """
[data]
file = "people.csv"
targets = "height"
[network]
hidden = [4]
loss = "squared_error"
[optimizer]
weight_decay = 0.1
[training]
updates = 3
dtype = "float64"
"""


def test_a_model_takes_other_rows_of_the_table_as_predict_does(tmp_path, monkeypatch, gnopt):
    """With columns in another order, words that were not met, and missing cells."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"age": rng.normal(40.0, 9.0, 50), "city": rng.choice(list("abc"), 50)})
    people.loc[::9, "age"] = np.nan
    people["height"] = 170.0 + rng.normal(size=50)
    people.to_csv("people.csv", index=False)
    (tmp_path / "people.toml").write_text(TABLE)
    assert gnopt("train", "people.toml", "--out", "run").code == 0
    assert gnopt("export", "run", "net.onnx").code == 0
    new = people.loc[:20, ["city", "age"]]
    new.loc[2:5, "city"] = ["new", None, "new", None]
    new.loc[4:9, "age"] = np.nan
    new.to_csv("new.csv", index=False)
    assert gnopt("predict", "run", "new.csv", "p.csv").code == 0
    expected = pd.read_csv("p.csv")[["prediction"]].to_numpy()
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    cells = {"age": new[["age"]].to_numpy(), "city": new[["city"]].fillna("").to_numpy(object)}
    (made,) = session.run(["prediction"], cells)
    np.testing.assert_allclose(made, expected, rtol=1e-5)
