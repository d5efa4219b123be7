"""`gnopt inspect-curvature` from the command line, plug-ins of docs/plug-ins.md included."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import CONFIG

sys.path.append(str(Path(__file__).parents[1] / "inspection"))
from plug_in_tools import code, write_examples

KEEP = ["--set", "training.keep_checkpoints=9"]


@pytest.fixture
def trained(tiny, gnopt):
    """The tiny problem with a run of it that keeps its checkpoints 0, 3, 6, 9, 12."""
    assert gnopt("train", "tiny.toml", "--out", "run", *KEEP).code == 0
    return tiny


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


# ---- export --------------------------------------------------------------------------------------


def test_export_in_float64_from_a_checkpoint_in_float32(trained, gnopt):
    result = gnopt(
        "inspect-curvature",
        "tiny.toml",
        "--init-from",
        "run/checkpoints/step-000006.h5",
        "--samples",
        7,
        "--curvature",
        "hessian,gauss_newton,kflr,kfra,kfac",
        "--dtype",
        "float64",
        "--export",
        "F.h5",
        "--set",
        "data.split=end",
    )
    assert result.code == 0, result.err
    with (
        h5py.File("F.h5") as file,
        h5py.File("tiny.h5") as data,
        h5py.File("run/checkpoints/step-000006.h5") as saved,
    ):
        np.testing.assert_allclose(file["x"], data["x"][:7] / 255, rtol=1e-15)
        np.testing.assert_array_equal(file["y"], file["x"])
        assert sorted(file["layers"]) == ["1", "2", "3", "4"]
        for l, (o, i) in enumerate([(8, 12), (3, 8), (8, 3), (12, 8)], start=1):
            here = file[f"layers/{l}"]
            shapes = {
                name: item.shape for name, item in here.items() if isinstance(item, h5py.Dataset)
            }
            size = o * (i + 1)
            assert shapes == {
                "weight": (o, i),
                "bias": (o,),
                "gradient": (o, i + 1),
                "A": (i + 1, i + 1),
                "hessian": (size, size),
                "gauss_newton": (size, size),
            }
            assert {name: G.shape for name, G in here["G"].items()} == dict.fromkeys(
                ("exact", "kflr", "kfra", "kfac"), (o, o)
            )
            np.testing.assert_array_equal(
                here["weight"], saved[f"network/layers/{l}/weight"][()].astype(float)
            )
            assert here["A"][-1, -1] == 1.0
        assert all(
            item.dtype == np.float64 for item in here.values() if isinstance(item, h5py.Dataset)
        )


def test_export_of_a_run_is_the_same(trained, gnopt):
    for name, argv in (
        ("a.h5", ["run", "--checkpoints", 6]),
        ("b.h5", ["run/checkpoints/step-000006.h5"]),
        ("c.h5", ["tiny.toml", "--init-from", "run/checkpoints/step-000006.h5"]),
    ):
        result = gnopt("inspect-curvature", *argv, "--samples", 5, "--no-summary", "--export", name)
        assert result.code == 0, result.err
    with h5py.File("a.h5") as a, h5py.File("b.h5") as b, h5py.File("c.h5") as c:
        for l in "1234":
            for name in ("A", "gradient", "G/kfac", "G/kfra"):
                np.testing.assert_array_equal(a[f"layers/{l}/{name}"], b[f"layers/{l}/{name}"])
                np.testing.assert_array_equal(a[f"layers/{l}/{name}"], c[f"layers/{l}/{name}"])
    assert "hessian" not in h5py.File("a.h5")["layers/1"]


def test_standardised_inputs_are_exported_as_the_network_sees_them(tiny, gnopt):
    sets = ["--set", "data.standardize=true", "--set", "network.loss=squared_error"]
    assert gnopt("train", "tiny.toml", "--out", "run", *sets).code == 0
    assert (
        gnopt("inspect-curvature", "run", "--samples", 54, "--no-summary", "--export", "e.h5").code
        == 0
    )
    with h5py.File("e.h5") as file:
        assert np.abs(file["x"][()].mean(axis=0)).max() < 1e-5


def test_labels_are_exported_as_they_are(tiny, gnopt):
    argv = [
        "--set",
        "data.targets=y",
        "--set",
        "network.loss=softmax_cross_entropy",
        "--set",
        "data.split=end",
        "--samples",
        9,
    ]
    assert (
        gnopt(
            "inspect-curvature", "tiny.toml", *argv, "--export", "e.h5", "--curvature", "all"
        ).code
        == 0
    )
    with h5py.File("e.h5") as file, h5py.File("tiny.h5") as data:
        np.testing.assert_array_equal(file["y"], data["y"][:9])


# ---- summary, tables, JSON -----------------------------------------------------------------------


def test_summary_on_stdout_and_as_tables(trained, gnopt):
    result = gnopt(
        "inspect-curvature",
        "run",
        "--out",
        "o",
        "--csv",
        "s.csv",
        "--curvature",
        "all",
        "--layers",
        "1,3",
    )
    assert result.code == 0, result.err
    for word in (
        "Input factors",
        "kfra",
        "distance",
        "rank of the exact",
        "block Hessians indefinite",
        "smallest",
    ):
        assert word in result.out
    rows = table("s.csv")
    assert rows == table("o/layers.csv")
    assert {row["layer"] for row in rows} == {"1", "3"}
    by_method = {row["method"]: row for row in rows if row["layer"] == "1"}
    assert {
        "hessian",
        "gauss_newton",
        "exact",
        "kflr",
        "kfra",
        "kfac",
        "ekfac",
        "diagonal_gn",
    } <= set(by_method)
    kflr, exact = by_method["kflr"], by_method["gauss_newton"]
    assert kflr["A_dim"] == "13"
    assert kflr["G_dim"] == "8"
    assert float(kflr["distance"]) < 0.5
    assert float(by_method["exact"]["trace"]) == pytest.approx(float(kflr["trace"]), rel=1e-4)
    assert float(exact["eig_min"]) > -1e-4
    assert float(by_method["hessian"]["eig_min"]) < 0.0
    assert float(kflr["damped_min"]) > 0.0
    assert float(kflr["pi"]) > 0.0
    assert {row["method"] for row in table("o/methods.csv")} >= {"kflr", "kfra", "kfac"}
    values = [
        float(row["eigenvalue"])
        for row in table("o/spectra.csv")
        if row["layer"] == "3" and row["factor"] == "A"
    ]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    pictures = {path.name for path in (trained / "o/figures").iterdir()}
    assert pictures == {"spectrum-layer-1.png", "spectrum-layer-3.png"}


def test_json_is_all_that_is_on_stdout(trained, gnopt):
    result = gnopt(
        "inspect-curvature", "run", "--json", "-q", "--alignment", "--density", "--samples", 20
    )
    found = json.loads(result.out)
    assert result.code == 0
    assert result.err == ""
    assert found["rows"] == 20
    assert found["sizes"] == [12, 8, 3, 8, 12]
    assert len(found["checkpoints"]) == 1
    assert found["checkpoints"][0]["theorem"]["definite"] is False
    assert found["checkpoints"][0]["rank"]["whole"] <= found["checkpoints"][0]["rank"]["bound"]
    assert found["density"]["hessian"]["exact"]
    assert found["density"]["gauss_newton"]["eig_min"] > -1e-4
    assert {a["layer"] for a in found["alignment"]} == {"all", 1, 2, 3, 4}


def test_the_theorem_is_shown(tiny, gnopt):
    result = gnopt(
        "inspect-curvature", "tiny.toml", "--set", 'network.activation="relu"', "--dtype", "float64"
    )
    assert (
        "block Hessians positive semi-definite at all 54 data points (piecewise-linear"
        in result.out
    )


def test_two_inspections_write_the_same_tables(tiny, gnopt):
    for name in ("a", "b"):
        assert (
            gnopt("inspect-curvature", "tiny.toml", "--csv", f"{name}.csv", "--alignment").code == 0
        )
    assert (tiny / "a.csv").read_text() == (tiny / "b.csv").read_text()
    assert (tiny / "a-alignment.csv").read_text() == (tiny / "b-alignment.csv").read_text()


# ---- alignment along a run, figures --------------------------------------------------------------


def test_alignment_along_checkpoints_of_several_runs(trained, gnopt):
    pytest.importorskip("matplotlib")
    assert gnopt("train", "tiny.toml", "--out", "other", "--seed", 1, *KEEP).code == 0
    result = gnopt(
        "inspect-curvature",
        "run",
        "other",
        "--alignment",
        "--no-summary",
        "--checkpoints",
        "all",
        "--curvature",
        "kfra,kfac",
        "--damping",
        "0.1,1",
        "--csv",
        "a.csv",
        "--figures",
        "f",
    )
    assert result.code == 0, result.err
    rows = table("a.csv")
    assert {row["run"] for row in rows} == {"run", "other"}
    assert {row["step"] for row in rows} == set("0369") | {"12"}
    assert len(rows) == 2 * 5 * 2 * 3 * 5
    assert all(-1.0 <= float(row["cosine"]) <= 1.0 for row in rows)
    assert (trained / "f/alignment.png").stat().st_size > 10_000
    result = gnopt(
        "inspect-curvature",
        "run",
        "--alignment",
        "--no-summary",
        "--checkpoints",
        "3,12",
        "--csv",
        "b.csv",
    )
    assert {row["step"] for row in table("b.csv")} == {"3", "12"}


def test_every_figure_is_drawn_into_the_inspection_folder(tiny, gnopt):
    pytest.importorskip("matplotlib")
    result = gnopt(
        "inspect-curvature",
        "tiny.toml",
        "--surface",
        "--density",
        "--alignment",
        "--layers",
        "1,4",
        "--samples",
        10,
    )
    assert result.code == 0, result.err
    pictures = {path.name for path in (tiny / "inspection/tiny").iterdir()}
    assert pictures == {
        "spectrum-layer-1.png",
        "spectrum-layer-4.png",
        "alignment.png",
        "density.png",
        "surface-contour.png",
        "surface-3d.png",
    }
    assert all(str(Path("inspection/tiny") / name) in result.out for name in pictures)


# ---- plug-ins, self-test -------------------------------------------------------------------------


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """The examples of the page with data that has outliers."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        code_ = rng.standard_normal((300, 3))
        file["x"] = np.tanh(code_ @ rng.standard_normal((3, 10))) + 0.1 * rng.standard_t(
            2, (300, 10)
        )
    write_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("method", ["kfra", "kflr", "gauss_newton", "kfac"])
def test_a_plug_in_is_trained(plug_in, gnopt, method):
    sets = [
        "--set",
        f"optimizer.method={method}",
        "--max-updates",
        40,
        "--set",
        "training.evaluate_every=10",
    ]
    result = gnopt("train", "config.toml", "--out", "run", *sets)
    assert result.code == 0, result.err
    losses = [float(row["train_loss"]) for row in table("run/eval.csv")]
    assert losses[-1] < 0.5 * losses[0]
    assert np.isfinite(losses).all()
    allowed = ["run", "--allow-plugins"]
    assert gnopt("evaluate", *allowed).code == 0
    aligned = gnopt("inspect-curvature", *allowed, "--alignment", "--curvature", "kfra,kflr")
    assert aligned.code == 0, aligned.err


def test_a_plug_in_is_checked(plug_in, gnopt):
    result = gnopt("inspect-curvature", "config.toml", "--allow-plugins", "--check")
    assert result.code == 0, result.out
    assert "checks passed" in result.out
    assert "activation softsign" in result.out
    assert "FAIL" not in result.out
    result = gnopt("inspect-curvature", "config.toml", "--allow-plugins", "--check", "--json")
    assert json.loads(result.out)["passed"] is True


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        (
            "return (self.nu + 1.0) * r / (self.nu + r * r)",
            "return (self.nu + 1.0) * r / (self.nu + r)",
            "gradient = dE/dh",
        ),
        (
            "return (self.nu + 1.0) / (self.nu + r * r)",
            "return 2.0 / (self.nu + r * r)",
            "gn_matrix against the Hessian",
        ),
    ],
)
def test_a_wrong_plug_in_is_caught(plug_in, gnopt, right, wrong, check):
    text = code("student_t.py")
    assert right in text
    name = f"wrong_{abs(hash(wrong)) % 1000}"
    (plug_in / f"{name}.py").write_text(text.replace(right, wrong))
    result = gnopt(
        "inspect-curvature",
        "config.toml",
        "--allow-plugins",
        "--check",
        "--set",
        f"network.loss={name}:StudentT",
    )
    assert result.code == 1
    assert "FAIL" in result.out
    assert check in result.err
    assert "Traceback" not in result.err
    result = gnopt(
        "inspect-curvature",
        "config.toml",
        "--allow-plugins",
        "--check",
        "--json",
        "--set",
        f"network.loss={name}:StudentT",
    )
    assert result.code == 1
    assert check in [v["check"] for v in json.loads(result.out)["checks"] if not v["passed"]]


def test_a_correct_run_passes_the_check(trained, gnopt):
    assert gnopt("inspect-curvature", "run", "--check", "--checkpoints", "best").code == 0


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code_", "words"),
    [
        (["absent.toml"], 2, "no such configuration"),
        (["tiny.toml", "tiny.toml"], 2, "several are for --alignment"),
        (["tiny.toml", "--samples", "999"], 2, "54 training rows"),
        (["tiny.toml", "--curvature", "kfrs"], 2, "did you mean 'kfra'"),
        (["tiny.toml", "--layers", "9"], 2, "layers from 1 to 4"),
        (["tiny.toml", "--checkpoints", "all"], 2, "is a configuration"),
        (["tiny.toml", "--alignment", "--damping", "0"], 2, "--damping '0'"),
        (["tiny.toml", "--check", "--alignment"], 2, "stands alone"),
        (["tiny.toml", "--no-summary"], 2, "nothing else"),
        (["run", "--export", "x.h5", "--checkpoints", "all"], 2, "one checkpoint"),
        (["run", "--checkpoints", "77"], 1, "no checkpoint '77'"),
        (["tiny.toml", "--init-from", "absent.h5"], 1, "no such checkpoint"),
        (
            [
                "tiny.toml",
                "--set",
                "network.hidden=[4]",
                "--set",
                'network.activation="tanh"',
                "--init-from",
                "run/checkpoints/step-000003.h5",
            ],
            1,
            "layers",
        ),
    ],
)
def test_errors_are_short_and_have_their_code(trained, gnopt, argv, code_, words):
    result = gnopt("inspect-curvature", *argv)
    assert result.code == code_, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_blocks_that_do_not_fit_are_refused_with_a_remedy(tiny, gnopt):
    (tiny / "wide.toml").write_text(CONFIG.replace("hidden = [8, 3, 8]", "hidden = [30000, 3, 8]"))
    result = gnopt(
        "inspect-curvature",
        "wide.toml",
        "--curvature",
        "hessian",
        "--export",
        "e.h5",
        "--samples",
        5,
    )
    assert result.code == 1
    assert "bytes" in result.err
    assert "--layers" in result.err
    assert not Path("e.h5").exists()
