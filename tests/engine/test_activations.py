"""Every activation: f, f' and f'' against jax, in place, at the ends of the range, at zero."""

import warnings

import jax
import numpy as np
import pytest
from reference import ACTIVATIONS, OPS, activation

from gnopt.engine.activations import get_activation

HALF = np.geomspace(1e-6, 30.0, 60)
GRID = np.concatenate([-HALF, HALF, [-700.0, -45.0, 45.0, 700.0]])


def evaluate(f, h):
    """a, f' and f'' by the package, each into arrays of its own."""
    a = f.f(OPS, h.copy(), np.full_like(h, np.nan))
    return a, f.df(OPS, h, a, np.full_like(h, np.nan)), f.d2f(OPS, h, a)


def test_values_and_derivatives(activation_name):
    f, truth = get_activation(activation_name), activation(activation_name)
    tolerance = 1e-12 if activation_name in ACTIVATIONS else 1e-7
    expected = truth, jax.grad(truth), jax.grad(jax.grad(truth))
    for actual, function in zip(evaluate(f, GRID), expected, strict=True):
        np.testing.assert_allclose(actual, jax.vmap(function)(GRID), rtol=tolerance, atol=tolerance)


def test_output_may_be_the_input(activation_name, dtype_name):
    f, h = get_activation(activation_name), GRID.astype(dtype_name)
    a, slope, _ = evaluate(f, h)
    aliased = h.copy()
    assert f.f(OPS, aliased, aliased) is aliased
    np.testing.assert_array_equal(aliased, a)
    out = np.empty_like(h)
    assert f.df(OPS, h, a, out) is out
    np.testing.assert_array_equal(out, slope)


def test_output_may_be_a_column_slice(activation_name):
    f, h = get_activation(activation_name), GRID[:120].reshape(12, 10)
    wide = np.zeros((12, 11))
    wide[:, :-1] = h
    f.f(OPS, wide[:, :-1], wide[:, :-1])
    np.testing.assert_array_equal(wide[:, :-1], evaluate(f, h)[0])
    np.testing.assert_array_equal(wide[:, -1], 0.0)


def test_derivatives_leave_their_arguments_alone(activation_name):
    f, h = get_activation(activation_name), GRID.copy()
    a, slope, curve = evaluate(f, h)
    kept = a.copy()
    for given in (h, None) if f.from_output else (h,):
        np.testing.assert_array_equal(f.df(OPS, given, a, np.empty_like(a)), slope)
        np.testing.assert_array_equal(f.d2f(OPS, given, a), curve)
    np.testing.assert_array_equal(h, GRID)
    np.testing.assert_array_equal(a, kept)


def test_finite_without_warnings_far_out(activation_name, dtype_name):
    h = np.array([-1e4, -800.0, -100.0, -90.0, -1e-30, 0.0, 1e-30, 90.0, 100.0, 800.0, 1e4], dtype=dtype_name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in evaluate(get_activation(activation_name), h):
            assert array.dtype == h.dtype
            assert array.shape == h.shape
            assert np.isfinite(array).all()


def test_single_precision_follows_double(activation_name):
    f, h = get_activation(activation_name), np.linspace(-20.0, 20.0, 301)
    for single, double in zip(evaluate(f, h.astype(np.float32)), evaluate(f, h), strict=True):
        np.testing.assert_allclose(single, double, rtol=2e-6, atol=4e-6)


def test_piecewise_linear_means_no_second_derivative(activation_name):
    f = get_activation(activation_name)
    _, slope, curve = evaluate(f, GRID)
    assert f.piecewise_linear == (not curve.any())
    if f.piecewise_linear:
        assert set(np.round(slope, 12)) <= {slope[0], slope[-1]}


def test_slope_at_the_kink_is_the_left_one(activation_name):
    f = get_activation(activation_name)
    for zero in (0.0, -0.0):
        _, slope, curve = evaluate(f, np.array([zero]))
        _, left, left_curve = evaluate(f, np.array([-1e-12]))
        np.testing.assert_allclose(slope, left, atol=1e-11)
        np.testing.assert_allclose(curve, left_curve, atol=1e-11)


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("identity", 1.0)])
def test_convention_at_zero(name, slope):
    a, df, d2f = evaluate(get_activation(name), np.zeros(3))
    np.testing.assert_array_equal(a, 0.0)
    np.testing.assert_array_equal(df, slope)
    np.testing.assert_array_equal(d2f, 0.0)


def test_says_what_it_is(activation_name):
    f = get_activation(activation_name)
    assert f.name == activation_name
    assert f.summary
