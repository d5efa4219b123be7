"""Targets of some rows together with the weights of these rows.

Data that have weights give their targets as `WeightedTargets`. All other code passes them on, and
takes slices of them, as it does with an array of targets; the loss alone looks inside (see
`gnopt.engine.weighted`). Without weights, targets are plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class WeightedTargets:
    """Targets of N rows, on the host or on a device.

    ``own`` are the weights that the data give the rows: they count in metrics. ``weight`` are the
    weights in the objective: the same times class weights, in units of their mean over the training
    rows.

    >>> y = WeightedTargets.of(np.array([0, 1, 1]), "float64")
    >>> y[1:].values, y[1:].weight
    (array([1, 1]), array([1., 1.]))
    """

    values: Any  # (N, ...)
    own: Any  # (N,)
    weight: Any  # (N,)

    @classmethod
    def of(cls, y: Any, dtype: str | np.dtype[Any]) -> WeightedTargets:
        """Return targets with their weights; rows of a plain array count 1 each."""
        if isinstance(y, cls):
            return y
        ones = np.ones(len(y), dtype)
        return cls(y, ones, ones)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> WeightedTargets:
        """Return a range of the rows, as views."""
        return WeightedTargets(self.values[rows], self.own[rows], self.weight[rows])

    def on_device(self, put: Callable[[np.ndarray], Any]) -> WeightedTargets:
        """Return the same on a device; ``put`` copies an array there."""
        return WeightedTargets(put(self.values), put(self.own), put(self.weight))
