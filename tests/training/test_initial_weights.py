"""The weights of step 0: scaled to the data where drawn ones lose the signal, and only there."""

import h5py
import newcomers
import numpy as np
import pytest

from gnopt.config import load
from gnopt.engine.activations import all_activations
from gnopt.engine.network import forward
from gnopt.training import restart
from gnopt.training.setup import build

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
standardize = false
[network]
hidden = {hidden}
activation = "{activation}"
loss = "squared_error"
"""


@pytest.fixture
def make(tmp_path):
    """Return a function that builds an experiment; its data are closed in the end."""
    built = []

    def experiment(activation, hidden, *sets, scale=1.0):
        x = np.random.default_rng(0).normal(size=(300, 4))
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["x"], file["y"] = scale * x, 2.0 + np.sin(x[:, :1])
        path = tmp_path / "net.toml"
        path.write_text(CONFIG.format(activation=activation, hidden=list(hidden)))
        built.append(build(load(path, sets)))
        return built[-1]

    yield experiment
    for one in built:
        one.data.close()


def test_a_glorot_tanh_network_starts_as_it_always_did(make):
    sets = ['network.activation=["tanh","identity","tanh"]', "training.dtype=float32"]
    auto = make("tanh", [20, 3, 20], *sets)
    glorot = make("tanh", [20, 3, 20], *sets, "network.init=glorot")
    assert auto.initial_weights().tobytes() == glorot.initial_weights().tobytes()
    assert auto.start_note == ""


@pytest.mark.parametrize(
    ("activation", "hidden", "scale", "words"),
    [
        ("gelu", [30] * 11, 1.0, "11 hidden layers are too deep for gelu"),
        ("relu", [2] * 10, 1.0, "vanishes in layer"),
        ("tanh", [2] * 60, 1.0, "vanishes in layer"),
        ("tanh", [20], 1e-6, "vanishes in layer 1"),
        ("tanh", [20, 20], 1e6, "explodes in layer 1"),
    ],
)
def test_a_lost_signal_is_said_and_the_weights_are_scaled(make, activation, hidden, scale, words):
    e = make(activation, hidden, scale=scale)
    theta = e.initial_weights()
    assert words in e.start_note
    np.testing.assert_array_equal(theta, e.scaled_weights(0))
    np.testing.assert_array_equal(theta, e.initial_weights())
    x, _ = e.data.train.rows_at(0, 300)
    output = forward(e.net, e.net.views(theta), x).output
    spread = restart.OUTPUT_SPREAD * e.target_units(wide=1.0)[0]
    assert output.std() == pytest.approx(spread, rel=1e-2)
    assert output.mean() == pytest.approx(e.target_mean[0], rel=1e-4)


@pytest.mark.parametrize(("choice", "mean"), [("data_mean", None), ("zero", 0.0)])
@pytest.mark.parametrize("hidden", [[20], [5] * 20])
def test_the_output_bias_is_what_the_setting_says(make, choice, mean, hidden):
    e = make("gelu", hidden, f"network.output_bias={choice}")
    W = e.net.views(e.initial_weights())
    assert bool(e.start_note) == (len(hidden) == 20)
    output = forward(e.net, W, e.data.train.rows_at(0, 300)[0]).output.mean()
    assert output == pytest.approx(e.target_mean[0] if mean is None else mean, abs=0.1)


def test_named_initialisers_are_left_alone(make):
    e = make("gelu", [5] * 30, "network.init=glorot")
    biases = [W[:, -1] for W in e.net.views(e.initial_weights())[:-1]]
    assert e.start_note == ""
    assert not np.concatenate(biases).any()


def test_every_device_starts_from_the_same_weights(make, ops):
    e = make("gelu", [5] * 30)
    expected = e.initial_weights()
    found = build(e.config, ops).initial_weights()
    np.testing.assert_array_equal(ops.to_host(found), expected)


def test_signals_reach_the_last_layer_of_any_activation_and_shape(make):
    """Newcomers without a rule of their own included; glorot loses up to 1e13 on the way."""
    with newcomers.added():
        for name in all_activations():
            for hidden in ([5] * 20, [30] * 20, [200] * 8, [200, 50, 10, 5, 5, 5]):
                e = make(name, hidden)
                theta = e.initial_weights()
                x, _ = e.data.train.rows_at(0, 300)
                last = forward(e.net, e.net.views(theta), x).abar[-1][:, :-1]
                unit = e.net.activations[-2].init_rule.unit
                assert 0.02 < np.sqrt(last.var(axis=0).mean()) / unit < 20.0, (name, hidden)
