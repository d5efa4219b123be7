"""The best constant predictor: the network that gives every row the same outputs.

A network that has learned something beats it. Training compares its loss with that of the constant,
to notice a run that stands still and to say so where a network is handed out that is no better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnopt.data.split import Split
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.losses import Loss
from gnopt.errors import ConfigError
from gnopt.training.evaluate import chunks, targets_for

ROWS = 10_000  # training rows, spread over the file, that the constant is fitted to
# Share of the way from the constant's loss to the floor that a network must have gone to count as
# better. A few weights gain as much on pure noise.
MARGIN = 1e-3
NEWTON = 20  # most steps from the inverse link of the mean target to the best outputs
# The link is exact where the mean gradient is so small against the mean size of a gradient.
EXACT = 0.01
# Longest step of an output. It matters where a loss is flat, far from its minimum.
LONGEST = 3.0


@dataclass(frozen=True)
class ConstantLoss:
    """Mean loss of a constant over some rows, and the lowest objective that these rows allow."""

    loss: float
    floor: float

    @property
    def gap(self) -> float:
        """What a perfect network could gain; 0 where all targets are alike, up to rounding."""
        gap = self.loss - self.floor
        return gap if gap > 1e-6 * max(abs(self.loss), abs(self.floor)) else 0.0

    def no_better(self, loss: float) -> bool:
        """Return whether a network with this loss on the same rows does no better.

        No network is blamed where the constant is perfect.
        """
        return self.gap > 0.0 and not loss < self.loss - MARGIN * self.gap


@dataclass(frozen=True)
class Constant:
    """Outputs h, (K,) float64, of a network that ignores its inputs."""

    outputs: np.ndarray

    def loss_on(self, loss: Loss, ops: Backend, split: Split, limit: int = 0) -> ConstantLoss:
        """Return the loss of these outputs on rows of ``split``.

        With the same ``limit``, an evaluation takes the same rows. Sums are in float64.
        """
        total, floor, weights = 0.0, 0.0, 0.0
        for h, y, targets in self._chunks(loss, ops, split, limit):
            total += ops.scalars(loss.value(ops, h, y).sum(dtype=np.float64))[0]
            floor += float(loss.floor(targets).sum(dtype=np.float64))
            weights += loss.totals(targets)[0]
        return ConstantLoss(total / weights, floor / weights)

    def newton_step(self, loss: Loss, ops: Backend, split: Split, limit: int) -> np.ndarray | None:
        """Return the step to the minimum by the diagonal of the mean 𝒢_L; None where it is small.

        Rows and ``limit`` are those of ``loss_on``.
        """
        mean, size, curvature, rows = (np.zeros(len(self.outputs)) for _ in range(4))
        for h, y, targets in self._chunks(loss, ops, split, limit):
            gradient = loss.gradient(ops, h, y)
            gn = ops.to_host(loss.gn_mean(ops, h, y))
            mean += ops.to_host(gradient.sum(axis=0, dtype=np.float64))
            size += ops.to_host(ops.xp.abs(gradient).sum(axis=0, dtype=np.float64))
            curvature += len(targets) * (gn if gn.ndim == 1 else gn.diagonal())
            rows += len(targets)
        if not np.abs(mean).sum() > EXACT * size.sum():
            return None
        least = 1e-6 * max(float(curvature.max()), 1e-30)
        return np.clip(-mean / np.maximum(curvature, least), -LONGEST, LONGEST)

    def _chunks(
        self, loss: Loss, ops: Backend, split: Split, limit: int
    ) -> Iterator[tuple[Array, Array, Any]]:
        """Yield outputs, targets on the device, and targets on the host."""
        width = len(self.outputs)
        for x, y in chunks(split, limit):
            targets = targets_for(loss, y, width, split.name)
            h = np.empty((len(targets), width), x.dtype)
            h[:] = self.outputs
            yield ops.asarray(h), loss.on_device(targets, ops.asarray), targets


def best_constant(loss: Loss, ops: Backend, mean: np.ndarray, split: Split) -> Constant | None:
    """Return the constant with the lowest loss on the training rows, or None if it is not known.

    It begins with the inverse link of the mean target, which is the best constant of an exponential
    family, and goes on by Newton's method where a loss has no exact link. None is returned for a
    loss, such as a plug-in, whose numbers there are not finite.
    """
    best = Constant(np.asarray(loss.initial_bias(mean), dtype=np.float64))
    if not np.isfinite(best.outputs).all():
        return None
    lowest = best.loss_on(loss, ops, split, ROWS).loss
    for _ in range(NEWTON if np.isfinite(lowest) else 0):
        try:
            step = best.newton_step(loss, ops, split, ROWS)
        except ConfigError:  # first-order methods do with a loss that does not define 𝒢_L
            break
        if step is None:
            break
        trial = Constant(best.outputs + step)
        value = trial.loss_on(loss, ops, split, ROWS).loss
        if not value < lowest:
            break
        best, lowest = trial, value
    return best if np.isfinite(lowest) else None


def shortcomings(losses: Mapping[str, float]) -> list[str]:
    """Return a line for each kind of rows on which a network is no better than the best constant.

    ``losses`` holds attributes of a checkpoint: for rows "train" the names "train_loss",
    "train_constant" and "train_floor". Rows without all three are left out.
    """
    lines = []
    for rows in ("train", "validation"):
        names = [f"{rows}_{what}" for what in ("loss", "constant", "floor")]
        if all(name in losses for name in names):
            value, constant, floor = (losses[name] for name in names)
            lines += shortcoming(rows, value, ConstantLoss(constant, floor))
    return lines


def shortcoming(rows: str, value: float, constant: ConstantLoss) -> list[str]:
    """Return the line for one kind of rows, or none where the network is better."""
    if not constant.no_better(value):
        return []
    than = "worse" if value > constant.loss + MARGIN * constant.gap else "no better"
    return [
        f"the network is {than} than the best constant on the "
        f"{'training' if rows == 'train' else rows} rows: "
        f"{value:.6g} against {constant.loss:.6g}"
    ]
