"""The whole Gauss-Newton system of an update, for a method that factorises it.

    C = H + W + E,   H = JᵀJ / N summed over the columns of the roots of 𝒢_L

W is the diagonal of weight decay and E the diagonal of damping. Everything is in the order of θ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gnopt.curvature import cost
from gnopt.curvature.cost import Cost
from gnopt.curvature.exact import root_jacobian
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import Network, Tape, forward, gradient, second_r_forward
from gnopt.optimizers.base import Problem, row_blocks
from gnopt.optimizers.timing import PhaseTimer

CHUNK = 4_000_000  # numbers of a chunk of J
FLOOR, LEAST = 1e-12, 1e-30  # of the damping's diagonal: a share of its largest entry, and 0 itself


@dataclass
class Batch:
    """The rows of an update and the weights that they are run under.

    ``tape`` is that of all rows, or None where they make several blocks.
    """

    problem: Problem
    theta: Array
    x: Array
    y: Any
    workspace: Workspace
    timer: PhaseTimer
    tape: Tape | None = None

    def blocks(self) -> Iterator[tuple[slice, Tape]]:
        """Yield the blocks of rows with their tapes, run anew unless one tape holds all rows."""
        net = self.problem.net
        parts = list(row_blocks(net, len(self.x), self.problem.memory))
        for rows in parts:
            with self.timer("passes"):
                tape = self.tape or forward(
                    net, net.views(self.theta), self.x[rows], self.workspace
                )
            if len(parts) == 1:
                self.tape = tape
            yield rows, tape

    def bend(self, direction: Array) -> Iterator[tuple[slice, Tape, Array]]:
        """Yield blocks of rows with R²{h_L}, the second derivative of their outputs along a
        direction.
        """
        net = self.problem.net
        W, V = net.views(self.theta), net.views(direction)
        for rows, tape in self.blocks():
            yield rows, tape, second_r_forward(net, W, tape, V, self.workspace)

    def add_gradient(self, tape: Tape, delta: Array, out: Array, new: bool) -> None:
        """Add Jᵀ δ / N to the flat ``out``, or write it there where ``new``; δ is overwritten."""
        net = self.problem.net
        delta *= 1.0 / len(self.x)
        into = out if new else self.workspace.take("gradient part", (net.size,))
        gradient(net, net.views(self.theta), tape, delta, net.views(into), self.workspace)
        if not new:
            out += into


class System(ABC):
    """C at the weights of a batch: `linearise` computes what does not depend on the damping, `damp`
    factorises, then `direction` and `acceleration` solve.

    ``penalised`` is the diagonal of W for η = 1, and ``g`` the gradient of the loss. Errors of
    factorisations are those of `Backend.cholesky`.
    """

    g: Array
    batch: Batch

    def __init__(self, problem: Problem, penalised: Array, workspace: Workspace) -> None:
        self.problem, self.penalised, self.workspace = problem, penalised, workspace
        self.rank = problem.loss.rank(problem.net.sizes[-1])
        self.eta = 0.0

    @property
    @abstractmethod
    def scales(self) -> int:
        """How many numbers `linearise` returns of the sizes of H."""

    @abstractmethod
    def cost(self, rows: float, accelerated: bool) -> Cost:
        """Return flops by phase beside the passes over the rows, and bytes, of an update whose
        first try succeeds.
        """

    @abstractmethod
    def linearise(self, batch: Batch) -> tuple[Array, Array]:
        """Return the mean loss (0-d float64, on the device) and the sizes of H from which D is
        made, (scales,); later updates damp by the largest sizes so far.
        """

    @abstractmethod
    def damp(self, lam: float, eta: float, largest: Array) -> Array:
        """Factorise C for E = λ D and W of weight decay η; return the diagonal of E, (P,)."""

    def slope(self) -> Array:
        """Return g + W θ."""
        if not self.eta:
            return self.g
        return self.g + self.eta * (self.penalised * self.batch.theta)

    @abstractmethod
    def direction(self) -> Array:
        """Return d = −C⁻¹ (g + W θ)."""

    @abstractmethod
    def acceleration(self, d: Array) -> Array:
        """Return a = −C⁻¹ Jᵀ 𝒢_L R²{h_L} / N, with R² along d."""


def bend(net: Network, rows: float) -> float:
    """Return the flops of the second derivative of the outputs along a direction."""
    linear = net.layers > 1 and net.activations[0].piecewise_linear
    return cost.second_r_forward(net.sizes, rows, linear)


class Primal(System):
    """H as a P × P matrix, made from chunks of the columns that KFLR passes back: N R P² flops by
    syrk, P³/3 for each factorisation.

    D = √(diag H · mean(diag H)), halfway between Marquardt's diagonal and the identity.
    """

    @property
    def scales(self) -> int:
        return self.problem.net.size

    def cost(self, rows: float, accelerated: bool) -> Cost:
        net, P = self.problem.net, float(self.problem.net.size)
        sizes, solves = net.sizes, 2.0 if accelerated else 1.0
        phases = {
            "statistics": self.rank * cost.through(sizes, rows)
            + cost.second_moment(self.rank * rows, net.size),
            "inverses": cost.cholesky(net.size),
            "solve": solves * cost.multiply(net.size, 1),
        }
        if accelerated:
            phases["model"] = bend(net, rows) + cost.backward(sizes, rows)
        chunk = min(CHUNK, self.rank * rows * P) * net.dtype.itemsize
        return Cost(phases, 0.0, 2.0 * P * P * net.dtype.itemsize + chunk)

    def linearise(self, batch: Batch) -> tuple[Array, Array]:
        net, xp, loss = self.problem.net, self.problem.net.ops.xp, self.problem.loss
        self.batch = batch
        self.g = self.workspace.take("gradient", (net.size,))
        self.H = self.workspace.take("gauss-newton", (net.size, net.size))
        total: Any = 0.0
        for number, (rows, tape) in enumerate(batch.blocks()):
            with self.batch.timer("passes"):
                value, delta = loss.value_and_gradient(net.ops, tape.output, batch.y[rows])
                total = total + value.sum(dtype=xp.float64)
                batch.add_gradient(tape, delta, self.g, new=number == 0)
            with self.batch.timer("statistics"):
                self._add_products(rows, tape, new=number == 0)
        self.diagonal = self.H.diagonal().copy()
        return total / len(batch.x), self.diagonal

    def _add_products(self, rows: slice, tape: Tape, new: bool) -> None:
        """Add the products of J's columns for a block of rows to H, a chunk at a time."""
        net, batch = self.problem.net, self.batch
        W, y = net.views(batch.theta), batch.y[rows]
        numbers = min(CHUNK, self.problem.memory // net.dtype.itemsize)
        each = max(1, numbers // (self.rank * net.size))
        for start in range(0, tape.rows, each):
            some = slice(start, min(start + each, tape.rows))
            part = tape.part(some)
            root = self.problem.loss.gn_root(net.ops, part.output, y[some])
            J = root_jacobian(net, W, part, root, self.workspace)
            if new and start == 0:
                net.ops.gram(J.T, 1.0 / len(batch.x), out=self.H)
            else:
                self.H += net.ops.gram(J.T, 1.0 / len(batch.x))

    def damp(self, lam: float, eta: float, largest: Array) -> Array:
        net, xp = self.problem.net, self.problem.net.ops.xp
        with self.batch.timer("inverses"):
            self.eta = eta
            D = xp.sqrt(largest * largest.mean())
            D += FLOOR * D.max() + LEAST
            D *= lam
            added = self.diagonal + D
            if eta:
                added += eta * self.penalised
            self.H.reshape(-1)[:: net.size + 1] = added
            self.L = net.ops.cholesky(self.H, "the damped Gauss-Newton matrix")
        return D

    def direction(self) -> Array:
        return self._solve(self.slope())

    def acceleration(self, d: Array) -> Array:
        net, loss, batch = self.problem.net, self.problem.loss, self.batch
        b = self.workspace.take("bend", (net.size,))
        with self.batch.timer("model"):
            for number, (rows, tape, bend) in enumerate(batch.bend(d)):
                delta = loss.gn_product(net.ops, tape.output, batch.y[rows], bend)
                batch.add_gradient(tape, delta, b, new=number == 0)
        return self._solve(b)

    def _solve(self, b: Array) -> Array:
        """Return −C⁻¹ b."""
        with self.batch.timer("solve"):
            x = -b
            self.problem.net.ops.cholesky_solve(self.L, x.reshape(-1, 1), right=False)
            return x
