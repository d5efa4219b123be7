"""Long passes over the data are spoken of, others are not."""

from __future__ import annotations

import itertools

import pytest

from gnopt.notes import note, only_notes, passing, shown_by


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 0), (0.01, 0), (1.0, 4), (40.0, 51)])
def test_a_pass_is_spoken_of_at_growing_intervals(seconds, lines):
    """100 pieces, each of so many seconds: after more than 5, 10, 20, 40, 60, 60, ... of them."""
    clock = itertools.count(0.0, seconds).__next__
    said: list[str] = []
    with shown_by(said.append):
        starts = list(passing(range(0, 1_000_000, 10_000), "reading y", clock))
    assert starts == list(range(0, 1_000_000, 10_000))
    assert len(said) == lines
    if said:
        assert said[0].startswith("reading y: ")
        assert said[0].endswith(" % of 1,000,000 rows")


def test_quiet_leaves_notes():
    said: list[str] = []
    clock = itertools.count(0.0, 100.0).__next__
    with shown_by(said.append):
        only_notes()
        list(passing(range(0, 50, 10), "reading y", clock))
        note("a file is damaged")
    assert said == ["a file is damaged"]
