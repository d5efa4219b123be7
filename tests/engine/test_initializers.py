"""Initial weights: layout, scale, repetition."""

import numpy as np
import pytest
from reference import network

from gnopt import rng
from gnopt.engine.initializers import INITIALIZERS, initialize
from gnopt.errors import ConfigError

VARIANCE = {
    "glorot": lambda d_in, d_out: 2.0 / (d_in + d_out),
    "he": lambda d_in, d_out: 2.0 / d_in,
    "lecun": lambda d_in, d_out: 1.0 / d_in,
    "sparse": lambda d_in, d_out: 15.0 / d_in,
}


@pytest.mark.parametrize("name", INITIALIZERS)
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
