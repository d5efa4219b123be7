"""The phases together are the update, number for number."""

import copy

import numpy as np
import pytest

from gnopt.benchmark.clock import Clock
from gnopt.benchmark.phases import PHASES, driver
from gnopt.benchmark.problems import (
    QUICK,
    SPECIAL,
    Variant,
    batch,
    chosen,
    experiment,
    optimizer,
    variants,
)
from gnopt.benchmark.rounds import Row, summarise
from gnopt.benchmark.rounds import Sample as Measured
from gnopt.benchmark.subjects import Subject
from gnopt.errors import ConfigError
from gnopt.optimizers.conjugate_gradient import GaussNewtonCG


@pytest.fixture(scope="module")
def base():
    found = experiment(QUICK["mnist10k"])
    yield found
    found.data.close()


def one(base, name, settings=None):
    """θ and state after three updates, and the batch of the fourth."""
    variant = variants()[name]
    method = optimizer(
        base,
        QUICK["mnist10k"],
        Variant(name, variant.method, {**variant.settings, **(settings or {})}),
    )
    theta = base.initial_weights()
    state = method.init(theta)
    for step in range(1, 4):
        method.update(theta, state, *batch(base, 64 * step, 64), step)
    return method, theta, state, batch(base, 1000, 64)


NAMES = [
    name for name in variants() if name not in ("gauss_newton", "hessian_free", "kflr", "kflr-full")
]


@pytest.mark.parametrize("name", [*NAMES, "kfra with lm", "kfra with averaging"])
def test_phases_do_what_the_update_does(base, name):
    settings = {
        "kfra with lm": {"damping_rule": "lm", "damping_period": 1},
        "kfra with averaging": {"averaging": 0.9},
    }.get(name)
    method, theta, state, (x, y) = one(base, name.split()[0], settings)
    other, other_state = theta.copy(), copy.deepcopy(state)
    expected = method.update(theta, state, x, y, 4)
    clock = Clock()
    found = driver(method)(method, clock, other, other_state, x, y, 4)
    np.testing.assert_array_equal(other, theta)
    assert set(clock.seconds) <= set(PHASES) and min(clock.seconds.values()) >= 0.0
    for key in ("loss", "grad_norm", "step_norm"):
        assert found[key] == expected[key]


@pytest.mark.parametrize("name", ["gauss_newton", "hessian_free"])
def test_conjugate_gradients_in_phases(base, name):
    method, theta, state, (x, y) = one(base, name)
    assert isinstance(method, GaussNewtonCG)
    clock = Clock()
    found = driver(method)(method, clock, theta.copy(), state, x, y, 4)
    expected = method.update(theta, state, x, y, 4)
    assert {"forward", "backward", "factors", "solve", "model", "search", "vector"} <= set(
        clock.seconds
    )
    assert found["iterations"] == expected["iterations"] and found["loss"] == expected["loss"]


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'kfra'"):
        chosen(["kfrs"], QUICK["mnist10k"], slow=False)
    slow = {v.name for v in SPECIAL if v.slow}
    assert not slow & {v.name for v in chosen([], QUICK["mnist10k"], slow=False)}
    assert "kflr" in {v.name for v in chosen([], QUICK["classifier"], slow=False)}


def test_averages_over_a_cycle_and_ratios():
    class Fixed(Subject):
        name, cycle = "fixed", 2
        floor = {"forward": 1e9, "inverses": 2e9}

    # Inverses in every second update; the rate halves in between, and the times double with it.
    samples = [
        Measured(
            i % 2,
            rate,
            1.0,
            {
                "forward": 100.0 / rate,
                "inverses": (800.0 if i % 2 else 0.0) / rate,
                "update": (900.0 if i % 2 else 100.0) / rate,
            },
        )
        for i, rate in enumerate((100.0, 100.0, 50.0, 50.0, 100.0, 100.0))
    ]
    row: Row = summarise(Fixed(), samples)
    assert row.figures["forward"].ratio == pytest.approx(100.0)
    assert row.figures["inverses"].ratio == pytest.approx(
        200.0
    )  # 800 every other time, 2 on average as the least
    assert row.figures["inverses"].seconds == pytest.approx(4.0)
    assert row.figures["update"].flops == pytest.approx(3e9)
    assert row.figures["update"].ratio == pytest.approx(row.figures["sum"].ratio)
