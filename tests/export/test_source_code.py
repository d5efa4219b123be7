"""Exported C and Fortran, compiled once a language, computes what the package computes."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from library import COMPILERS, Library
from nets import alone, ensemble, logits, network, predictions, rows

from gnopt.data.classes import Classes
from gnopt.engine.activations import all_activations
from gnopt.engine.arrays.trace import ARGUMENTS
from gnopt.engine.losses import all_losses
from gnopt.errors import GnoptError
from gnopt.export import export
from gnopt.export.source import identifier
from gnopt.training.content import Content

ACTIVATIONS = list(all_activations())
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 1e-5}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


def contents() -> dict[str, Content]:
    """What is compiled, by the name of the file: few networks that use everything."""
    losses = {
        f"{loss}_{inputs}": alone(network(["tanh"], loss, inputs=inputs))
        for loss, inputs in itertools.product(all_losses(), (2, 5))  # J by columns, and by rows
    }
    every = {f"all_{dtype}": alone(network(ACTIVATIONS, "poisson", dtype)) for dtype in DTYPES}
    of_operations = [network([f"operations:of_{name}"], "squared_error") for name in ARGUMENTS]
    members = [network(["silu", "relu"], "binary_cross_entropy", seed=s) for s in range(3)]
    return {
        **losses,
        **every,
        "operations": ensemble(*of_operations, network(["operations:long"], "squared_error")),
        "mean": ensemble(replace(members[0], statistics=None), *members[1:]),
        "mean_by_columns": ensemble(
            *(network(["gelu"], "squared_error", inputs=2, noise=True, seed=s) for s in range(2))
        ),
        "noisy": alone(network(["tanh"], "squared_error", noise=True)),
        "one_layer": alone(network([], "squared_error", "float32", inputs=1, statistics=False)),
        "wide": alone(network(["tanh"], "squared_error", inputs=1100)),
    }


CONTENTS = contents()


@pytest.fixture(scope="module", params=COMPILERS)
def library(request, tmp_path_factory) -> Library:
    return Library(request.param, tmp_path_factory.mktemp("library"), CONTENTS)


def mean(content: Content, x: np.ndarray) -> np.ndarray:
    return np.mean(list(predictions(content, x).values()), axis=0)


@pytest.mark.parametrize("name", CONTENTS)
def test_the_code_predicts_what_gnopt_predicts(library, name):
    content = CONTENTS[name]
    x = rows(content)
    expected = mean(content, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(library.predict(name, x), expected, **TOLERANCE[str(content.dtype)])


def in_double(content: Content) -> Content:
    """The same networks with weights of double precision, whose differences have more digits."""
    networks = {
        number: replace(one, weights=[w.astype(np.float64) for w in one.weights])
        for number, one in content.networks.items()
    }
    return Content(content.title, networks)


def differences(content: Content, x: np.ndarray) -> np.ndarray:
    """The derivatives of the mean prediction, (rows, K, D), by differences of the fourth order."""
    columns = []
    for direction in np.eye(content.inputs) * 1e-3:
        up, down, far_up, far_down = (
            mean(content, x + k * direction) for k in (1.0, -1.0, 2.0, -2.0)
        )
        columns.append((8.0 * (up - down) - (far_up - far_down)) / 12e-3)
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("name", [name for name in CONTENTS if name not in ("operations", "wide")])
def test_the_code_differentiates_what_it_predicts(library, name):
    content = in_double(CONTENTS[name])
    x = np.random.default_rng(2).standard_normal((3, content.inputs))
    found = library.jacobian(name, x)
    assert np.abs(found).max() > 1e-4
    np.testing.assert_allclose(found, differences(content, x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["mean", "mean_by_columns", "noisy"])
def test_the_code_tells_the_deviation(library, name):
    content = CONTENTS[name]
    x = rows(content)
    made = list(predictions(content, x).values())
    variance = np.var(made, axis=0) + (0.0 if content.noise is None else content.noise)
    found = library.deviation(name, x)
    np.testing.assert_allclose(found[:, 0], np.mean(made, axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[:, 1], np.sqrt(variance), rtol=1e-12)


def test_predictions_far_out_are_finite(library):
    """Where exponentials of the outputs overflow."""
    for name in ("softmax_cross_entropy_5", "binary_mixture_5", "binary_cross_entropy_5"):
        content = CONTENTS[name]
        x = np.full((1, content.inputs), 1e6)
        last = content.first.weights[-1]
        assert np.abs(logits(content.first, x)).max() > 0.1
        np.testing.assert_allclose(library.predict(name, x), mean(content, x), rtol=1e-12)
        assert np.isfinite(library.jacobian(name, x)).all()
        assert np.isfinite(last).all()


def test_the_program_filters_rows(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    content = alone(network(["tanh"], "softmax_cross_entropy", "float32"))
    export(content, tmp_path / "3 classes.c")
    text = (tmp_path / "3 classes.c").read_text()
    (command,) = [line for line in text.splitlines() if line.startswith(" * A filter: ")]
    flag = next(word for word in command.split() if word.startswith("-D"))
    assert flag == "-Dnet_3_classes_MAIN"
    build = [
        "gcc",
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        flag,
        "3 classes.c",
        "-lm",
        "-ofilter",
    ]
    subprocess.run(build, cwd=tmp_path, check=True)

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tmp_path / "filter"], input=text, text=True, capture_output=True, check=False
        )

    x = rows(content)
    lines = [
        separator.join(map(repr, row.tolist()))
        for row, separator in zip(x, " ,;\t, ,", strict=True)
    ]
    done = run("\n".join(lines) + "\r\n\n")
    made = np.array([line.split(",") for line in done.stdout.splitlines()], dtype=float)
    np.testing.assert_allclose(made, mean(content, x), **TOLERANCE["float32"])
    assert done.returncode == 0
    assert "row 2: 3 numbers, expected 4" in run("1 2 3 4\n1,2,3\n").stderr
    assert "row 1: 5 numbers, expected 4" in run("1 2 3 4 5").stderr
    assert "row 1, column 2: not a number" in run("1,length,3,4\n").stderr
    assert run("1 2").returncode == 1


PLUG_INS = """
from gnopt.engine.activations import Activation
from gnopt.engine.losses import Loss

def _f(ops, h, out):
    out[...] = h - h.mean()
    return out

shapely = Activation("shapely", "not element-wise", _f, _f, None)

class Curved(Loss):
    def prediction(self, ops, h):
        return ops.xp.exp(h)
"""


@pytest.mark.parametrize(("suffix", "language"), [(".c", "C"), (".f90", "Fortran")])
def test_what_cannot_be_written_is_refused_in_words(mine, tmp_path, suffix, language):
    mine(PLUG_INS)
    out = tmp_path / f"net{suffix}"
    with pytest.raises(GnoptError, match=rf"'mine:shapely' cannot be written in {language}.*npz"):
        export(alone(network(["mine:shapely"], "squared_error")), out)
    with pytest.raises(GnoptError, match=r"'mine:Curved' cannot.*prediction_slope.*plug-ins\.md"):
        export(alone(network([], "mine:Curved")), out)
    broken = network([], "squared_error")
    broken.weights[0][0, 0] = np.nan
    with pytest.raises(GnoptError, match=r"net\S+: the network holds numbers that are not finite"):
        export(alone(broken), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("net", "net"),
        ("Net-2", "Net_2"),
        ("3 classes", "net_3_classes"),
        ("--", "net"),
        ("ü", "net"),
    ],
)
def test_the_name_of_a_file_becomes_an_identifier(stem, name):
    assert identifier(stem) == name


def test_names_stand_in_the_comment(tmp_path):
    numbers, two = ("squared_error", 2), ("binary_cross_entropy", 1)
    for (loss, outputs), told in (
        (numbers, "y: 2 means of height, weight."),
        (two, "y: the probability of the second one of the classes height, weight."),
    ):
        one = network([], loss, outputs=outputs)
        named = replace(one, classes=Classes(("height", "weight")))
        export(alone(named), tmp_path / "net.c")
        assert told in (tmp_path / "net.c").read_text()


def test_the_comment_at_the_top_tells_what_the_file_is(tmp_path):
    content = Content(
        "3-5-1 */ at step 9, from runs/ä\u202e", ensemble(network([], "squared_error")).networks
    )
    for name in ("predict.c", "predict.f90"):
        export(content, tmp_path / name)
        top = (tmp_path / name).read_text(encoding="utf-8").split("module predict_net\n")[0]
        assert "at step 9, from runs/ä?" in top
        assert "loss squared_error; float64" in top
        assert "y: 3 means of what is predicted." in top
        assert f"-c {name}" in top
        assert top.count("*/") == (name == "predict.c") * top.count("/*")
