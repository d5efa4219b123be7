"""Functions without noise that small nets fit: sinc and ten formulas of the Feynman lectures.

The formulas and the limits of their variables are those of Udrescu & Tegmark (2020). Which ten, was
decided before any of them was run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Limits = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Function:
    """A formula of the columns of x, the limits from which these are drawn, and the hidden layers
    and updates of a run.
    """

    name: str
    formula: Callable[..., np.ndarray]
    limits: Limits
    hidden: tuple[int, ...] = (12, 12)
    updates: int = 150
    standardise: bool = True

    def draw(self, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return x (rows, D) and y (rows, 1)."""
        low, high = np.array(self.limits).T
        x = np.random.default_rng(seed).uniform(low, high, (rows, len(low)))
        return x, self.formula(*x.T)[:, None]


def _between(low: float, high: float, variables: int) -> Limits:
    return ((low, high),) * variables


FUNCTIONS = [
    Function(
        "sinc", lambda x: np.sinc(10.0 * x), ((-1.0, 1.0),), (20,), updates=300, standardise=False
    ),
    Function(
        "I.6.20b",
        lambda s, t, t1: np.exp(-(((t - t1) / s) ** 2) / 2.0) / (np.sqrt(2.0 * np.pi) * s),
        _between(1.0, 3.0, 3),
    ),
    Function("I.12.11", lambda q, E, B, v, t: q * (E + B * v * np.sin(t)), _between(1, 5, 5)),
    Function(
        "I.40.1", lambda n, m, x, T, g, k: n * np.exp(-m * g * x / (k * T)), _between(1, 5, 6)
    ),
    Function("I.37.4", lambda a, b, d: a + b + 2 * np.sqrt(a * b) * np.cos(d), _between(1, 5, 3)),
    Function("I.13.4", lambda m, v, u, w: 0.5 * m * (v**2 + u**2 + w**2), _between(1, 5, 4)),
    Function(
        "I.15.3x",
        lambda x, u, c, t: (x - u * t) / np.sqrt(1.0 - u**2 / c**2),
        ((5, 10), (1, 2), (3, 20), (1, 2)),
    ),
    Function("I.18.4", lambda m, n, r, s: (m * r + n * s) / (m + n), _between(1, 5, 4)),
    Function("I.24.6", lambda m, w, v, x: 0.25 * m * (w**2 + v**2) * x**2, _between(1, 3, 4)),
    Function(
        "I.29.16",
        lambda a, b, s, t: np.sqrt(a**2 + b**2 - 2 * a * b * np.cos(s - t)),
        _between(1, 5, 4),
    ),
    Function("I.44.4", lambda n, k, T, V, W: n * k * T * np.log(V / W), _between(1, 5, 5)),
]
ROWS, TEST_ROWS = 1000, 5000


@dataclass(frozen=True)
class Problem:
    """Rows to fit and rows to test on, standardised as the training rows ask for."""

    function: Function
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        """The layers of the network."""
        return (self.x.shape[1], *self.function.hidden, 1)


def problem(function: Function) -> Problem:
    """Return the rows of a function; sinc is tested on all of 20,000, of which 1000 are fitted."""
    if function.name == "sinc":
        x, y = function.draw(20_000, 0)
        return Problem(function, x[:ROWS], y[:ROWS], x, y)
    (x, y), (test_x, test_y) = function.draw(ROWS, 1), function.draw(TEST_ROWS, 2)
    means, deviations = (x.mean(axis=0), y.mean()), (x.std(axis=0), y.std())
    return Problem(
        function,
        (x - means[0]) / deviations[0],
        (y - means[1]) / deviations[1],
        (test_x - means[0]) / deviations[0],
        (test_y - means[1]) / deviations[1],
    )
