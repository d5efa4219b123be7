"""Damping of inputs in units of their own variances: as if the inputs were standardised, where one amount would kill
most of them."""

import numpy as np
import pytest

from gnopt.engine.backend import get_backend
from gnopt.optimizers.damping import factor_damping, own_units

SETTINGS = {"damping_rule": "relative", "damping_a": 0.08, "damping_g": 1.5}


def moment(x: np.ndarray) -> np.ndarray:
    augmented = np.hstack([x, np.ones((len(x), 1))])
    return augmented.T @ augmented / len(x)


def damped(A: np.ndarray) -> np.ndarray:
    ops = get_backend("cpu")
    amount, _ = factor_damping(ops, SETTINGS, A, np.eye(2), 1.0, 1.0)
    raised, rest = own_units(ops, A, amount, SETTINGS["damping_a"])
    return raised + rest * np.eye(len(A))


@pytest.mark.parametrize("means", [0.0, 10.0])
def test_scales_and_shifts_of_inputs_drop_out(means):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 9)) @ rng.normal(size=(9, 9))
    wild = (x + means * np.arange(9)) * np.logspace(-3, 3, 9)
    standard = (wild - wild.mean(axis=0)) / wild.std(axis=0)
    T = np.block([[np.diag(1 / wild.std(axis=0)), -(wild.mean(axis=0) / wild.std(axis=0))[:, None]],
                  [np.zeros((1, 9)), np.ones((1, 1))]])
    expected = moment(standard) + 0.08 * np.eye(10)
    np.testing.assert_allclose(T @ damped(moment(wild)) @ T.T, expected, rtol=1e-8, atol=1e-8)


def test_large_means_count_as_large_scales():
    x = np.random.default_rng(1).normal(size=(400, 4)) + np.array([2000.0, 0.0, 50.0, -300.0])
    A = moment(x)
    unit = 0.08 * (np.diag(np.append(x.var(axis=0), 0.0)) + np.outer(A[:, -1], A[:, -1]))
    np.testing.assert_allclose(damped(A), A + unit, rtol=2e-2)


def test_comparable_inputs_are_damped_by_one_amount():
    x = np.random.default_rng(2).normal(size=(300, 6)) * np.array([1.0, 0.5, 0.1, 2.0, 1.0, 0.0])
    A = moment(x)
    np.testing.assert_array_equal(damped(A), A + 0.08 * np.trace(A) / 7 * np.eye(7))


def test_dead_inputs_and_float32_stay_positive_definite():
    x = np.random.default_rng(3).normal(size=(300, 8)) * np.logspace(-2, 3, 8)
    x[:, 2], x[:, 5] = 0.0, 7.0
    np.linalg.cholesky(damped(moment(x).astype(np.float32)))


def test_factors_that_are_not_full_are_left_alone():
    blocks, rows = np.ones((2, 3, 3)), {"rows": np.ones((2, 3))}
    assert own_units(get_backend("cpu"), blocks, 2.0, 0.08) == (blocks, 2.0)
    assert own_units(get_backend("cpu"), rows, 2.0, 0.08) == (rows, 2.0)
