"""Damping of inputs in units of their own variances: as if the inputs were standardised, where one
amount would kill most of them.
"""

import numpy as np
import pytest
from reference import host

from gnopt.engine.arrays import Backend
from gnopt.optimizers.damping import factor_damping, own_units

SETTINGS = {"damping_rule": "relative", "damping_a": 0.08, "damping_g": 1.5}


def moment(x: np.ndarray) -> np.ndarray:
    augmented = np.hstack([x, np.ones((len(x), 1))])
    return augmented.T @ augmented / len(x)


def damped(ops: Backend, A: np.ndarray) -> np.ndarray:
    there = ops.asarray(A)
    amount, _ = factor_damping(ops, SETTINGS, there, ops.xp.eye(2), 1.0, 1.0)
    raised, rest = own_units(ops, there, amount, SETTINGS["damping_a"])
    return host(raised) + host(rest) * np.eye(len(A))


@pytest.mark.parametrize("means", [0.0, 10.0])
def test_scales_and_shifts_of_inputs_drop_out(ops, means):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 9)) @ rng.normal(size=(9, 9))
    wild = (x + means * np.arange(9)) * np.logspace(-3, 3, 9)
    standard = (wild - wild.mean(axis=0)) / wild.std(axis=0)
    T = np.block(
        [
            [np.diag(1 / wild.std(axis=0)), -(wild.mean(axis=0) / wild.std(axis=0))[:, None]],
            [np.zeros((1, 9)), np.ones((1, 1))],
        ]
    )
    expected = moment(standard) + 0.08 * np.eye(10)
    np.testing.assert_allclose(T @ damped(ops, moment(wild)) @ T.T, expected, rtol=1e-8, atol=1e-8)


def test_large_means_count_as_large_scales(ops):
    x = np.random.default_rng(1).normal(size=(400, 4)) + np.array([2000.0, 0.0, 50.0, -300.0])
    A = moment(x)
    unit = 0.08 * (np.diag(np.append(x.var(axis=0), 0.0)) + np.outer(A[:, -1], A[:, -1]))
    np.testing.assert_allclose(damped(ops, A), A + unit, rtol=2e-2)


def test_comparable_inputs_are_damped_by_one_amount(ops):
    x = np.random.default_rng(2).normal(size=(300, 6)) * np.array([1.0, 0.5, 0.1, 2.0, 1.0, 0.0])
    A = moment(x)
    np.testing.assert_array_equal(damped(ops, A), A + 0.08 * np.trace(A) / 7 * np.eye(7))


def test_dead_inputs_and_float32_stay_positive_definite(ops):
    x = np.random.default_rng(3).normal(size=(300, 8)) * np.logspace(-2, 3, 8)
    x[:, 2], x[:, 5] = 0.0, 7.0
    np.linalg.cholesky(damped(ops, moment(x).astype(np.float32)))


def test_factors_that_are_not_full_are_left_alone(ops):
    blocks, rows = ops.xp.ones((2, 3, 3)), {"rows": ops.xp.ones((2, 3))}
    for A in (blocks, rows):
        raised, rest = own_units(ops, A, 2.0, 0.08)
        assert raised is A and rest == 2.0
