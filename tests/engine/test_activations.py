"""Every activation: f, f' and f'' against jax, in place, at the ends of the range, at zero."""

import warnings

import jax
import numpy as np
import pytest
from reference import ACTIVATIONS, activation, host, same

from gnopt.engine.activations import get_activation

HALF = np.geomspace(1e-6, 30.0, 60)
GRID = np.concatenate([-HALF, HALF, [-700.0, -45.0, 45.0, 700.0]])


def evaluate(ops, f, h):
    """a, f' and f'' by the package at an array of the host, each into arrays of its own."""
    h = ops.asarray(h)
    a = f.f(ops, h.copy(), ops.xp.full_like(h, np.nan))
    return tuple(map(host, (a, f.df(ops, h, a, ops.xp.full_like(h, np.nan)), f.d2f(ops, h, a))))


def test_values_and_derivatives(ops, activation_name):
    f, truth = get_activation(activation_name), activation(activation_name)
    tolerance = 1e-12 if activation_name in ACTIVATIONS else 1e-7
    expected = truth, jax.grad(truth), jax.grad(jax.grad(truth))
    for actual, function in zip(evaluate(ops, f, GRID), expected, strict=True):
        np.testing.assert_allclose(actual, jax.vmap(function)(GRID), rtol=tolerance, atol=tolerance)


def test_output_may_be_the_input(ops, activation_name, dtype_name):
    f, h = get_activation(activation_name), ops.asarray(GRID, dtype=dtype_name)
    a, slope, _ = evaluate(ops, f, h)
    aliased = h.copy()
    assert f.f(ops, aliased, aliased) is aliased
    same(aliased, a)
    out = ops.xp.empty_like(h)
    assert f.df(ops, h, ops.asarray(a), out) is out
    same(out, slope)


def test_output_may_be_a_column_slice(ops, activation_name):
    f, h = get_activation(activation_name), ops.asarray(GRID[:120].reshape(12, 10))
    wide = ops.xp.zeros((12, 11))
    wide[:, :-1] = h
    f.f(ops, wide[:, :-1], wide[:, :-1])
    same(wide[:, :-1], evaluate(ops, f, h)[0])
    same(wide[:, -1], 0.0)


def test_derivatives_leave_their_arguments_alone(ops, activation_name):
    f, h = get_activation(activation_name), ops.asarray(GRID.copy())
    kept, slope, curve = evaluate(ops, f, h)
    a = ops.asarray(kept.copy())
    for given in (h, None) if f.from_output else (h,):
        same(f.df(ops, given, a, ops.xp.empty_like(a)), slope)
        same(f.d2f(ops, given, a), curve)
    same(h, GRID)
    same(a, kept)


def test_finite_without_warnings_far_out(ops, activation_name, dtype_name):
    h = np.array(
        [-1e4, -800.0, -100.0, -90.0, -1e-30, 0.0, 1e-30, 90.0, 100.0, 800.0, 1e4], dtype=dtype_name
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in evaluate(ops, get_activation(activation_name), h):
            assert array.dtype == h.dtype
            assert array.shape == h.shape
            assert np.isfinite(array).all()


def test_single_precision_follows_double(ops, activation_name):
    f, h = get_activation(activation_name), np.linspace(-20.0, 20.0, 301)
    for single, double in zip(
        evaluate(ops, f, h.astype(np.float32)), evaluate(ops, f, h), strict=True
    ):
        np.testing.assert_allclose(single, double, rtol=2e-6, atol=4e-6)


def test_piecewise_linear_means_no_second_derivative(ops, activation_name):
    f = get_activation(activation_name)
    _, slope, curve = evaluate(ops, f, GRID)
    assert f.piecewise_linear == (not curve.any())
    if f.piecewise_linear:
        assert set(np.round(slope, 12)) <= {slope[0], slope[-1]}


def test_slope_at_the_kink_is_the_left_one(ops, activation_name):
    f = get_activation(activation_name)
    for zero in (0.0, -0.0):
        _, slope, curve = evaluate(ops, f, np.array([zero]))
        _, left, left_curve = evaluate(ops, f, np.array([-1e-12]))
        np.testing.assert_allclose(slope, left, atol=1e-11)
        np.testing.assert_allclose(curve, left_curve, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("identity", 1.0)]
)
def test_convention_at_zero(ops, name, slope):
    a, df, d2f = evaluate(ops, get_activation(name), np.zeros(3))
    np.testing.assert_array_equal(a, 0.0)
    np.testing.assert_array_equal(df, slope)
    np.testing.assert_array_equal(d2f, 0.0)


def test_says_what_it_is(activation_name):
    f = get_activation(activation_name)
    assert f.name == activation_name
    assert f.summary
