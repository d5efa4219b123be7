"""Random numbers on the device equal those of NumPy's Philox on the host, from any position of its
stream.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnopt import rng
from gnopt.engine.arrays.cupy import _move, _position
from gnopt.engine.arrays.numpy import NumpyBackend

CPU = NumpyBackend()
DRAWS = ("uniform", "rademacher", "normal")
SHAPES = st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple)


def pair(seed=3):
    return rng.generator(seed, "random", 5), rng.generator(seed, "random", 5)


def same(cuda, name, here, there, shape, dtype):
    expected = getattr(CPU, name)(here, shape, dtype)
    found = cuda.to_host(getattr(cuda, name)(there, shape, dtype))
    assert found.shape == shape
    assert found.dtype == np.dtype(dtype)
    if name == "normal":  # as far as logarithm and cosine agree
        np.testing.assert_allclose(
            found, expected, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-7
        )
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", DRAWS)
def test_they_are_those_of_the_host(cuda, counters, name, dtype_name):
    here, there = pair()
    for shape in ((4, 6), (8,), (16, 2)):  # whole numbers of 64 bits: nothing is left over
        counters.reset()
        same(cuda, name, here, there, shape, dtype_name)
        assert counters.h2d == 0
    assert here.random() == there.random()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    draws=st.lists(
        st.tuples(st.sampled_from(DRAWS), SHAPES, st.sampled_from(["float32", "float64"])),
        max_size=6,
    )
)
def test_any_sequence_of_draws(cuda, draws):
    here, there = pair()
    for name, shape, dtype in draws:
        same(cuda, name, here, there, shape, dtype)
    assert here.random() == there.random()
    assert here.random(dtype=np.float32) == there.random(dtype=np.float32)


@given(st.integers(8, 300))
def test_a_generator_is_moved_to_where_drawing_would_have_taken_it(position):
    drawn, moved = pair()
    drawn.random(position - 8, dtype=np.float32)
    assert _position(drawn) == position
    _move(moved, position)
    np.testing.assert_array_equal(
        moved.random(9, dtype=np.float32), drawn.random(9, dtype=np.float32)
    )


def test_other_generators_draw_on_the_host(cuda, counters, dtype_name):
    for name in DRAWS:
        counters.reset()
        same(cuda, name, np.random.default_rng(5), np.random.default_rng(5), (4, 3), dtype_name)
        assert counters.h2d == 1


def test_normal_numbers_are_normal(dtype_name):
    from scipy.stats import kstest

    z = CPU.normal(rng.generator(0, "normal"), (100001,), dtype_name)
    assert z.dtype == np.dtype(dtype_name)
    assert np.isfinite(z).all()
    assert kstest(z.astype(np.float64), "norm").pvalue > 1e-3
    halves = np.split(z[:-1], 2)
    assert abs(np.corrcoef(*halves)[0, 1]) < 0.02
    assert abs(np.corrcoef(*(h * h for h in halves))[0, 1]) < 0.02
