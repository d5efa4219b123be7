"""The contest of small nets: the problems are what they say, and budgets of seconds hold."""

import numpy as np

from small_nets.contestants import Contest
from small_nets.problems import FUNCTIONS, ROWS, problem


def test_functions_are_drawn_within_their_limits_and_standardised():
    for function in FUNCTIONS:
        x, y = function.draw(200, 3)
        low, high = np.array(function.limits).T
        assert x.shape == (200, len(function.limits))
        assert ((low <= x) & (x <= high)).all()
        assert np.isfinite(y).all()
    found = problem(FUNCTIONS[1])
    assert len(found.x) == ROWS
    np.testing.assert_allclose(found.x.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.y.std(), 1.0)


def test_contestants_start_alike_and_stop_in_time():
    contest = Contest(problem(FUNCTIONS[1]), 0)
    begin = contest.fit(contest.start, 0.0, 0)
    assert contest.gnopt(30).train < 1e-3 * begin.train
    for fit in (contest.gnopt(0), contest.minpack(0.0), contest.lbfgs(0.0)):
        assert (fit.train, fit.steps) == (begin.train, 0)
    for fit in (contest.minpack(0.05), contest.lbfgs(0.05)):
        assert fit.train <= begin.train
