"""Learning-rate schedules: a pure function of the update's number, so there is nothing to save."""

from __future__ import annotations

from math import cos, pi

SCHEDULES = {
    "halving": "halved every decay_period updates (0 = never)",
    "exponential": "multiplied by 0.5^(k / decay_period), smoothly",
    "cosine": "half a cosine from the initial rate to zero over decay_period updates, then zero",
}


def learning_rate(initial: float, schedule: str, period: int, step: int) -> float:
    """Return the rate of update ``step`` = 1, 2, ...; ``period`` 0 keeps it constant.

    >>> [learning_rate(0.8, "halving", 2, step) for step in range(1, 6)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """
    if period == 0:
        return initial
    done = step - 1
    if schedule == "halving":
        return float(initial * 0.5 ** (done // period))
    if schedule == "exponential":
        return float(initial * 0.5 ** (done / period))
    return initial * 0.5 * (1.0 + cos(pi * min(done / period, 1.0)))
