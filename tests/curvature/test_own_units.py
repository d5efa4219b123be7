"""Damping of inputs in units of their own variances: as if the inputs were standardised, where one
amount would kill most of them.
"""

import numpy as np
import pytest
from reference import host

from gnopt.curvature.blocks import Block, KroneckerBlock, LayerPlan, Refresh
from gnopt.curvature.damping import Damping, DampingSettings, fixed
from gnopt.curvature.factors import NOISE, Blocks, Diagonal, Factor, Forms, Full, LowRank
from gnopt.engine.arrays import Backend

RELATIVE = Damping(DampingSettings(damping_rule="relative", damping_a=0.08), 0.0, 1.0)


def moment(x: np.ndarray) -> np.ndarray:
    augmented = np.hstack([x, np.ones((len(x), 1))])
    return augmented.T @ augmented / len(x)


def damped(ops: Backend, A: np.ndarray) -> np.ndarray:
    factor: Factor = Full(ops.asarray(A))
    amount, _ = RELATIVE.of_factors(ops, factor, Full(ops.xp.eye(2)))
    raised, rest = factor.in_own_units(ops, amount, RELATIVE.share_of_inputs, NOISE)
    np.testing.assert_array_equal(host(factor.dense(ops)), A)
    return host(raised.dense(ops)) + host(rest) * np.eye(len(A))


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
    ones = ops.xp.ones
    for A in (Blocks(ones((2, 3, 3)), 6), LowRank(ones((2, 5))), Diagonal(ones(4))):
        raised, rest = A.in_own_units(ops, 2.0, 0.08, NOISE)
        assert raised is A
        assert rest == 2.0


def prepared(ops: Backend, layer: int, damping: Damping) -> np.ndarray:
    """The damped inverse of A that a block makes of inputs of wild scales, as a matrix."""
    x = np.random.default_rng(4).normal(size=(400, 5)) * np.logspace(-3, 3, 5)
    plan = LayerPlan(ops, layer, (2, 6), np.dtype("float64"), Forms())
    block: Block = KroneckerBlock.of_factors(
        plan, Full(ops.asarray(moment(x))), Full(ops.xp.eye(2))
    )
    block.prepare(plan, Refresh(1, plan.period), damping)
    inverse = block.inverse_A.right(ops, ops.xp.eye(6), ops.xp.empty((6, 6)))
    return np.linalg.inv(host(inverse)) - moment(x)


def test_the_relative_rule_alone_has_own_units(ops):
    """For the inputs of every layer; the other rules add one amount."""
    for layer, damping, alike in (
        (1, RELATIVE, False),
        (2, RELATIVE, False),
        (1, fixed(0.3), True),
        (2, fixed(0.3), True),
    ):
        added = np.diag(prepared(ops, layer, damping))
        assert (added.max() - added.min() < 1e-3 * added.max()) == alike
