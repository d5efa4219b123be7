"""Weights of rows and classes on the command line."""

import json

import h5py
import numpy as np
import pytest
from cli_tools import rows, same_runs

from gnopt.optimizers import methods

# These draw random numbers for rows, so that two data sets of other rows cannot be compared.
RANDOM = {"kfac", "ekfac", "diagonal_gn"}
CONFIG = """
[data]
file = "w.h5"
targets = "y"
weights = "w"
validation = "held"
[network]
hidden = [6, 5]
loss = "softmax_cross_entropy"
[optimizer]
method = "kfra"
weight_decay = 1e-6
[training]
batch_size = 1000
updates = 8
checkpoint_every = 3
dtype = "float64"
class_weights = "balanced"
patience = 0
evaluate_rows = 0
evaluate_share = 0
"""


@pytest.fixture
def weighted(tmp_path, monkeypatch):
    """w.h5 with weights of rows, and r.h5 with each row as many times; w.toml and r.toml."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "w.h5", "w") as one, h5py.File(tmp_path / "r.h5", "w") as many:
        for group, count in (("train", 60), ("held", 25)):
            x = rng.standard_normal((count, 4))
            y = (x[:, 0] + 0.7 * rng.standard_normal(count) > 1.0).astype(int)
            w = rng.integers(0, 4, count)
            one[f"{group}/x"], one[f"{group}/y"], one[f"{group}/w"] = x, y, w
            index = np.repeat(np.arange(count), w)
            many[f"{group}/x"], many[f"{group}/y"] = x[index], y[index]
    (tmp_path / "w.toml").write_text(CONFIG)
    (tmp_path / "r.toml").write_text(
        CONFIG.replace("w.h5", "r.h5").replace('weights = "w"\n', "", 1)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(path):
    """A log without the columns that count rows."""
    kept = []
    for row in rows(path):
        values = {k: float(v) for k, v in row.items() if v and k not in ("batch", "examples")}
        kept.append(values)
    return kept


def alike(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", [m for m in methods() if m not in RANDOM])
def test_a_run_with_weights_is_the_run_with_repeated_rows(weighted, gnopt, method):
    few = ["--set", "optimizer.iterations=5"] if "preconditioner" in options(method) else []
    for name in "wr":
        argv = ["train", f"{name}.toml", "--out", name, "--set", f"optimizer.method={method}"]
        result = gnopt(*argv, *few)
        assert result.code == 0, result.err
    for log in ("steps.csv", "eval.csv"):
        alike(numbers(weighted / "w" / log), numbers(weighted / "r" / log))


def options(method):
    from gnopt.optimizers import options_of

    return {option.name for option in options_of(method)}


def test_evaluate_counts_rows_in_objective_and_metrics(weighted, gnopt):
    found = {}
    for name in "wr":
        assert gnopt("train", f"{name}.toml", "--out", name).code == 0
        found[name] = json.loads(gnopt("evaluate", name, "--checkpoint", "latest", "--json").out)
        logged = rows(weighted / name / "eval.csv")[-1]
        result = found[name]["splits"]
        assert result["train"]["objective"] == pytest.approx(float(logged["train_loss"]))
        assert result["validation"]["error"] == pytest.approx(float(logged["validation_error"]))
    for split in ("train", "validation"):
        one, many = (found[name]["splits"][split] for name in "wr")
        assert one["metrics"] == pytest.approx(many["metrics"], rel=1e-6)
        for key in ("objective", "error", "floor", "constant"):
            assert one[key] == pytest.approx(many[key], rel=1e-6)
        assert one["tables"]["confusion"] == many["tables"]["confusion"]


def test_matrices_of_the_weighted_objective(weighted, gnopt):
    for name in "wr":
        assert gnopt("train", f"{name}.toml", "--out", name).code == 0
        argv = ["inspect-curvature", name, "--out", f"{name}-curvature", "--export", f"{name}e.h5"]
        kinds = "hessian,gauss_newton,exact,kflr,kfra,empirical_fisher"
        result = gnopt(*argv, "--curvature", kinds, "--init-from", "w/checkpoints/step-000006.h5")
        assert result.code == 0, result.err
    with h5py.File("we.h5") as one, h5py.File("re.h5") as many:
        assert one.attrs["objective"] == pytest.approx(many.attrs["objective"], rel=1e-10)
        assert one["w"][:].mean() == pytest.approx(1.0)
        found = []
        one["layers"].visititems(lambda n, d: found.append(n) if hasattr(d, "shape") else None)
        assert {"1/A", "3/G/kfra", "2/hessian", "1/gauss_newton", "2/gradient"} <= set(found)
        for name in found:
            a, b = one[f"layers/{name}"][:], many[f"layers/{name}"][:]
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())


def test_the_check_of_a_weighted_problem(weighted, gnopt):
    with h5py.File("w.h5", "r+") as file:
        file["train/w"][0] = 0  # the row that is looked at alone
    result = gnopt("inspect-curvature", "w.toml", "--check", "--json")
    assert result.code == 0, result.out + result.err


@pytest.mark.parametrize("method", ["kfra", "ekfac", "adam", "hessian_free"])
def test_resume_equals_uninterrupted(weighted, gnopt, method):
    settings = ["--set", f"optimizer.method={method}", "--set", "training.batch_size=16"]
    assert gnopt("train", "w.toml", "--out", "whole", *settings).code == 0
    assert gnopt("train", "w.toml", "--out", "parts", "--max-updates", 5, *settings).code == 0
    result = gnopt("train", "--out", "parts", "--resume", "--max-updates", 8)
    assert result.code == 0, result.err
    same_runs(weighted / "whole", weighted / "parts")


def test_other_class_weights_do_not_resume(weighted, gnopt):
    assert gnopt("train", "w.toml", "--out", "run", "--max-updates", 2).code == 0
    result = gnopt("train", "--out", "run", "--resume", "--set", "training.class_weights=none")
    assert result.code == 2
    assert "training.class_weights: the run was started with 'balanced'" in result.err


def test_the_log_and_a_dry_run_tell_the_weights(weighted, gnopt):
    assert gnopt("train", "w.toml", "--out", "run").code == 0
    log = (weighted / "run/log.txt").read_text()
    assert "class weights (balanced): " in log
    assert "rows with weight 0: " in log
    dry = json.loads(gnopt("train", "w.toml", "--dry-run", "--json").out)
    assert len(dry["class_weights"]) == 2
    assert dry["notes"][0] in log
    assert dry["notes"][0] in gnopt("train", "w.toml", "--dry-run").out


def test_predict_compare_and_plot_take_weighted_runs(weighted, gnopt):
    assert gnopt("train", "w.toml", "--out", "run").code == 0
    assert gnopt("predict", "run", "r.h5", "p.h5").code == 0  # data without weights
    assert gnopt("plot", "run", "--out", "figures").code == 0
    result = gnopt(
        *("compare", "w.toml", "--methods", "kfra,adam", "--out", "compared", "--budget-updates", 4)
    )
    assert result.code == 0, result.err


ERRORS = [
    (["data.weights=ww"], 1, "no dataset /train/ww"),
    (["training.class_weights=[1, 2, 3]"], 2, "has 3 numbers; expected 2"),
    (["training.class_weights=[1, 0]"], 2, "numbers > 0"),
    (["network.loss=squared_error"], 2, "has no classes"),
    (["data.weights=y", "training.class_weights=none", "data.targets=bad"], 1, "/train/bad"),
]


@pytest.mark.parametrize(("sets", "code", "message"), ERRORS, ids=lambda value: str(value)[:40])
def test_errors(weighted, process, sets, code, message):
    argv = [part for text in sets for part in ("--set", text)]
    result = process("train", "w.toml", "--out", "run", *argv)
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (weighted / "run").exists()


def test_negative_weights_are_refused(weighted, process):
    with h5py.File("w.h5", "r+") as file:
        file["held/w"][3] = -2
    result = process("train", "w.toml", "--out", "run")
    assert result.code == 1
    assert (
        "data.weights: /held/w: row 3 (counted from 0) is -2; expected weights >= 0" in result.err
    )


def test_a_table_with_a_column_of_weights(weighted, process):
    (weighted / "t.csv").write_text(
        "a,b,label,weight\n" + "".join(f"{k},{k % 3},{k % 2},{k % 4}\n" for k in range(20))
    )
    argv = ["t.csv", "--targets", "label", "--weights", "weight", "--out", "t.h5"]
    assert process("dataset", "import", *argv).code == 0
    result = process(
        *("train", "w.toml", "--data", "t.h5", "--set", "data.validation=0", "--out", "run")
    )
    assert result.code == 0, result.err
    assert "rows with weight 0: 5 of train do not count" in result.err
