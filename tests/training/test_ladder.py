"""Noticing a run that stands still, the layer that is named, and the weights of another start."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from gnopt.config import load
from gnopt.engine.network import forward
from gnopt.training import restart
from gnopt.training.blame import blamed, layer_facts
from gnopt.training.constant import Constant, ConstantLoss
from gnopt.training.ladder import Ladder
from gnopt.training.setup import build
from gnopt.training.watch import Effort, Watch

CONFIG = """
[data]
file = "data.h5"
targets = "y"
validation = 0
[network]
hidden = {hidden}
activation = "{activation}"
loss = "squared_error"
[optimizer]
weight_decay = 1e-6
[training]
dtype = "float64"
"""
CONSTANT = ConstantLoss(1.0, 0.0)
EFFORT = Effort(2, 10, 200)


@pytest.fixture
def make(tmp_path):
    """Return a function that builds an experiment; its data are closed in the end."""
    built = []

    def experiment(activation="tanh", hidden=(7, 5, 6), x=None):
        random = np.random.default_rng(0)
        x = random.normal(size=(300, 4)) if x is None else x
        with h5py.File(tmp_path / "data.h5", "w") as file:
            file["x"], file["y"] = x, np.sin(x[:, :1])
        text = CONFIG.format(activation=activation, hidden=list(hidden))
        (tmp_path / "net.toml").write_text(text)
        built.append(build(load(tmp_path / "net.toml", ())))
        return built[-1]

    yield experiment
    for one in built:
        one.data.close()


# ---- the weights of another start ----------------------------------------------------------------


def test_signals_are_as_large_in_every_layer_and_no_unit_is_dead(make, activation_name):
    e = make(activation_name, [6] * 12)
    theta = e.scaled_weights(1)
    W = e.net.views(theta)
    x, _ = e.data.train.rows_at(0, 300)
    tape = forward(e.net, W, x)
    for l, W_l in enumerate(W):
        h = tape.abar[l] @ W_l.T
        spread = restart.OUTPUT_SPREAD if l == len(W) - 1 else restart.SPREAD
        units = e.target_units(wide=1.0) if l == len(W) - 1 else 1.0
        assert np.sqrt((h / units).var(axis=0).mean()) == pytest.approx(spread, rel=1e-6)
    np.testing.assert_allclose(tape.output.mean(axis=0), e.target_mean, atol=1e-9)
    assert [layer.still for layer in layer_facts(e, theta)] == [0] * 12


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_the_scale_of_the_inputs_does_not_matter(make, scale):
    x = np.random.default_rng(0).normal(size=(300, 4))
    outputs = []
    for factors, shift in ((1.0, 0.0), (np.array([1.0, scale, 1.0, 1.0 / scale]), 0.0)):
        e = make(x=x * factors + shift)
        rows, _ = e.data.train.rows_at(0, 300)
        outputs.append(forward(e.net, e.net.views(e.scaled_weights(1)), rows).output)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-6)


def test_a_constant_input_is_left_out(make):
    x = np.random.default_rng(0).normal(size=(300, 4))
    x[:, 2] = 1e6
    e = make(x=x)
    first = e.net.views(e.scaled_weights(1))[0]
    assert (first[:, 2] == 0.0).all()
    assert (first[:, [0, 1, 3]] != 0.0).all()


def test_every_start_has_weights_of_its_own(make):
    e = make()
    one, again, other = (e.scaled_weights(number) for number in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.isclose(one, other).any()


# ---- the layer that is named ---------------------------------------------------------------------


def spoilt(e, layer, change):
    """Good weights, with those of one layer changed."""
    theta = e.scaled_weights(1)
    change(e.net.views(theta)[layer - 1])
    return theta


def test_good_weights_blame_no_layer(make):
    e = make()
    assert blamed(layer_facts(e, e.scaled_weights(1))) == ""


def test_dead_units_are_counted(make, ops):
    def kill(W):
        W[:4, -1] = -100.0

    e = make("relu")
    e = replace(e, ops=ops, net=type(e.net)(e.net.sizes, e.net.activations, ops, "float64"))
    facts = layer_facts(e, ops.asarray(spoilt(e, 1, kill)))
    assert [layer.still for layer in facts] == [4, 0, 0]
    assert blamed(facts) == "layer 1: 4 of 7 relu units give 0 on every row"
    assert [layer.dead() for layer in facts[1:]] == ["", ""]


def test_a_lost_signal_is_found_in_the_first_layer_that_loses_it(make):
    def shrink(W):
        W[:, :-1] *= 1e-6

    e = make("sigmoid")
    assert blamed(layer_facts(e, spoilt(e, 2, shrink))).startswith("layer 2 loses the signal")


def test_saturated_units_are_found(make):
    def saturate(W):
        W *= 300.0

    e = make("tanh")
    facts = layer_facts(e, spoilt(e, 3, saturate))
    assert blamed(facts).startswith("layer 3: its tanh units are saturated")


def test_each_layer_that_dies_is_spoken_of_once(make):
    def kill(W):
        W[:4, -1] = -100.0

    e = make("relu")
    ladder, theta = Ladder(e, Watch(), keep=False), spoilt(e, 1, kill)
    assert ladder.dead(theta, 2.0) == []
    assert ladder.dead(theta, 4.0) == ["layer 1: 4 of 7 relu units give 0 on every row"]
    assert ladder.dead(theta, 6.0) == []
    kill(e.net.views(theta)[2])
    assert ladder.dead(theta, 9.0) == ["layer 3: 4 of 6 relu units give 0 on every row"]


def test_advice_is_taken_back_where_the_run_leaves_the_constant_after_all(make):
    e = make()
    ladder = Ladder(e, Watch(given_up=True), keep=False)
    ladder.constant = Constant(e.target_mean)
    row = {"loss": 1e-3, "grad_norm": 1.0, "step_norm": 1.0}
    for step in range(1, 2 * ladder.effort.updates + 1):
        ladder.observe(step, 300, row)
        if ladder.due(step):
            finding = ladder.look(e.scaled_weights(1), step, 300 * step)
            first = step == ladder.effort.updates
            assert ("after all" in finding.text) if first else finding is None
    assert not ladder.watch.given_up


# ---- noticing ------------------------------------------------------------------------------------


def watched(losses, rows=20, gradient=1.0, step_norm=1.0, rejected=0.0):
    watch = Watch()
    for step, loss in enumerate(losses, start=1):
        row = {
            "loss": loss,
            "grad_norm": gradient,
            "step_norm": step_norm,
            "rejected": rejected,
        }
        watch.observe(EFFORT, step, rows, row)
    return watch


def test_an_effort_is_updates_and_rows():
    assert not watched([1.0] * 9).due(EFFORT, 9)
    assert watched([1.0] * 10).due(EFFORT, 10)
    assert not watched([1.0] * 10, rows=19).due(EFFORT, 10)
    assert watched([1.0] * 11, rows=19).due(EFFORT, 11)


def test_the_second_half_of_an_effort_is_judged():
    watch = watched([9.0] * 5 + [0.5] * 5)
    assert [half.mean for half in watch.halves] == [9.0, 0.5]
    assert not watch.suspicious(CONSTANT)
    assert watched([0.5] * 5 + [1.0] * 5).suspicious(CONSTANT)
    assert watched([1.0] * 9 + [float("nan")]).suspicious(CONSTANT)


def test_single_batches_do_not_decide():
    watch = watched([1.0, 0.1] * 5)  # noise: the average is what counts
    assert not watch.suspicious(CONSTANT)
    watch = watched([1.0] * 9 + [0.8])
    assert watch.suspicious(CONSTANT)


def test_a_run_that_comes_nearer_to_the_constant_progresses_and_one_that_is_there_does_not():
    assert watched([90.0] * 5 + [40.0] * 5).progresses(CONSTANT)
    assert not watched([90.0] * 5 + [60.0] * 5).progresses(CONSTANT)
    assert not watched([90.0] * 5 + [1.01] * 5).progresses(CONSTANT)


def test_steps_collapse_where_they_do_not_move_or_are_rejected_and_the_gradient_has_not_vanished():
    assert watched([0.5] * 10, step_norm=1e-9).collapsed(EFFORT, 10, 1.0)
    assert watched([0.5] * 10, rejected=1.0).collapsed(EFFORT, 10, 1.0)
    assert not watched([0.5] * 10, step_norm=1e-3).collapsed(EFFORT, 10, 1.0)
    first_order = replace(EFFORT, order=1)
    assert not watched([0.5] * 10, step_norm=1e-9).collapsed(first_order, 10, 1.0)
    converged = watched([0.5] * 10, step_norm=1e-9)
    converged.gradient = 1e-3
    assert not converged.collapsed(EFFORT, 10, 1.0)
