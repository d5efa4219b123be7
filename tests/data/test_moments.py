"""Which inputs are standardised by themselves, and by what; invariance to units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.data.moments import FARTHEST, Moments, moments


def taken(x: np.ndarray, scale: float = 1.0, step: int = 37) -> Moments:
    blocks = (x[start : start + step] for start in range(0, len(x), step))
    return moments(blocks, scale, x.dtype)


def standardized(x: np.ndarray) -> np.ndarray:
    mean, std = taken(x).statistics()
    result: np.ndarray = (x - mean) / std
    return result


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def digits(rng: np.random.Generator) -> np.ndarray:
    """Grey images of 100 pixels: a border of rare faint values, and a pixel that is always 0."""
    x = rng.random((400, 100)) * (rng.random((400, 100)) < 0.4)
    x[:, :40] *= (rng.random((400, 40)) < 0.005) * 0.01
    x[:, 0] = 0.0
    return np.rint(255 * x) / 255


def mixed(rng: np.random.Generator) -> np.ndarray:
    """Standardised numbers, flags of which one is very rare, and one-hot columns."""
    flags = (rng.random((2000, 3)) < [0.5, 0.05, 0.002]).astype(float)
    return np.c_[rng.standard_normal((2000, 4)), flags, np.eye(300)[np.arange(2000) % 300]]


LEFT_ALONE = {
    "standardised": lambda rng: rng.standard_normal((500, 5)),
    "between 0 and 1": lambda rng: rng.random((500, 5)),
    "heavy tails": lambda rng: rng.standard_t(3, (500, 5)),
    "one-hot": lambda rng: np.eye(300)[np.arange(900) % 300],
    "a flag": lambda rng: (rng.random((500, 1)) < 0.99).astype(float),
    "mixed": mixed,
    "images": digits,
    "dark images": lambda rng: np.minimum(1.0, 1e-3 / (1.0 - digits(rng) + 1e-3)),
    "images on white": lambda rng: 1.0 - digits(rng),
    "images of mean 0": lambda rng: (digits(rng) - 0.1307) / 0.3081,
    "zeros": lambda rng: np.zeros((50, 3)),
    "one row": lambda rng: rng.standard_normal((1, 3)),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_left_as_they_are(rng, kind, dtype):
    assert taken(LEFT_ALONE[kind](rng).astype(dtype)).why_standardize() is None


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 0.1, 30.0, 1e12])
def test_one_scale_that_is_bad_for_all(rng, factor):
    assert taken(factor * rng.standard_normal((500, 3))).why_standardize()


ASKING = {
    "a large column": (2, lambda x: 40.0 * x, "root mean square of 40"),
    "a large constant": (1, lambda x: 0.0 * x + 1e6, "root mean square of 1e+06"),
    "a shifted column": (2, lambda x: 5.0 + 0.01 * x, "from its mean of 5"),
    "a column below 0": (0, lambda x: x - 8.0, "from its mean of -8"),
    "another unit": (1, lambda x: 1e-4 * x, "deviates by"),
}


@pytest.mark.parametrize("kind", ASKING)
def test_a_column_that_asks_is_named(rng, kind):
    column, change, words = ASKING[kind]
    x = rng.standard_normal((500, 4))
    x[:, column] = change(x[:, column])
    why = taken(x).why_standardize()
    assert why.startswith(f"column {column} ")
    assert words in why


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_raw_pixels_and_counts_ask(rng, dtype):
    assert taken(rng.integers(0, 256, (200, 20)).astype(dtype)).why_standardize()
    assert taken(rng.integers(0, 256, (200, 20)).astype("u1"), 1 / 255).why_standardize() is None


@given(
    exponents=st.lists(st.integers(-30, 30), min_size=4, max_size=4),
    shifts=st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4),
)
def test_standardised_columns_do_not_depend_on_their_units(exponents, shifts):
    x = np.random.default_rng(1).standard_normal((200, 4))
    x[:, 3] = x[:, 3] > 2.5
    units = 10.0 ** np.array(exponents)
    moved = (x + shifts) * units
    np.testing.assert_allclose(standardized(moved), standardized(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_neither_overflow_nor_vanish(rng, size):
    x = rng.standard_normal((100, 2))
    np.testing.assert_allclose(standardized(size * x), standardized(x), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, 1e6, -1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_column_becomes_0(value, dtype):
    x = np.full((1000, 1), value, dtype)
    assert (standardized(x) == 0.0).all()


@pytest.mark.parametrize("value", [0.1, 1e-12, 1e6, -1e30])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounding_is_not_made_an_input(rng, value, dtype):
    if np.abs(value) > np.finfo(dtype).max or np.abs(value) < np.finfo(dtype).tiny:
        return
    x = np.full((1000, 1), value, dtype)
    x = np.where(rng.random(x.shape) < 0.5, x, np.nextafter(x, np.dtype(dtype).type(np.inf)))
    assert np.abs(standardized(x)).max() < 2e-3


def test_times_of_one_minute_in_seconds_are_an_input(rng):
    x = 1.7e9 + np.rint(60 * rng.random((500, 1)))
    assert taken(x).why_standardize()
    z = standardized(x)
    np.testing.assert_allclose([z.mean(), z.std()], [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("rows", [100, 10_000, 100_000])
def test_a_rare_value_is_not_far_from_0(rows):
    x = np.zeros((rows, 2))
    x[7] = 1.0, 1e9
    z = standardized(x)
    assert np.abs(z).max() <= FARTHEST * (1 + 1e-12)
    assert z[7].min() > 9.0
