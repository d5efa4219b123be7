"""Compare a formula for a derivative with central differences of eighth order.

The differences are taken at several step lengths, and the step that agrees best counts. A wrong
formula disagrees at all of them. A right one agrees closely at some step, even if a
piecewise-linear function has kinks nearby.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
STEPS = (1e-1, 2e-2, 4e-3, 8e-4, 1e-4, 1e-5, 1e-6)

Function = Callable[[float], np.ndarray]
# What is checked, the tolerance, and the function that measures the error.
Check = tuple[str, float, Callable[[], float]]


class Skip(Exception):
    """Raised by the function that measures an error if the check does not apply; says why."""


def derivative(f: Function, step: float) -> np.ndarray:
    """Return f'(0) by differences with the given step."""
    terms = [w * (f(j * step) - f(-j * step)) for j, w in enumerate(WEIGHTS, start=1)]
    total: np.ndarray = np.sum(terms, axis=0)
    return total / step


def mismatch(f: Function, expected: np.ndarray) -> float:
    """Return the least `relative` difference of f'(0) to ``expected`` over the step lengths."""
    errors = [relative(expected, derivative(f, step)) for step in STEPS]
    return float(np.nanmin(errors)) if np.isfinite(errors).any() else np.inf


def elementwise_mismatch(f: Function, expected: np.ndarray) -> np.ndarray:
    """Return the least difference of each entry over the step lengths, relative to 1 + |f'|.

    Each entry may choose another step than the others, which helps entries near a kink.
    """
    errors = []
    for step in STEPS:
        d = derivative(f, step)
        errors.append(np.abs(d - expected) / (1.0 + np.abs(d)))
    least: np.ndarray = np.fmin.reduce(errors)
    return least


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest entry of ``expected``; 0 if both are zero."""
    if np.shape(actual) != np.shape(expected):
        return np.inf
    scale = float(np.abs(expected).max(initial=0.0))
    error = float(np.abs(np.asarray(actual) - expected).max(initial=0.0))
    return error / max(scale, 1e-8)
