"""The estimators keep the contracts of scikit-learn, with words and missing cells besides."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gnopt import GnoptClassifier, GnoptRegressor

# Few updates and evaluations. Without rows held out at random, and under a given weight decay, a
# row of weight 2 is the same as the row given twice, which is among the checks.
QUICK = {
    "hidden": [8],
    "method": "levenberg_marquardt",
    "max_updates": 5,
    "weight_decay": 1e-3,
    "validation": 0.0,
    "settings": {"training__evaluate_every": 0},
}


@parametrize_with_checks([GnoptRegressor(**QUICK), GnoptClassifier(**QUICK)])
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(60)
    frame = pd.DataFrame({"x": x, "colour": np.where(x > 0, "red", "blue")})
    frame.loc[::7, "x"] = np.nan
    return frame


def test_frames_with_words_and_gaps_are_encoded(table):
    model = GnoptClassifier(**QUICK).fit(table, table["colour"] == "red")
    assert model.classes_.tolist() == [False, True]
    assert model.score(table, table["colour"] == "red") == 1.0
    assert list(model.feature_names_in_) == ["x", "colour"]
    again = model.predict(table[["x", "colour"]].iloc[::-1])[::-1]
    np.testing.assert_array_equal(again, model.predict(table))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[["colour", "x"]])


def test_the_saved_network_knows_the_names_of_classes(table):
    model = GnoptClassifier(**QUICK).fit(table[["colour"]], table["colour"])
    assert model.model_.classes_.tolist() == ["blue", "red"]


def test_regressors_give_deviations():
    x = np.linspace(-1.0, 1.0, 40)[:, None]
    y = np.stack([x[:, 0], -2.0 * x[:, 0]], axis=1)
    mean, deviation = GnoptRegressor(**QUICK).fit(x, y).predict(x, return_std=True)
    assert mean.shape == deviation.shape == y.shape
    assert (deviation > 0.0).all()


def test_searches_clones_and_pipelines_take_them():
    x = np.random.default_rng(0).standard_normal((40, 2))
    y = x @ [1.0, -1.0]
    pipeline = make_pipeline(StandardScaler(), GnoptRegressor(**QUICK))
    search = GridSearchCV(GnoptRegressor(**QUICK), {"hidden": [[4], [8]]}, cv=2).fit(x, y)
    assert cross_val_score(pipeline, x, y, cv=2).min() > 0.8
    assert search.best_params_["hidden"] in ([4], [8])
    assert clone(search.best_estimator_).hidden == search.best_params_["hidden"]


def test_seeds_give_networks():
    x = np.linspace(-1.0, 1.0, 30)[:, None]
    seeds = (None, 0, np.random.RandomState(5))
    predictions = [
        GnoptRegressor(**QUICK, random_state=seed).fit(x, x[:, 0]).predict(x) for seed in seeds
    ]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert not np.array_equal(predictions[1], predictions[2])


def test_wrong_settings_are_value_errors():
    with pytest.raises(ValueError, match="updates = -1"):
        GnoptRegressor(max_updates=-1).fit([[0.0], [1.0]], [0.0, 1.0])


def test_importing_gnopt_loads_nothing_and_lacking_scikit_learn_is_a_sentence():
    program = (
        "import sys, gnopt\n"
        "assert not {'numpy', 'pandas', 'sklearn', 'h5py'} & set(sys.modules)\n"
        "sys.modules['sklearn'] = None\n"
        "assert 'GnoptRegressor' in dir(gnopt)\n"
        "try:\n"
        "    from gnopt import GnoptRegressor\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("GnoptRegressor and GnoptClassifier need scikit-learn")
    assert "pip install 'gnopt[sklearn]'" in done.stdout
