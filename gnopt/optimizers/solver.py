"""Preconditioned conjugate gradients for B x = b, whose numbers stay on the device (Hestenes &
Stiefel 1952).

On a device that queues its work, reading a number waits for all of it. There the solver queues
iterations without asking whether the stopping rule has been met: once it has, the step size is zero
and later iterations change nothing. The caller says how many iterations to queue before the numbers
are read. Where reading costs nothing, the solver stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gnopt.engine.arrays import Array, Backend

Stop = Callable[[int, Array, list[Array]], Any]
BETWEEN_LOOKS = 10  # iterations, where nothing is known of how many it takes


@dataclass
class Iterate:
    """x after ``index`` iterations with bᵀx and rᵀx (0-d, on the device), r = b − B x."""

    index: int
    x: Array
    xb: Array
    xr: Array

    @property
    def curvature(self) -> Array:
        """xᵀ B x."""
        return self.xb - self.xr

    @property
    def model(self) -> Array:
        """½ xᵀ B x − bᵀ x."""
        return -0.5 * (self.xb + self.xr)


class ConjugateGradients:
    """Minimise ½ xᵀ B x − bᵀ x from ``x`` for a positive definite B given by its ``product``.

    ``stop(i, relative residual, model values)`` with i iterations done, the rest 0-d on the device,
    ends it: a bool or a 0-d array of one. Iterates are kept at indices growing by the factor
    ``keep`` (> 1). One product at the start and one an iteration.
    """

    def __init__(
        self,
        product: Callable[[Array], Array],
        b: Array,
        x: Array,
        precondition: Callable[[Array], Array],
        ops: Backend,
        stop: Stop,
        keep: float = 0.0,
    ) -> None:
        xp = ops.xp
        self.product, self.precondition, self.b, self.ops, self.stop = (
            product,
            precondition,
            b,
            ops,
            stop,
        )
        self.keep, self.next_kept = keep, 1.0
        self.x = x.copy()
        self.r = b - product(self.x)
        z = precondition(self.r)
        self.p = z.copy()
        self.rz, self.rr, self.bb = xp.vdot(self.r, z), xp.vdot(self.r, self.r), xp.vdot(b, b)
        self.index = 0  # iterations queued
        self.count: Any = 0  # of these, how many were made before it stopped
        self.active = self.rz > 0.0
        self.kept: list[Iterate] = []
        self.models = [self.last().model]

    def last(self) -> Iterate:
        """Where it is now."""
        xp = self.ops.xp
        return Iterate(self.index, self.x, xp.vdot(self.x, self.b), xp.vdot(self.x, self.r))

    def residual(self) -> Array:
        """‖r‖ / ‖b‖ of the last iterate."""
        return (self.rr / self.ops.xp.maximum(self.bb, 1e-30)) ** 0.5

    def run(self, until: int) -> None:
        """Go on to this number of iterations, or to where the rule is met."""
        xp = self.ops.xp
        while self.index < until:
            met = self.stop(self.index, self.residual(), self.models)
            self.active = self.active & xp.logical_not(met)
            if not self.ops.queued and not self.active:
                return
            Bp = self.product(self.p)
            pBp = xp.vdot(self.p, Bp)
            self.active = self.active & (pBp > 0.0)  # rounding may have used the curvature up
            alpha = self.ops.ratio(self.active, self.rz, pBp)
            self.ops.axpy(alpha, self.p, self.x)
            self.ops.axpy(-alpha, Bp, self.r)
            z = self.precondition(self.r)
            rz = xp.vdot(self.r, z)
            self.p *= self.ops.ratio(self.active, rz, self.rz)
            self.p += z
            self.rz, self.rr = rz, xp.vdot(self.r, self.r)
            self.count = self.count + self.active
            self.active = self.active & (rz > 0.0)
            self.index += 1
            self._note()

    def _note(self) -> None:
        here = self.last()
        self.models.append(here.model)
        if self.keep > 1.0 and self.index >= self.next_kept:
            here.x = self.x.copy()
            self.kept.append(here)
            self.next_kept = max(self.next_kept + 1.0, self.next_kept * self.keep)

    def earlier(self, count: int) -> list[Iterate]:
        """Iterates that were kept before the last of ``count`` iterations, latest first."""
        return [iterate for iterate in reversed(self.kept) if iterate.index < count]


@dataclass
class Solution:
    """The last iterate, iterations used and the relative residual."""

    x: Array
    iterations: int
    residual: float


def conjugate_gradients(
    product: Callable[[Array], Array],
    b: Array,
    x: Array,
    precondition: Callable[[Array], Array],
    ops: Backend,
    stop: Stop,
    limit: int,
) -> Solution:
    """Run ``ConjugateGradients`` to its rule or to ``limit`` iterations, and bring its numbers to
    the host.
    """
    solver = ConjugateGradients(product, b, x, precondition, ops, stop)
    while True:
        solver.run(min(limit, solver.index + BETWEEN_LOOKS) if ops.queued else limit)
        count, active, residual = ops.scalars(solver.count, solver.active, solver.residual())
        if not active or solver.index == limit:
            return Solution(solver.x, int(count), residual)
