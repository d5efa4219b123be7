"""`gnopt.fit` and `Model`: the way of the command line, from arrays, data frames and files."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

import gnopt
from gnopt.cli import main
from gnopt.errors import ConfigError, DataError

QUICK = {"hidden": [8], "max_updates": 8, "weight_decay": 1e-3, "evaluate_every": 0}
SETS = [
    part
    for text in ("network.hidden=[8]", "optimizer.weight_decay=1e-3", "training.evaluate_every=0")
    for part in ("--set", text)
]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 3))


@pytest.fixture(scope="module")
def table(x: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(x, columns=["p", "q", "r"]).round(6)
    frame["kind"] = np.where(x[:, 0] > 0, "up", "down")
    frame.loc[::9, "q"] = np.nan
    frame["y"] = (x @ [1.0, 2.0, 3.0]).round(6)
    return frame


@pytest.fixture(scope="module")
def numbers(x: np.ndarray) -> gnopt.Model:
    return gnopt.fit(x, x @ [1.0, 2.0, 3.0], **QUICK)


def command(*argv: object) -> None:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in argv])
    assert not stop.value.code


# ---- the same as the command line ----------------------------------------------------------------


def test_arrays_train_as_an_hdf5_file_does(x, tmp_path):
    y = x @ [1.0, 2.0, 3.0]
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"], file["y"] = x, y
    out = ("--out", tmp_path / "run", "--max-updates", 8, "--seed", 3, "-q")
    command("train", tmp_path / "data.h5", "--target", "y", *SETS, *out)
    command("predict", tmp_path / "run", tmp_path / "data.h5", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        expected = file["x"][:, 0]
    model = gnopt.fit(x, y, **QUICK, seed=3)
    np.testing.assert_array_equal(model.predict(x), expected)
    np.testing.assert_array_equal(gnopt.load(tmp_path / "run").predict(x), expected)


def test_data_frames_train_as_their_csv_does(table, tmp_path):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    out = ("--out", tmp_path / "run", "--max-updates", 8, "-q")
    command("train", path, "--target", "y", *SETS, *out)
    expected = gnopt.load(tmp_path / "run").predict(path)
    from_file = gnopt.fit(path, target="y", **QUICK)
    from_frame = gnopt.fit(table, target="y", **QUICK)
    with_series = gnopt.fit(table.drop(columns="y"), table["y"], **QUICK)
    for model in (from_file, from_frame, with_series):
        np.testing.assert_array_equal(model.predict(table), expected)
        np.testing.assert_array_equal(model.predict(path), expected)
    assert any("network.loss" in note for note in from_frame.notes)
    of_columns = {note for note in from_file.notes if note.startswith(("q:", "kind:"))}
    assert of_columns
    assert of_columns <= set(from_frame.notes)


def test_a_saved_model_is_a_run_of_the_command_line(x, numbers, tmp_path):
    run = numbers.save(tmp_path / "run")
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["x"] = x
    command("predict", run, tmp_path / "new.h5", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["x"][:, 0], numbers.predict(x))
    with pytest.raises(ConfigError, match="not empty"):
        numbers.save(run)
    numbers.save(run, overwrite=True)
    np.testing.assert_array_equal(gnopt.load(run).predict(x), numbers.predict(x))


def test_a_named_run_keeps_its_data_beside_it(x, tmp_path):
    model = gnopt.fit(x, x[:, 0], run=tmp_path / "mine", **QUICK)
    command("evaluate", tmp_path / "mine", "--json")
    assert (tmp_path / "mine.h5").is_file()
    with pytest.raises(ConfigError, match="not empty"):
        gnopt.fit(x, x[:, 0], run=tmp_path / "mine", **QUICK)
    again = gnopt.fit(x, x[:, 0], run=tmp_path / "mine", overwrite=True, **QUICK)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


# ---- models --------------------------------------------------------------------------------------


def test_copies_predict_the_same(x, numbers):
    for model in (pickle.loads(pickle.dumps(numbers)), copy.deepcopy(numbers)):
        np.testing.assert_array_equal(model.predict(x), numbers.predict(x))
        assert model.notes == numbers.notes
    assert repr(numbers) == "<gnopt.Model 3-8-1, squared_error>"
    assert numbers.settings["network.hidden"] == [8]


def test_numbers_have_deviations_and_scores(x, numbers):
    y = x @ [1.0, 2.0, 3.0]
    mean, deviation = numbers.predict(x, return_std=True)
    assert mean.shape == deviation.shape == (60,)
    scores = numbers.evaluate(x, y)
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean((mean - y) ** 2)), rel=1e-5)
    assert numbers.classes_ is None
    with pytest.raises(ConfigError, match="predicts numbers"):
        numbers.predict_proba(x)


@pytest.mark.parametrize(
    "names", [["no", "yes"], ["b", "a", "c"], [False, True], [1, 2, 3], [-1.0, 1.0]], ids=str
)
def test_classes_keep_their_labels_and_type(x, names, tmp_path):
    y = np.array(names)[np.digitize(x[:, 0], [-0.4, 0.4][: len(names) - 1])]
    model = gnopt.fit(x, y, **QUICK)
    assert model.classes_.tolist() == sorted(names)
    assert model.predict(x).dtype == y.dtype
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(x))
    assert model.evaluate(x, y)["accuracy"] == np.mean(model.predict(x) == y)
    loaded = gnopt.load(model.save(tmp_path / "run"))
    assert loaded.classes_.tolist() == sorted(names)


def test_numbers_may_stand_for_named_classes(x):
    model = gnopt.fit(x, (x[:, 0] > 0).astype(int), class_names=["low", "high"], **QUICK)
    assert set(model.predict(x)) == {"low", "high"}
    with pytest.raises(ConfigError, match="return_std"):
        model.predict(x, return_std=True)


def test_ensembles_are_models(x):
    model = gnopt.fit(x, x[:, 0], members=2, **QUICK)
    assert repr(model).startswith("<gnopt.Model 2 members")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict(x, return_std=True), model.predict(x, return_std=True)
    )


def test_autoencoders_rebuild_rows(x):
    assert gnopt.fit(x, target="inputs", **QUICK).predict(x).shape == x.shape


def test_weights_and_groups_go_with_rows(x, table):
    weights = np.linspace(0.5, 2.0, 60)
    plain = gnopt.fit(x, x[:, 0], **QUICK)
    weighted = gnopt.fit(x, x[:, 0], sample_weight=weights, groups=np.arange(60) // 6, **QUICK)
    assert not np.array_equal(plain.predict(x), weighted.predict(x))
    frame = table.assign(w=weights)
    named = gnopt.fit(frame, target="y", weights="w", **QUICK)
    given = gnopt.fit(table, target="y", sample_weight=weights, **QUICK)
    np.testing.assert_array_equal(named.predict(table), given.predict(table))


def test_threads_of_a_program_may_train(x, numbers):
    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(lambda: gnopt.fit(x, x @ [1.0, 2.0, 3.0], **QUICK)).result()
    np.testing.assert_array_equal(model.predict(x), numbers.predict(x))


def test_verbose_tells_on_stderr_and_else_nothing_is_printed(x, capfd):
    gnopt.fit(x, x[:, 0], **QUICK)
    assert capfd.readouterr() == ("", "")
    gnopt.fit(x, x[:, 0], verbose=True, **QUICK)
    out, err = capfd.readouterr()
    assert out == ""
    assert "update 8: training loss" in err


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": [3]}, "hiden: no such setting.*'hidden'"),
        ({"hidden": [3], "network__hidden": [4]}, "both set network.hidden"),
        ({"method": "kfar"}, "did you mean 'kfra'"),
        ({"data__splits": "end"}, "unknown key data.splits"),
    ],
)
def test_wrong_settings_are_named(x, settings, message):
    with pytest.raises(ConfigError, match=message):
        gnopt.fit(x, x[:, 0], **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x, x[:-1, 0]), "y: found shape"),
        (lambda x: (x[:, 0], x[:, 0]), "expected rows of numbers"),
        (lambda x: ([["a", "b"]], [1]), "expected rows of numbers"),
    ],
)
def test_wrong_arrays_are_named(x, change, message):
    with pytest.raises(DataError, match=message):
        gnopt.fit(*change(x))


def test_sparse_matrices_are_refused_as_scikit_learn_does(x):
    with pytest.raises(TypeError, match="Sparse data was passed for x, but dense data is required"):
        gnopt.fit(csr_array(x), x[:, 0])


def test_what_is_missing_is_asked_for(x, numbers, table, tmp_path):
    with pytest.raises(ConfigError, match="what is to be predicted"):
        gnopt.fit(x)
    with pytest.raises(ConfigError, match="y is missing"):
        numbers.evaluate(x)
    with pytest.raises(DataError, match="rows of 2 numbers"):
        numbers.predict(x[:, :2])
    with pytest.raises(ConfigError, match="go with data in memory"):
        gnopt.fit(tmp_path / "table.csv", x[:, 0])
    model = gnopt.fit(table, target="y", **QUICK)
    with pytest.raises(DataError, match="'kind'"):
        model.predict(table.drop(columns="kind"))
    with pytest.raises(DataError, match="no such run"):
        gnopt.load(Path(tmp_path / "nothing"))
