"""The best constant predictor: its loss, and the networks that are no better."""

import h5py
import numpy as np
import pytest
from draws import targets
from scipy.optimize import minimize

from gnopt.config import load
from gnopt.engine.losses import Loss, get_loss
from gnopt.training.constant import Constant, ConstantLoss, best_constant, shortcomings
from gnopt.training.setup import build

NO_LINK = "siblings.losses.log_cosh:LogCosh"
CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
[network]
hidden = [4]
loss = "{loss}"
[optimizer]
weight_decay = 1e-6
[training]
dtype = "float64"
"""


def experiment(folder, y, loss):
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"] = np.zeros((len(y), 2)), y
    (folder / "net.toml").write_text(CONFIG.format(loss=loss))
    return build(load(folder / "net.toml", ()))


def lowest(loss, ops, y, outputs):
    """The lowest mean loss of any constant, by a minimiser that knows nothing of links."""

    def value(h):
        rows = np.broadcast_to(h, (len(y), outputs))
        return float(loss.value(ops, rows, y).mean())

    starts = np.random.default_rng(0).normal(size=(3, outputs))
    return min(minimize(value, start, method="BFGS").fun for start in starts)


def test_no_constant_has_a_lower_loss(tmp_path, loss_name):
    e = experiment(
        tmp_path, targets(get_loss(loss_name), np.random.default_rng(0), 300, 3), loss_name
    )
    constant = best_constant(e.loss, e.ops, e.target_mean, e.data.train)
    found = constant.loss_on(e.loss, e.ops, e.data.train)
    _, y = e.data.train.rows_at(0, 300)
    best = lowest(e.loss, e.ops, e.loss.convert_targets(y), e.net.sizes[-1])
    assert found.loss == pytest.approx(best, rel=1e-3)
    assert found.floor <= found.loss


def test_a_loss_without_a_link_is_minimised(tmp_path):
    skewed = np.random.default_rng(0).exponential(20.0, size=(500, 2))
    e = experiment(tmp_path, skewed, NO_LINK)
    constant = best_constant(e.loss, e.ops, e.target_mean, e.data.train)
    mean = Constant(e.target_mean).loss_on(e.loss, e.ops, e.data.train).loss
    found = constant.loss_on(e.loss, e.ops, e.data.train).loss
    assert found < 0.99 * mean
    assert found == pytest.approx(lowest(e.loss, e.ops, skewed, 2), rel=1e-3)


class Unusual(Loss):
    """A loss whose inverse link is not known, and whose value is not finite at the mean target."""

    def value(self, ops, h, y):
        return (h - y).sum(axis=1) + np.inf


def test_a_loss_that_is_not_finite_at_the_mean_has_no_constant(tmp_path):
    e = experiment(tmp_path, np.ones((20, 1)), "squared_error")
    assert best_constant(Unusual(), e.ops, np.ones(1), e.data.train) is None


def test_devices_agree(tmp_path, loss_name, ops):
    e = experiment(
        tmp_path, targets(get_loss(loss_name), np.random.default_rng(0), 50, 3), loss_name
    )
    constant = best_constant(e.loss, ops, e.target_mean, e.data.train)
    host = best_constant(e.loss, e.ops, e.target_mean, e.data.train)
    np.testing.assert_allclose(constant.outputs, host.outputs, rtol=1e-9)
    found, expected = (constant.loss_on(e.loss, o, e.data.train) for o in (ops, e.ops))
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)


def test_a_network_must_go_a_thousandth_of_the_way_to_the_floor():
    constant = ConstantLoss(2.0, 1.0)
    assert constant.no_better(2.0)
    assert constant.no_better(1.9995)
    assert constant.no_better(float("nan"))
    assert not constant.no_better(1.998)


def test_nothing_is_said_where_all_targets_are_alike():
    assert not ConstantLoss(0.0, 0.0).no_better(0.5)


def test_each_kind_of_rows_has_its_sentence():
    losses = {"train_loss": 0.9, "train_constant": 0.7, "train_floor": 0.0}
    (line,) = shortcomings(losses)
    assert "worse than the best constant on the training rows: 0.9 against 0.7" in line
    losses |= {"validation_loss": 0.5, "validation_constant": 0.5, "validation_floor": 0.0}
    assert "no better than the best constant on the validation rows" in shortcomings(losses)[1]
    assert shortcomings(losses | {"train_loss": 0.6, "validation_loss": 0.4}) == []
    assert shortcomings({"train_loss": 0.9}) == []
