"""Evaluations come early and at growing intervals, and cost no more than their share."""

from itertools import pairwise, takewhile

from hypothesis import given
from hypothesis import strategies as st

from gnopt.training.cadence import AHEAD, Cadence


def until(cadence, last):
    return list(takewhile(lambda update: update <= last, cadence.updates()))


def test_by_default_they_are_early_and_then_a_fifth_apart():
    updates = until(Cadence(50, 0.0), 400)
    assert updates[:12] == [1, 2, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33]
    assert [b - a for a, b in pairwise(updates)][-2:] == [50, 50]


@given(
    every=st.integers(1, 100),
    price=st.floats(0.0, 1e4),
    last=st.integers(1, 3000),
)
def test_the_work_of_evaluations_stays_below_its_share(every, price, last):
    """An evaluation costs the share of ``price`` updates."""
    updates = until(Cadence(every, price), last)
    assert updates == sorted(set(updates))
    for number, update in enumerate(updates, 1):
        assert number * price <= update + AHEAD
    for number, (one, two) in enumerate(pairwise(updates), 2):
        # Only the share makes an interval longer than asked for.
        assert two - one <= every or number * price > two - 1 + AHEAD


@given(every=st.integers(0, 60), price=st.floats(0.0, 50.0), starts=st.lists(st.integers(1, 300)))
def test_asking_update_by_update_gives_the_schedule_in_every_start(every, price, starts):
    cadence = Cadence(every, price)
    for length in starts[:3]:
        asked = [update for update in range(length + 1) if cadence.due(update)]
        assert asked == until(Cadence(every, price), length)
        assert every or not asked
