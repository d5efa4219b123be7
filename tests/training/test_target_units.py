"""Outputs of a regression start in the units of its targets."""

import h5py
import numpy as np
import pytest

from gnopt.config import load
from gnopt.training.setup import WIDE, build

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
[network]
hidden = [4, 3]
loss = "{loss}"
"""


@pytest.fixture
def experiment(tmp_path):
    """A function that writes targets beside the same inputs and builds the experiment."""
    x = np.random.default_rng(0).normal(size=(400, 3))
    opened = []

    def make(y, loss="squared_error", *sets):
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["x"], file["y"] = x, y
        (tmp_path / "net.toml").write_text(CONFIG.format(loss=loss))
        opened.append(build(load(tmp_path / "net.toml", sets)))
        return opened[-1]

    yield make
    for e in opened:
        e.data.close()


def targets():
    """Two columns of mean 0 and deviation 1."""
    y = np.random.default_rng(1).normal(size=(400, 2))
    return (y - y.mean(axis=0)) / y.std(axis=0)


def start(e):
    return e.net.views(e.initial_weights())


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_output_weights_follow_the_deviations(experiment, scale, shift):
    units = scale * np.array([1.0, 0.01])
    plain, other = start(experiment(targets())), start(experiment(units * (targets() + shift)))
    for W, V in zip(plain[:-1], other[:-1], strict=True):
        assert W.tobytes() == V.tobytes()
    np.testing.assert_allclose(other[-1][:, :-1], units[:, None] * plain[-1][:, :-1], rtol=1e-5)
    np.testing.assert_allclose(other[-1][:, -1], units * shift, atol=1e-5 * units.max())


@pytest.mark.parametrize("scale", [1.01 / WIDE, 0.99 * WIDE])
def test_targets_of_about_one_change_nothing(experiment, scale):
    plain, other = experiment(targets()), experiment(scale * targets())
    assert start(plain)[-1][:, :-1].tobytes() == start(other)[-1][:, :-1].tobytes()


def test_a_constant_target_among_others_starts_as_a_constant(experiment):
    y = 1e4 * targets()
    y[:, 1] = 0.1  # no float32 number, so that its mean may be off by rounding
    W_L = start(experiment(y))[-1]
    assert (W_L[1, :-1] == 0.0).all()
    assert W_L[0, :-1].all()


def test_targets_that_are_all_constant_change_nothing(experiment):
    y = np.full((400, 2), 0.1)
    assert (experiment(y).target_units() == 1.0).all()


def test_a_mean_that_float64_can_hold_is_no_constant(experiment):
    y = 1e9 + 1e2 * targets()
    assert (experiment(y).target_units() == 1.0).all()
    e = experiment(y, "squared_error", "training.dtype=float64")
    np.testing.assert_allclose(e.target_units(), 1e2, rtol=1e-6)


@pytest.mark.parametrize("name", ["glorot", "he", "lecun", "sparse"])
def test_a_named_distribution_is_what_it_says(experiment, name):
    small, plain = (
        start(experiment(y, "squared_error", f"network.init={name}"))
        for y in (1e-6 * targets(), targets())
    )
    assert small[-1][:, :-1].tobytes() == plain[-1][:, :-1].tobytes()


def test_rates_have_no_units(experiment):
    counts = np.random.default_rng(2).poisson(3000.0, size=(400, 2)) * np.array([1.0, 5.0])
    assert (experiment(counts, "poisson").target_units() == 1.0).all()


def test_another_start_is_in_these_units_too(experiment):
    W_L = experiment(targets()), experiment(1e6 * targets())
    plain, large = (e.net.views(e.scaled_weights(1))[-1][:, :-1] for e in W_L)
    np.testing.assert_allclose(large, 1e6 * plain, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_kfra_trains_in_any_units_as_in_plain_ones(experiment, scale):
    x = np.random.default_rng(0).normal(size=(400, 3))
    y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    shares = []
    for factor in (1.0, scale):
        e = experiment(factor * y)
        theta, data = e.initial_weights(), e.data.train.rows_at(0, 400)
        state = e.optimizer.init(theta)
        losses = [e.optimizer.update(theta, state, *data, k)["loss"] for k in range(1, 31)]
        shares.append(losses[-1] / (0.5 * factor**2 * y.var(axis=0).sum()))
    assert shares[1] < 3.0 * shares[0]
