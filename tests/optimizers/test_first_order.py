"""Ten steps of every first-order method against its recursion, with a gradient written out by
hand.
"""

import itertools

import numpy as np
import pytest
from reference import case_of, close, host, settings
from reference import optimizer as build

from gnopt.errors import Diverged
from gnopt.optimizers import methods
from gnopt.optimizers.schedules import SCHEDULES, learning_rate

FIRST_ORDER = [name for name, method in methods().items() if method.order == 1]
STEPS = 10


@pytest.fixture
def problem(ops):
    """Linear regression: a net without a hidden layer, and ten batches of the host."""
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((7, 3)), rng.standard_normal((7, 2))) for _ in range(STEPS)]
    return case_of((3, 2), (), "squared_error", *batches[0], ops=ops), batches


def gradient(theta, x, y):
    """∇ of the mean of ½ ‖W ā − y‖², on the host."""
    abar = np.c_[x, np.ones(len(x))]
    return ((abar @ theta.reshape(2, 4).T - y).T @ abar / len(x)).ravel()


def rate_at(s, k):
    if s.decay_period == 0:
        return s.learning_rate
    done = (k - 1) / s.decay_period
    return (
        s.learning_rate
        * {
            "halving": 0.5 ** np.floor(done),
            "exponential": 0.5**done,
            "cosine": 0.5 * (1 + np.cos(np.pi * min(done, 1.0))),
        }[s.schedule]
    )


def recursion(name, s, theta, batches):
    """The iterates θ_1, θ_2, ..., by the formulas of the papers."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for k, (x, y) in enumerate(batches, start=1):
        g, rate = gradient(theta, x, y) + s.weight_decay * theta, rate_at(s, k)
        if name == "sgd":
            theta = theta - rate * g
        elif name == "momentum":
            m = s.momentum * m - rate * g
            theta = theta + m
        elif name == "nesterov":
            mu = s.momentum
            if s.warmup:
                mu = min(1.0 - 2.0 ** (-1.0 - np.log2((k - 1) // 250 + 1)), mu)
            m = mu * m - rate * g
            theta = theta + mu * m - rate * g
        elif name == "adam":
            m = s.beta1 * m + (1.0 - s.beta1) * g
            v = s.beta2 * v + (1.0 - s.beta2) * g**2
            m_hat, v_hat = m / (1.0 - s.beta1**k), v / (1.0 - s.beta2**k)
            theta = theta - rate * m_hat / (np.sqrt(v_hat) + s.epsilon)
        else:
            pytest.skip("no recursion by this name")
        yield theta.copy()


VARIATIONS = [
    {},
    {"learning_rate": 0.2},
    {"decay_period": 3},
    {"weight_decay": 0.1},
    {"averaging": 0.6},
    {"momentum": 0.5},
    {"momentum": 0.0},
    {"warmup": True},
    {"warmup": True, "momentum": 0.3},
    {"beta1": 0.5, "beta2": 0.7, "epsilon": 1e-3},
    {"beta1": 0.0},
    *({"schedule": schedule, "decay_period": 4, "weight_decay": 0.01} for schedule in SCHEDULES),
]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (name, changes)
        for name in FIRST_ORDER
        for changes in VARIATIONS
        if set(changes) <= set(settings(name).values())
    ],
    ids=str,
)
def test_ten_steps(ops, name, changes, problem):
    case, batches = problem
    s = settings(name, **changes)
    optimizer, theta = build(case, name, s), case.theta.copy()
    state, average, before = optimizer.init(theta), None, host(case.theta)
    steps = zip(recursion(name, s, before, batches), batches, strict=True)
    for k, (expected, (x, y)) in enumerate(steps, start=1):
        stats = optimizer.update(theta, state, ops.asarray(x), ops.asarray(y), k)
        close(theta, expected, 1e-13)
        g = gradient(before, x, y) + s.weight_decay * before
        loss = 0.5 * ((np.c_[x, np.ones(7)] @ before.reshape(2, 4).T - y) ** 2).sum() / 7
        assert stats["loss"] == pytest.approx(
            loss, rel=1e-13
        )  # before the update, without the penalty
        assert stats["grad_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-12)
        assert stats["step_norm"] == pytest.approx(np.linalg.norm(expected - before), rel=1e-9)
        assert stats["lr"] == pytest.approx(rate_at(s, k), rel=1e-15)
        if s.averaging != "auto":
            share = min(s.averaging, 1.0 - 1.0 / k)
            average = expected if average is None else share * average + (1.0 - share) * expected
            close(optimizer.candidates(theta, state)[-1], average, 1e-13)
        else:
            assert optimizer.candidates(theta, state)[-1] is theta
        before = expected


def test_momentum_rises_every_250_updates(ops, problem):
    """μ = ½, ¾, ⅚, ⅞, ... up to its value (Sutskever et al. 2013)."""
    case, batches = problem
    s = settings("nesterov", warmup=True, momentum=0.9, learning_rate=0.1)
    for step, mu in (
        (1, 1 / 2),
        (250, 1 / 2),
        (251, 3 / 4),
        (500, 3 / 4),
        (501, 5 / 6),
        (751, 7 / 8),
        (10**6, 0.9),
    ):
        optimizer, theta = build(case, "nesterov", s), case.theta.copy()
        state = optimizer.init(theta)
        before = np.linspace(-1.0, 1.0, 8)
        state.moments[0][...] = ops.asarray(before)
        optimizer.update(theta, state, case.x, case.y, step)
        g = gradient(host(case.theta), *batches[0])
        m = mu * before - 0.1 * g
        close(state.moments[0], m, 1e-13)
        close(theta, host(case.theta) + mu * m - 0.1 * g, 1e-13)


def test_adam_moves_by_the_rate_at_first(problem):
    case, _ = problem
    optimizer, theta = build(case, "adam", settings("adam", learning_rate=0.01)), case.theta.copy()
    optimizer.update(theta, optimizer.init(theta), case.x, case.y, 1)
    np.testing.assert_allclose(np.abs(host(theta - case.theta)), 0.01, rtol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule):
    rates = [learning_rate(0.8, schedule, 10, k) for k in range(1, 42)]
    assert rates[0] == 0.8
    assert all(a >= b for a, b in itertools.pairwise(rates))
    assert all(learning_rate(0.8, schedule, 0, k) == 0.8 for k in (1, 5, 1000))
    if schedule == "halving":
        assert [rates[k] for k in (0, 9, 10, 19, 20, 30)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1]
    if schedule == "exponential":
        assert rates[10] == pytest.approx(0.4)
        assert rates[20] == pytest.approx(0.2)
    if schedule == "cosine":
        assert rates[5] == pytest.approx(0.4)
        assert rates[10:] == pytest.approx([0.0] * 31, abs=1e-16)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_divergence_is_reported_with_the_rate(name, problem):
    case, _ = problem
    optimizer, theta = build(case, name, settings(name, learning_rate=1e200)), case.theta.copy()
    state = optimizer.init(theta)
    with pytest.raises(Diverged, match=r"learning_rate.*1e"), np.errstate(all="ignore"):
        for k in range(1, 20):
            optimizer.update(theta, state, case.x, case.y, k)
            theta *= 1e200  # Adam's steps are bounded; the weights need not be
