"""Derivatives by differences, with a verdict that survives kinks: the step that agrees best counts.

Central differences of eighth order at several step lengths. A formula that is wrong disagrees at
all of them; one that is right agrees closely at some, also where a piecewise-linear function has
kinks here and there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
STEPS = (1e-1, 2e-2, 4e-3, 8e-4, 1e-4, 1e-5, 1e-6)

Function = Callable[[float], np.ndarray]
Check = tuple[
    str, float, Callable[[], float]
]  # what is checked, tolerance, and what measures the error


class Skip(Exception):
    """Raised by a measure where its check does not apply, with the reason."""


def derivative(f: Function, step: float) -> np.ndarray:
    """f'(0) of an array-valued function of one number."""
    terms = [w * (f(j * step) - f(-j * step)) for j, w in enumerate(WEIGHTS, start=1)]
    total: np.ndarray = np.sum(terms, axis=0)
    return total / step


def mismatch(f: Function, expected: np.ndarray) -> float:
    """Least relative difference between ``expected`` and f'(0) over the step lengths, of the array
    as a whole.
    """
    errors = [relative(expected, derivative(f, step)) for step in STEPS]
    return float(np.nanmin(errors)) if np.isfinite(errors).any() else np.inf


def elementwise_mismatch(f: Function, expected: np.ndarray) -> np.ndarray:
    """The same for each entry by itself, relative to 1 + |f'|: entries near a kink choose a step of
    their own.
    """
    found = []
    for step in STEPS:
        d = derivative(f, step)
        found.append(np.abs(d - expected) / (1.0 + np.abs(d)))
    least: np.ndarray = np.fmin.reduce(found)
    return least


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest entry of ``expected``; zero against zero is agreement."""
    if np.shape(actual) != np.shape(expected):
        return np.inf
    scale = float(np.abs(expected).max(initial=0.0))
    error = float(np.abs(np.asarray(actual) - expected).max(initial=0.0))
    return error / max(scale, 1e-8)
