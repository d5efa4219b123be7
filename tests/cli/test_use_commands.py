"""The commands that use a trained run, and those that only print."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import ROOT, rows
from processes import LIMIT

from gnopt import optimizers
from gnopt.export import formats


@pytest.fixture
def trained(tiny, gnopt):
    assert gnopt("train", "tiny.toml", "--out", "run").code == 0
    return tiny


def handed_out(run="run"):
    """The checkpoint that commands use by default."""
    return f"{run}/checkpoints/{Path(run, 'checkpoints/best').read_text().strip()}"


def outputs(path, x):
    """The autoencoder of a checkpoint, in plain NumPy."""
    with h5py.File(path) as file:
        for name in sorted(file["network/layers"]):
            layer = file["network/layers"][name]
            x = x @ layer["weight"][()].T + layer["bias"][()]
            x = np.tanh(x) if layer.attrs["activation"] == "tanh" else x
    return x


def test_evaluate_agrees_with_the_log(trained, gnopt):
    found = json.loads(gnopt("evaluate", "run", "--checkpoint", "latest", "--json").out)
    last = rows(trained / "run/eval.csv")[-1]
    assert found["splits"]["train"]["objective"] == float(last["train_loss"])
    assert found["splits"]["validation"]["error"] == float(last["validation_error"])
    assert found["splits"]["train"]["rows"] == 54
    assert found["step"] == 12
    only = json.loads(gnopt("evaluate", "run", "--split", "validation", "--json").out)
    assert list(only["splits"]) == ["validation"]
    table = gnopt("evaluate", "run/checkpoints/step-000009.h5", "--split", "train")
    assert table.code == 0
    assert "step 9" in table.out


def test_evaluate_refuses_what_is_not_there(trained, gnopt):
    for argv in (
        ["absent"],
        ["run", "--checkpoint", "5"],
        ["run", "--split", "test"],
        ["run", "--data", "no.h5"],
    ):
        result = gnopt("evaluate", *argv)
        assert result.code == 1
        assert result.out == ""
        assert "Traceback" not in result.err
    assert gnopt("evaluate", "run", "--checkpoint", "first").code == 2
    assert gnopt("evaluate", "run", "--split", "some").code == 2
    with h5py.File("narrow.h5", "w") as file:
        file["x"] = np.zeros((3, 5))
    assert gnopt("evaluate", "run", "--data", "narrow.h5").code == 1


def test_predict_outputs_and_code(trained, gnopt):
    with h5py.File("tiny.h5") as file:
        x, y = file["x"][()] / 255, file["y"][()]
    assert gnopt("predict", "run", "tiny.h5", "out.h5").code == 0
    h = outputs(handed_out(), x.astype(np.float32))
    with h5py.File("out.h5") as file:
        np.testing.assert_allclose(file["x"][()], 1 / (1 + np.exp(-h)), rtol=1e-4, atol=1e-6)
        assert (file["y"][()] == y).all()
    shapes = {}
    for layer in ("logits", "code", "1", "2", "3", "4"):
        argv = ["predict", "run", "tiny.h5", "out.h5", "--layer", layer, "--overwrite", "--json"]
        found = json.loads(gnopt(*argv).out)
        shapes[layer] = found["datasets"]["/x"]
    assert shapes == {
        "logits": [60, 12],
        "code": [60, 3],
        "1": [60, 8],
        "2": [60, 3],
        "3": [60, 8],
        "4": [60, 12],
    }
    again = gnopt(
        "train",
        "tiny.toml",
        "--data",
        "out.h5",
        "--out",
        "on-codes",
        "--max-updates",
        1,
        "--set",
        "network.loss=squared_error",
    )
    assert again.code == 0, again.err
    onto = gnopt("predict", "run", "tiny.h5", "tiny.h5")
    assert onto.code == 2
    assert "tiny.h5" in onto.err
    for layer in ("0", "5", "x"):
        result = gnopt("predict", "run", "tiny.h5", "other.h5", "--layer", layer)
        assert result.code == 2
        assert "--layer" in result.err
        assert not (trained / "other.h5").exists()


def test_predict_keeps_groups_and_the_statistics_of_training(tiny, gnopt):
    gnopt(
        "train",
        "tiny.toml",
        "--out",
        "run",
        "--set",
        "data.standardize=true",
        "--set",
        "network.loss=squared_error",
    )
    with h5py.File("tiny.h5") as file, h5py.File("groups.h5", "w") as out:
        x = file["x"][()] / 255
        out["train/x"], out["validation/x"], out["test/x"] = x[:5], x[5:9], x[9:10]
    assert gnopt("predict", "run", "tiny.h5", "all.h5").code == 0
    assert gnopt("predict", "run", "groups.h5", "parts.h5").code == 0
    with h5py.File("all.h5") as one, h5py.File("parts.h5") as parts:
        joined = np.concatenate(
            [parts[f"{name}/x"][()] for name in ("train", "validation", "test")]
        )
        np.testing.assert_allclose(joined, one["x"][:10], rtol=1e-4, atol=1e-5)


def test_every_export_format_holds_the_weights(trained, gnopt):
    for name in formats():
        assert gnopt("export", "run", f"w{name}").code == 0
        assert name in gnopt("export", "--help").out or name == ".hdf5"
    checkpoint = handed_out()
    with h5py.File(checkpoint) as run, h5py.File("w.h5") as file, np.load("w.npz") as arrays:
        assert "state" not in file
        for layer in "1234":
            for part in ("weight", "bias"):
                expected = run[f"network/layers/{layer}/{part}"][()]
                assert (file[f"network/layers/{layer}/{part}"][()] == expected).all()
                assert (arrays[f"{part}_{layer}"] == expected).all()
        assert list(arrays["activations"]) == ["tanh", "identity", "tanh", "identity"]
    assert (
        gnopt("train", "tiny.toml", "--out", "from", "--init-from", "w.h5", "--max-updates", 0).code
        == 0
    )
    wrong = gnopt("export", "run", "w.pt")
    assert wrong.code == 2
    assert ".onnx" in wrong.err
    assert gnopt("export", "run", "absent/w.h5").code == 1


PLUG_INS = """
from gnopt.engine.activations import Activation
from gnopt.engine.losses.squared_error import SquaredError


def f(ops, h, out):
    return ops.xp.multiply(h, 2.0, out=out)


def df(ops, h, a, out):
    out.fill(2.0)
    return out


def d2f(ops, h, a):
    return ops.xp.zeros_like(h)


def twice(graph, h, a):
    graph.node("Add", [h, h], a)


def by_shape(ops, h, out):
    return f(ops, h.reshape(h.shape), out)


TWICE = Activation("twice", "2 h", by_shape, df, d2f)
SHOWN = Activation("shown", "2 h", f, df, d2f, onnx=twice)


class Shown(SquaredError):
    def onnx(self, graph, logits, output):
        graph.node("Identity", [logits], output)
"""


def test_networks_with_plug_ins_are_exported_from_any_folder(tiny, gnopt, monkeypatch):
    (tiny / "mine.py").write_text(PLUG_INS)
    (tiny / "elsewhere").mkdir()
    for name in ("SHOWN", "TWICE"):
        sets = ["--set", f"network.activation=mine:{name}", "--set", "network.loss=mine:Shown"]
        done = gnopt("train", "tiny.toml", "--out", name, "--max-updates", 0, *sets)
        assert done.code == 0, done.err
    monkeypatch.chdir(tiny / "elsewhere")
    done = gnopt("export", "../SHOWN", "w.onnx", "--allow-plugins")
    assert done.code == 0, done.err
    model = (tiny / "elsewhere" / "w.onnx").read_bytes()
    assert b"Add a_1" in model
    assert b"Identity output" in model
    assert gnopt("export", "../TWICE", "w.npz").code == 0
    refused = gnopt("export", "../TWICE", "twice.onnx", "--allow-plugins")
    assert refused.code == 1
    assert "'mine:TWICE' has no ONNX form" in refused.err


def test_list_is_the_registry(gnopt):
    found = json.loads(gnopt("list", "--json").out)
    assert set(found["methods"]) == set(optimizers.methods())
    assert {"tanh", "relu"} <= set(found["activations"])
    assert "glorot" in found["initialisers"]
    plain = gnopt("list").out
    assert all(name in plain for part in found.values() for name in part)


def test_config_show_is_toml_with_sources(tiny, gnopt):
    result = gnopt("config", "show", "tiny.toml", "--seed", 4, "--set", "training.updates=2")
    text = result.out
    assert "seed = 4" in text
    assert "# --seed" in text
    assert "# --set" in text
    assert "# default" in text
    assert "# tiny.toml" in text
    assert tomllib.loads(text)["training"]["updates"] == 2
    found = json.loads(gnopt("config", "show", "tiny.toml", "--json").out)
    assert found["training.seed"] == {"value": 0, "source": "default"}


def test_config_check_names_every_problem(tiny, gnopt):
    good = gnopt("config", "check", "tiny.toml")
    assert good.code == 0
    assert "12-8-3-8-12" in good.out
    bad = gnopt(
        "config", "check", "tiny.toml", "--set", "training.sede=3", "--set", "network.lose=1"
    )
    assert bad.code == 2
    assert bad.out == ""
    assert "training.sede" in bad.err
    assert "network.lose" in bad.err
    assert gnopt("config", "check", "tiny.toml", "--data", "absent.h5").code == 1


@pytest.mark.parametrize("method", optimizers.methods())
def test_config_keys_tells_every_option(gnopt, method):
    text = gnopt("config", "keys", "--method", method).out
    assert all(f"  {o.name}: " in text for o in optimizers.options_of(method))
    found = json.loads(gnopt("config", "keys", "--json").out)
    assert set(found[f"optimizer ({method})"]) == {o.name for o in optimizers.options_of(method)}
    assert found["training"]["batch_size"]["default"] == 1000


def test_wrong_usage_ends_with_code_2(process, gnopt):
    for argv, code in (
        (["--help"], 0),
        ([], 0),
        (["--version"], 0),
        (["tran"], 2),
        (["train"], 2),
        (["train", "--sede"], 2),
        (["train", "absent.toml"], 2),
        (["config"], 2),
    ):
        result = gnopt(*argv)
        assert result.code == code, argv
        assert "Traceback" not in result.err, argv
    assert "did you mean 'train'" in gnopt("tran").err
    assert process("--version").out.startswith("gnopt, version")


def test_double_verbose_shows_the_traceback(tiny, gnopt):
    assert "Traceback" not in gnopt("train", "absent.toml", "-v").err
    assert "Traceback" in gnopt("train", "absent.toml", "-vv").err
    assert "Traceback" in gnopt("-vv", "train", "absent.toml").err


def test_unexpected_errors_are_one_line(tiny, gnopt, monkeypatch):
    from gnopt.training import start

    for error, text in (
        (ZeroDivisionError("odd"), "internal error"),
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "f"), "f: No space left on device"),
    ):

        def fail(*args, error=error):
            raise error

        monkeypatch.setattr(start, "begin", fail)
        result = gnopt("train", "tiny.toml")
        assert result.code == 1
        assert text in result.err
        assert result.err.count("\n") == 1


def test_a_closed_pipe_is_no_error(tiny):
    command = f"{shlex.quote(sys.executable)} -m gnopt config keys | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[data]")


def loaded_by(*argv):
    """The modules that a command loads, and how many there are."""
    code = (
        "import sys; from gnopt.cli import main\n"
        f"try: main({list(argv)!r})\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["train", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(argv):
    loaded = loaded_by(*argv)
    assert not {"numpy", "scipy", "h5py", "rich", "tqdm", "matplotlib"} & loaded
    own = {name for name in loaded if name.startswith("gnopt")}
    # The package, its version, errors and notes, the group, its streams and their end, where
    # plug-ins may lie, and what declares the options of one command.
    assert len(own) <= 10, own


def test_listing_needs_no_data_and_no_gpu():
    loaded = loaded_by("list")
    assert "numpy" in loaded
    assert not {"h5py", "cupy", "matplotlib", "rich"} & loaded
