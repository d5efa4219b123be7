"""A run stops by patience, or where it has converged."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnopt.settings import TrainingSettings
from gnopt.training.stopping import GRACE, STILL, Ends, Patience, Stillness, stop


@given(
    factor=st.floats(0.5, 5.0),
    begun=st.integers(0, 500),
    losses=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    every=st.integers(1, 9),
)
def test_patience_is_over_at_the_first_evaluation_that_late(factor, begun, losses, every):
    patience = Patience()
    patience.observe(max(1, begun // 2), (-1.0, -1.0), True)  # a better loss in an earlier start
    patience.start_again(begun)
    for number, loss in enumerate(losses, 1):
        patience.observe(begun + number * every, (float(loss), float(loss)), True)
        best = (1 + int(np.argmin(losses[:number]))) * every
        assert patience.over(factor) == (number * every >= factor * best + GRACE)
        assert not patience.over(0.0)


def test_a_start_that_has_not_left_the_constant_is_not_stopped():
    patience = Patience()
    patience.observe(0, (1.0, 1.0), False)
    patience.observe(40, (1.5, 1.5), False)
    assert not patience.over(2.0)
    patience.observe(41, (1.5, 1.5), True)
    assert patience.over(2.0)


def test_of_equally_good_networks_the_one_of_lower_loss_is_the_best():
    """With an undefined metric, whose cost is infinite, the loss decides alone."""
    for cost in (-0.9, inf):
        patience = Patience()
        for step, loss in enumerate((3.0, 2.0, 2.5), 1):
            patience.observe(step, (cost, loss), True)
        assert patience.best_step == 2
        patience.observe(2 * 2 + GRACE, (cost, 2.0), True)
        assert patience.over(2.0)


def outcome(losses, norms, rounding=1e-7, weights=1.0):
    stillness = Stillness()
    for number, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1):
        if stillness.observe(loss, norm, rounding):
            stillness.conclude(weights, rounding)
        if stillness.converged:
            return number
    return None


@pytest.mark.parametrize("loss", [0.0, 3.5, -2.0])
def test_a_run_whose_loss_and_weights_stand_still_has_converged(loss):
    count = 4 * STILL
    assert outcome([loss] * count, [1e-9] * count) == STILL + 1
    assert outcome([loss] * count, [1e-3] * count) is None  # weights that move
    assert outcome([loss + 1e-3 * k for k in range(count)], [1e-9] * count) is None
    broken = [loss + (k % STILL == STILL - 1) for k in range(count)]
    assert outcome(broken, [1e-9] * count) is None


def test_the_budget_stops_without_patience():
    ends = Ends(Patience(0, 1.0, 1.0, 1, 900, True), Stillness(converged=True))
    settings = TrainingSettings(updates=1000, max_seconds=60.0)
    assert stop(ends, settings, 900, 1.0).reason == "patience"
    assert stop(Ends(stillness=ends.stillness), settings, 900, 1.0).reason == "converged"
    never = settings.changed(patience=0.0)
    assert stop(ends, never, 900, 1.0) is None
    assert stop(ends, never, 1000, 1.0).reason == "updates"
    assert stop(ends, never, 900, 60.0).reason == "max_seconds"
    for settled in (settings, never):
        found = stop(ends, settled, 1000, 60.0)
        assert len(found.text) <= 80
