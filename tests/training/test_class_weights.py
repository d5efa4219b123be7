"""Class weights and weights of rows: evaluations, the best constant, initial weights, errors."""

import h5py
import numpy as np
import pytest

from gnopt import config
from gnopt.engine.network import forward
from gnopt.errors import ConfigError, DataError, SettingsError
from gnopt.training.evaluate import evaluate
from gnopt.training.measured import Measure
from gnopt.training.setup import build
from gnopt.training.weights import balanced

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = {validation}
split = "end"
{data}
[network]
hidden = [4]
loss = "{loss}"
[optimizer]
weight_decay = 1e-6
[training]
dtype = "float64"
evaluate_rows = 0
{training}
"""


def experiment(
    folder, arrays, loss="softmax_cross_entropy", data="", training="", validation=0, name="data"
):
    with h5py.File(folder / f"{name}.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values
    text = CONFIG.format(loss=loss, data=data, training=training, validation=validation)
    path = folder / f"{name}.toml"
    path.write_text(text.replace("data.h5", f"{name}.h5"))
    return build(config.load(path, ()))


def table(rows=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    y[: rows // 2] = 0
    return {"x": rng.standard_normal((rows, 3)), "y": y, "w": rng.integers(0, 4, rows)}


def repeated(arrays):
    rows = np.repeat(np.arange(len(arrays["w"])), arrays["w"])
    return {"x": arrays["x"][rows], "y": arrays["y"][rows]}


WEIGHTS = 'weights = "w"'
TARGETS = {
    "softmax_cross_entropy": lambda y: y,
    "binary_mixture": lambda y: y % 2,
    "binary_cross_entropy": lambda y: (y % 2)[:, None] * 1.0,
    "poisson": lambda y: y,
    "squared_error": lambda y: 100.0 * y[:, None] + 7.0,
}


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_weights_count_like_repeated_rows(tmp_path, loss, class_weights):
    arrays = table()
    arrays["y"] = TARGETS[loss](arrays["y"])
    training = f'class_weights = "{class_weights}"'
    if class_weights == "balanced" and loss in ("poisson", "squared_error"):
        with pytest.raises(SettingsError, match=f"loss '{loss}' has no classes"):
            experiment(tmp_path, arrays, loss, WEIGHTS, training)
        return
    weighted = experiment(tmp_path, arrays, loss, WEIGHTS, training)
    plain = experiment(tmp_path, repeated(arrays), loss, "", training, name="plain")
    np.testing.assert_allclose(weighted.target_mean, plain.target_mean, rtol=1e-12)
    np.testing.assert_allclose(weighted.target_units(), plain.target_units(), rtol=1e-12)
    assert weighted.weighting.listed == pytest.approx(plain.weighting.listed)
    theta = plain.initial_weights()
    np.testing.assert_allclose(weighted.initial_weights(), theta, rtol=1e-10, atol=1e-12)
    found, expected = (Measure(e)(theta, 0) for e in (weighted, plain))
    for name in ("loss", "error", "floor"):
        assert getattr(found.train, name) == pytest.approx(getattr(expected.train, name), rel=1e-12)
    assert found.train_constant.loss == pytest.approx(expected.train_constant.loss, rel=1e-12)
    if found.train.noise is not None:
        np.testing.assert_allclose(found.train.noise.variance, expected.train.noise.variance)


def test_class_weights_are_those_of_scikit_learn(tmp_path):
    y = np.array([0] * 6 + [1] * 3 + [2])
    e = experiment(tmp_path, {"x": np.eye(10), "y": y}, training='class_weights = "balanced"')
    np.testing.assert_allclose(e.weighting.classes, [10 / 18, 10 / 9, 10 / 3])
    assert e.weighting.notes == ("class weights (balanced): 0.556, 1.11, 3.33",)
    np.testing.assert_allclose(balanced(np.array([2.0, 0.0, 1.0])), [0.75, 1.0, 1.5])
    np.testing.assert_allclose(e.target_mean, np.full(3, 1 / 3))


def test_listed_class_weights_make_the_objective_a_weighted_mean(tmp_path):
    arrays = table()
    plain = experiment(tmp_path, arrays, name="plain", validation=0.2)
    e = experiment(tmp_path, arrays, training="class_weights = [1, 2.5, 7]", validation=0.2)
    theta = plain.initial_weights()
    for split in ("train", "validation"):
        x, y = getattr(plain.data, split).rows_at(0, 100)
        h = forward(plain.net, plain.net.views(theta), x).output
        each = plain.loss.value(plain.ops, h, y)
        found = evaluate(e.net, e.loss, theta, getattr(e.data, split))
        weight = np.array([1.0, 2.5, 7.0])[y]
        assert found.loss == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-12)
        error = plain.loss.error(plain.ops, h, y).mean()  # class weights count in no metric
        assert found.error == pytest.approx(error, rel=1e-12)


def test_the_mean_weight_of_the_training_rows_is_one(tmp_path):
    arrays = table()
    e = experiment(tmp_path, arrays, data=WEIGHTS, training='class_weights = "balanced"')
    y = e.loss.convert_targets(e.data.train.rows_at(0, 60)[1])
    assert y.weight.mean() == pytest.approx(1.0, rel=1e-12)


def test_rows_of_weight_zero_are_told(tmp_path):
    arrays = table() | {"w": np.r_[np.zeros(12), np.ones(45), np.zeros(3)]}
    e = experiment(tmp_path, arrays, data=WEIGHTS, validation=0.1)
    assert e.weighting.notes == ("rows with weight 0: 12 of train, 3 of validation do not count",)


def test_an_evaluation_needs_a_row_that_counts(tmp_path):
    arrays = table() | {"w": np.r_[np.zeros(50), np.ones(10)]}
    e = experiment(tmp_path, arrays, data=WEIGHTS)
    with pytest.raises(DataError, match="all have weight 0"):
        evaluate(e.net, e.loss, e.initial_weights(), e.data.train, 5)


@pytest.mark.parametrize(
    ("loss", "y", "weights", "error", "message"),
    [
        ("softmax_cross_entropy", [0, 1, 2], "[1, 2]", ConfigError, "has 2 numbers; expected 3"),
        ("binary_mixture", [0, 1, 1], "[1, 2, 3]", ConfigError, "has 3 numbers; expected 2"),
        (
            "softmax_cross_entropy",
            [[0.5, 0.5]] * 3,
            '"balanced"',
            DataError,
            "not of one class each; expected labels",
        ),
        ("binary_cross_entropy", [[0.5]] * 3, '"balanced"', DataError, "not of one class each"),
        ("binary_cross_entropy", [[1.0, 0.0]] * 3, '"balanced"', DataError, "not of one class"),
        ("softmax_cross_entropy", [0, 1, 2], "[1, -2, 3]", SettingsError, "numbers > 0"),
        ("softmax_cross_entropy", [0, 1, 2], '"equal"', SettingsError, '"balanced" or a list'),
        ("squared_error", [0, 1, 2], '"balanced"', SettingsError, "has no classes"),
        ("poisson", [0, 1, 2], "[1, 2, 3]", SettingsError, "has no classes"),
    ],
)
def test_class_weights_that_do_not_fit(tmp_path, loss, y, weights, error, message):
    arrays = {"x": np.eye(3), "y": np.array(y)}
    with pytest.raises(error, match=message):
        experiment(tmp_path, arrays, loss, training=f"class_weights = {weights}")
