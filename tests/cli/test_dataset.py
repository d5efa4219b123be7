"""`gnopt dataset` as users run it: a process of its own, its streams, its exit codes."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from processes import LIMIT

ROOT = Path(__file__).parents[2]


def gnopt(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "gnopt", "dataset", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_make_curves_and_look_at_them(tmp_path):
    made = gnopt(
        "make", "curves", "--count", 50, "--test", 20, "--validation", 10, "--seed", 3, cwd=tmp_path
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == "datasets/curves.h5: train 50, validation 10, test 20 rows\n"
    shown = gnopt("info", "datasets/curves.h5", cwd=tmp_path)
    assert shown.returncode == 0
    assert "50x28x28" in shown.stdout
    assert "train: 50 rows of 784 inputs" in shown.stdout
    as_json = gnopt("info", "datasets/curves.h5", "--json", cwd=tmp_path)
    found = json.loads(as_json.stdout)
    assert found["splits"]["test"]["rows"] == 20
    assert found["problem"] is None
    again = gnopt("make", "curves", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stdout == ""
    assert "--overwrite" in again.stderr


def test_make_faces_writes_the_three_groups(tmp_path):
    made = gnopt(
        "make",
        "faces",
        ROOT / "datasets/faces-lfw100.h5",
        "--pairs",
        2,
        "--out",
        "f.h5",
        "--json",
        cwd=tmp_path,
    )
    assert made.returncode == 0
    assert json.loads(made.stdout) == {
        "file": "f.h5",
        "rows": {"train": 126, "validation": 24, "test": 50},
    }
    refused = gnopt("make", "faces", "olivetti_py3.pkz", cwd=tmp_path)
    assert refused.returncode == 1
    assert "No such file" in refused.stderr


def test_mnist_is_imported_in_one_command(tmp_path):
    def idx(array: np.ndarray) -> bytes:
        return (
            bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
        )

    x, y = np.arange(12 * 9, dtype=np.uint8).reshape(12, 3, 3), np.arange(12, dtype=np.uint8) % 10
    for name, part in (("train", slice(0, 9)), ("t10k", slice(9, 12))):
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x[part])))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y[part])))
    done = gnopt(
        "import",
        "train-images-idx3-ubyte.gz",
        "--labels",
        "train-labels-idx1-ubyte.gz",
        "--validation",
        4,
        "--test-images",
        "t10k-images-idx3-ubyte.gz",
        "--test-labels",
        "t10k-labels-idx1-ubyte.gz",
        "--out",
        "mnist.h5",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mnist.h5: train 5, validation 4, test 3 rows\n"
    with h5py.File(tmp_path / "mnist.h5") as file:
        np.testing.assert_array_equal(file["test/x"][:], x[9:])
        np.testing.assert_array_equal(file["validation/y"][:], y[5:9])
        assert file["train/x"].attrs["scale"] == 1 / 255


def test_csv_is_imported_with_its_flags(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{k},{k * 2},{'ab'[k % 2]}\n" for k in range(10)))
    done = gnopt(
        "import",
        "a.csv",
        "--targets",
        "-1",
        "--inputs",
        "1",
        "--scale",
        "1/4",
        "--split",
        "0.6:0.2:0.2",
        "--order",
        "file",
        "--out",
        "a.h5",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["train/x"][:].tolist() == [[0], [2], [4], [6], [8], [10]]
        assert file["train/x"].attrs["scale"] == 0.25
        assert file["test/y"][:].tolist() == [0, 1]
    shown = gnopt("info", "a.h5", cwd=tmp_path)
    assert "train/y: classes a, b" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["info", "gone.h5"], 1, "gone.h5: no such file"),
        (["info", "."], 1, "is a directory"),
        (["import", "gone.csv", "--out", "a.h5"], 1, "gone.csv"),
        (["import", "a.csv"], 2, "--out"),
        (["import", "a.csv", "--out", "a.h5", "--size", "big"], 2, "WIDTHxHEIGHT"),
        (["import", "a.csv", "--out", "a.h5", "--scale", "0"], 2, "other than 0"),
        (["import", "a.csv", "--out", "a.h5", "--split", "1"], 2, "train:validation"),
        (["make", "curves", "--count", "0"], 2, "--count"),
        (["make", "squares"], 2, "squares"),
    ],
)
def test_errors_are_short_and_have_their_code(tmp_path, arguments, code, words):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    done = gnopt(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert not (tmp_path / "a.h5").exists()
