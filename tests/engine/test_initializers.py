"""Initial weights: layout, scale, repetition."""

import newcomers
import numpy as np
import pytest
from reference import network
from scipy.integrate import quad
from scipy.stats import norm

from gnopt import rng
from gnopt.engine.activations import Activation, all_activations, get_activation
from gnopt.engine.arrays import get_backend
from gnopt.engine.initializers import INITIALIZERS, InitRule, initialize
from gnopt.engine.network import Network, forward
from gnopt.errors import ConfigError

VARIANCE = {
    "glorot": lambda d_in, d_out: 2.0 / (d_in + d_out),
    "he": lambda d_in, d_out: 2.0 / d_in,
    "lecun": lambda d_in, d_out: 1.0 / d_in,
    "sparse": lambda d_in, d_out: 15.0 / d_in,
}


@pytest.mark.parametrize("name", VARIANCE)
def test_scale_layout_and_repetition(name, dtype_name):
    sizes = (80, 60, 100, 3)
    theta = initialize(sizes, name, np.random.default_rng(0), dtype_name)
    net = network(sizes, ("tanh", "tanh"), dtype_name)
    assert theta.shape == (net.size,)
    assert theta.dtype == dtype_name
    for W, d_in, d_out in zip(net.views(theta), sizes[:-1], sizes[1:], strict=True):
        np.testing.assert_array_equal(W[:, -1], 0.0)
        weight, variance = W[:, :-1].astype(float), VARIANCE[name](d_in, d_out)
        spread = (weight**2).std() / weight.size**0.5
        assert abs((weight**2).mean() - variance) < 5.0 * spread
        assert abs(weight.mean()) < 5.0 * (variance / weight.size) ** 0.5
    np.testing.assert_array_equal(
        theta, initialize(sizes, name, np.random.default_rng(0), dtype_name)
    )


def test_sparse_has_fifteen_links_where_there_are_as_many():
    for d_in, links in ((40, 15), (15, 15), (4, 4), (1, 1)):
        theta = initialize((d_in, 7), "sparse", np.random.default_rng(0), "float64")
        np.testing.assert_array_equal((theta.reshape(7, -1)[:, :-1] != 0.0).sum(axis=1), links)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"glorrot.*did you mean 'glorot'"):
        initialize((2, 1), "glorrot", np.random.default_rng(0), "float64")


def test_streams_are_functions_of_their_counters():
    def draw(*key):
        return rng.generator(*key).random(4)

    np.testing.assert_array_equal(draw(1, "kfac", 3), draw(1, "kfac", 3))
    streams = [
        draw(*key)
        for key in (
            (1, "kfac", 3),
            (1, "kfac", 4),
            (2, "kfac", 3),
            (1, "batches", 3),
            (1, "kfac"),
            (1, "kfac", 3, 1),
        )
    ]
    assert len({s.tobytes() for s in streams}) == len(streams)


# ---- auto ----------------------------------------------------------------------------------------


def rules(*names):
    return [get_activation(name).init_rule for name in names]


def draw(sizes, name, *activations):
    given = rules(*activations, "identity") if activations else ()
    return initialize(sizes, name, np.random.default_rng(0), "float64", given)


def test_every_value_of_the_option_is_tested():
    assert set(INITIALIZERS) == {"auto", *VARIANCE}


@pytest.mark.parametrize(
    ("activation", "name", "output"),
    [
        ("tanh", "glorot", 1.0),
        ("relu", "he", 0.1),
        ("leaky_relu", "he", 0.1),
        ("elu", "he", 0.1),
        ("selu", "lecun", 1.0),
        ("identity", "glorot", 1.0),
    ],
)
def test_auto_is_the_named_distribution_bit_for_bit(activation, name, output):
    """But for the factor of the output layer."""
    sizes = (9, 8, 3, 8, 9)
    for names in ([activation] * 3, [activation, "identity", activation]):
        expected = draw(sizes, name)
        expected[-9 * 9 :] *= output
        assert draw(sizes, "auto", *names).tobytes() == expected.tobytes()


def test_auto_makes_a_sigmoid_network_the_glorot_tanh_network():
    """With sigmoid(h) = (1 + tanh(h / 2)) / 2, the same function of the inputs."""
    sizes, x = (4, 7, 5, 6, 3), np.random.default_rng(1).normal(size=(20, 4))
    outputs = []
    for name in ("sigmoid", "tanh"):
        net = network(sizes, [name] * 3, "float64")
        outputs.append(forward(net, net.views(draw(sizes, "auto", *[name] * 3)), x).output)
    np.testing.assert_allclose(*outputs, rtol=1e-12, atol=1e-12)


def test_a_layer_asks_the_activations_on_its_two_sides():
    found = INITIALIZERS["auto"].layers(rules("identity", "relu", "sigmoid", "identity", "tanh"))
    drawn = [(layer.draw.__name__, layer.gain, layer.mean) for layer in found]
    assert drawn == [
        ("glorot", 1.0, 0.0),
        ("he", 1.0, 0.0),
        ("he", 2.0, 0.0),
        ("glorot", 2.0, 0.5),
        ("glorot", 1.0, 0.0),
    ]


def moments(f):
    """Mean of f and root mean square of f' at standard normal h, by SciPy."""
    ops = get_backend("cpu")

    def value(h):
        return float(f.f(ops, np.array([h]), np.empty(1))[0])

    def slope(h):
        at = np.array([h])
        return float(f.df(ops, at, f.f(ops, at.copy(), np.empty(1)), np.empty(1))[0])

    def expected(g):
        return sum(quad(lambda h: g(h) * norm.pdf(h), *ends)[0] for ends in ((-12, 0), (0, 12)))

    return expected(value), expected(lambda h: slope(h) ** 2) ** 0.5


def test_a_rule_computed_from_f_has_its_moments(activation_name):
    f = get_activation(activation_name)
    mean, slope = moments(f)
    rule = InitRule.measured(f.values)
    assert rule.mean == pytest.approx(mean, abs=3e-3)
    assert rule.unit == pytest.approx(slope, rel=1e-2)


def test_an_activation_without_a_rule_gets_the_computed_one():
    with newcomers.added():
        named = {name: f for name, f in all_activations().items() if f.init is None}
        assert set(newcomers.NAMES["activations"]) <= set(named)
        for f in named.values():
            mean, slope = moments(f)
            assert f.init_rule.mean == pytest.approx(mean, abs=1e-6)
            assert f.init_rule.unit == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, np.inf, np.nan])
def test_an_activation_without_finite_moments_counts_as_the_identity(constant):
    def fill(*arguments):
        arguments[-1].fill(constant)
        return arguments[-1]

    rule = Activation("flat", "", fill, fill, fill).init_rule
    assert (rule.unit, rule.mean) == (1.0, 0.0)


def test_fixed_gains_carry_signals_as_far_as_they_claim(activation_name):
    """Over the data, the last layer varies by a tenth to three of its units; behind 20 layers of
    sigmoid units, glorot leaves 1e-13.
    """
    f = get_activation(activation_name)
    depth = f.init_rule.reach or 20
    for width in (30, 200):
        sizes = (10, *[width] * depth, 1)
        activations = [f] * depth + [get_activation("identity")]
        net = Network(sizes, activations, get_backend("cpu"), "float64")
        theta = draw(sizes, "auto", *[activation_name] * depth)
        x = np.random.default_rng(2).normal(size=(200, 10))
        tape = forward(net, net.views(theta), x)
        deviation = np.sqrt(tape.abar[-1][:, :-1].var(axis=0).mean())
        assert 0.1 < deviation / f.init_rule.unit < 3.0


def test_without_rules_auto_takes_activations_for_neutral():
    assert draw((5, 4, 3), "auto").tobytes() == draw((5, 4, 3), "glorot").tobytes()
