"""Timers of the phases of an update, and the periods after which its work repeats."""

from contextlib import nullcontext

import numpy as np
import pytest
from reference import host, make_case, optimizer

from gnopt.optimizers import methods
from gnopt.optimizers.timing import PHASES, NullTimer, Stopwatch


class Clock:
    """A clock that stands still until it is told to go on; counts how often work is awaited."""

    def __init__(self):
        self.now, self.waits = 0.0, 0

    def read(self):
        return self.now

    def wait(self):
        self.waits += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock):
    return Stopwatch(clock.wait, clock.read)


def test_seconds_of_a_phase_add_up(clock, watch):
    for seconds in (2.0, 3.0):
        with watch("solve"):
            clock.now += seconds
        clock.now += 100.0  # in no phase
    assert watch.seconds == {"solve": 5.0}


def test_an_inner_phase_is_not_counted_in_the_outer_one(clock, watch):
    with watch("vector"):
        clock.now += 1.0
        with watch("model"):
            clock.now += 10.0
        clock.now += 1.0
        with watch("vector"):
            clock.now += 1.0
        with watch("model"):
            clock.now += 10.0
    assert watch.seconds == {"vector": 3.0, "model": 20.0}


def test_queued_work_is_awaited_at_every_border(clock, watch):
    with watch("vector"), watch("model"):
        assert clock.waits == 2
    assert clock.waits == 4


def test_a_phase_that_raises_is_closed(clock, watch):
    def fail():
        with watch("inverses"):
            clock.now += 4.0
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    with watch("solve"):
        clock.now += 1.0
    assert watch.seconds == {"inverses": 4.0, "solve": 1.0}


def test_reset_forgets_the_seconds(clock, watch):
    with watch("solve"):
        clock.now += 1.0
    watch.reset()
    assert watch.seconds == {}


def test_the_null_timer_makes_no_objects():
    timer = NullTimer()
    with timer("passes") as outer, timer("solve") as inner:
        assert outer is inner is None
    assert timer("passes") is timer("solve")


def steps(case, method_name, timer):
    """θ and the log after three updates under this timer."""
    method = optimizer(case, method_name)
    method.timer = timer
    theta = case.theta.copy()
    state = method.init(theta)
    return theta, [method.update(theta, state, case.x, case.y, k) for k in (1, 2, 3)]


def test_a_stopwatch_changes_no_update(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 12, ops=ops)
    watch = Stopwatch(ops.synchronize)
    theta, log = steps(case, method_name, watch)
    expected, expected_log = steps(case, method_name, NullTimer())
    np.testing.assert_array_equal(host(theta), host(expected))
    np.testing.assert_equal(log, expected_log)
    assert set(watch.seconds) <= set(PHASES)
    assert {"passes", "vector"} <= set(watch.seconds)
    if methods()[method_name].order == 2:
        assert {"statistics", "inverses", "solve", "model"} <= set(watch.seconds)


class Entered:
    """A timer that notes which phases are entered."""

    def __init__(self):
        self.names = []

    def __call__(self, name):
        self.names.append(name)
        return nullcontext()


def test_work_repeats_after_a_period(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 12, ops=ops)
    method = optimizer(case, method_name)
    theta = case.theta.copy()
    state = method.init(theta)
    for k in (1, 2, 3):
        method.update(theta, state, case.x, case.y, k)
    method.timer = timer = Entered()
    taken = []
    for k in range(101, 101 + 2 * method.period()):
        method.skip_to(state, k - 1)
        timer.names.clear()
        method.update(theta, state, case.x, case.y, k)
        taken.append(timer.names.count("statistics"))
    first, second = taken[: method.period()], taken[method.period() :]
    assert first == second
    if hasattr(method.settings, "factor_period"):
        assert sum(first) * method.settings.factor_period == method.period()
