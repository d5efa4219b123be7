"""The whole Gauss-Newton system of an update, for a method that factorises it.

    C = H + W + E,   H = JᵀJ / N summed over the columns of the roots of 𝒢_L

W is the diagonal of weight decay and E the diagonal of damping. Their sum is λ M, and M is a
product in each layer, M_l = e ⊗ f. With the mean squares s_o of the columns passed back to h_l, a_i
of ā_{l-1} and m of J,

    e_o = m^¼ √s_o + c √(η/λ),   f_i = m^¼ √a_i + √(η/λ) / c      (no η in f of the unit term)

so that E is λ √(m s_o a_i) without weight decay, and a little more with it. The same M serves all
forms of the system: `Primal` has a row for each weight, `Dual` one for each target, and `Hidden`
(``hidden``) one for each weight before the last layer. Everything is in the order of θ.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from gnopt.curvature import cost
from gnopt.curvature.cost import Cost
from gnopt.curvature.exact import root_jacobian
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import (
    Network,
    Tape,
    backpropagate,
    forward,
    gradient,
    r_forward,
    second_r_forward,
    slope,
)
from gnopt.optimizers.base import Problem, row_blocks
from gnopt.optimizers.timing import PhaseTimer

CHUNK = 500_000  # numbers of a chunk of J: it stays in the cache
TRACE, LIGHT = 1e-9, 1e-4  # λ, and a bias's share of η, under which the evidence inverts H + W
FLOOR, LEAST = 1e-6, 1e-15  # of the sizes in the damping: a share of the largest one, and 0 itself


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
            if len(parts) == 1 and self.tape is None:
                self.tape = tape
                if net.ops.on_host:  # a GPU computes f' within the kernel that multiplies by it
                    tape.slopes = [slope(net, tape, l) for l in range(1, net.layers)]
            yield rows, tape

    def squares(self, rows: slice, tape: Tape) -> list[Array]:
        """Return Σ_n ā² of the inputs of every layer over a block of rows, each by its weight."""
        xp, weight = self.problem.net.ops.xp, self.problem.loss.weight(self.y[rows])
        if weight is None:
            return [xp.einsum("ni,ni->i", a, a) for a in tape.abar]
        return [weight @ (a * a) for a in tape.abar]

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
        net, xp = problem.net, problem.net.ops.xp
        self.problem, self.penalised, self.workspace = problem, penalised, workspace
        self.rank = problem.loss.rank(net.sizes[-1])
        self.eta = self.lam = 0.0
        self.ratio = -1.0  # η/λ of M; negative where there is none yet
        self.shares = [1.0] * (net.layers - 1) + [problem.output_scale**-2]
        self.masks = []  # of f: 0 for the unit term
        for _, i in net.shapes:
            mask = xp.ones(i, dtype=net.dtype)
            mask[-1] = 0.0
            self.masks.append(mask)
        edges = [0, *itertools.accumulate(width for shape in net.shapes for width in shape)]
        self.pieces = [slice(*pair) for pair in itertools.pairwise(edges)]

    @property
    def scales(self) -> int:
        """How many numbers `linearise` returns of the sizes of H."""
        return self.pieces[-1].stop

    def factors(self, largest: Array) -> Iterator[tuple[Array, Array]]:
        """Yield e and f of every layer for the present ratio η/λ, by the largest sizes so far, and
        write M = e ⊗ f into the flat ``M``.
        """
        net, xp = self.problem.net, self.problem.net.ops.xp
        sums = [largest[piece].sum() for piece in self.pieces]
        mean = sum(s * a for s, a in zip(sums[::2], sums[1::2], strict=True)) * (1.0 / net.size)
        sizes = xp.sqrt(largest)
        sizes += FLOOR * sizes.max() + LEAST  # a dead unit has some damping
        sizes *= xp.sqrt(xp.sqrt(mean))
        self.M = self.workspace.take("damping", (net.size,))
        for l, M in enumerate(net.views(self.M)):
            e, f = (sizes[piece] for piece in self.pieces[2 * l : 2 * l + 2])
            if self.ratio:
                balance = xp.sqrt(e.mean() / f.mean())
                q = (self.ratio * self.shares[l]) ** 0.5
                e += q * balance
                f += q / balance * self.masks[l]
            xp.multiply(e[:, None], f, out=M)
            yield e, f

    def excess(self) -> Array:
        """Return the diagonal of E = λ M − W, (P,)."""
        if not self.eta:
            return self.lam * self.M
        return self.lam * self.M - self.eta * self.penalised

    @abstractmethod
    def words(self, rows: int) -> str:
        """Return what is factorised, for the user."""

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
    def effective(self, eta: float, largest: Array) -> Array:
        """Return γ = Σ (1 − η p_i (H + W)⁻¹_ii) over the penalised weights, 0-d on the device: how
        many of them the data determine. It costs three factorisations, and `damp` has to follow.
        """

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

    """

    def words(self, rows: int) -> str:
        return f"the system of all {self.problem.net.size:,} weights"

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
        net = self.problem.net
        self.H = self.workspace.take("gauss-newton", (net.size, net.size))
        return self._summed(batch)

    def _summed(self, batch: Batch) -> tuple[Array, Array]:
        """Sum the loss, g and the products of `_add_products` over the rows of a batch; return the
        mean loss and the sizes of H.
        """
        net, xp, loss = self.problem.net, self.problem.net.ops.xp, self.problem.loss
        self.batch, self.ratio = batch, -1.0
        self.g = self.workspace.take("gradient", (net.size,))
        total: Any = 0.0
        squares: list[Array] = []
        for number, (rows, tape) in enumerate(batch.blocks()):
            with self.batch.timer("passes"):
                value, delta = loss.value_and_gradient(net.ops, tape.output, batch.y[rows])
                total = total + value.sum(dtype=xp.float64)
                batch.add_gradient(tape, delta, self.g, new=number == 0)
            with self.batch.timer("statistics"):
                self._add_products(rows, tape, new=number == 0)
                found = batch.squares(rows, tape)
                squares = [a + b for a, b in zip(squares, found, strict=True)] if squares else found
        self.diagonal = self.H.diagonal().copy()
        return total / len(batch.x), self._sizes(squares)

    def _sizes(self, squares: list[Array]) -> Array:
        """Return s and a of every layer; s is on the diagonal of H, at the unit term's weights."""
        net, xp = self.problem.net, self.problem.net.ops.xp
        found = []
        for D, a in zip(net.views(self.diagonal), squares, strict=True):
            found += [D[:, -1], a * (1.0 / len(self.batch.x))]
        return xp.concatenate(found)

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
        net = self.problem.net
        with self.batch.timer("inverses"):
            self.eta, self.lam = eta, lam
            if self.ratio != eta / lam:
                self.ratio = eta / lam
                for _ in self.factors(largest):
                    pass
            self.L = net.ops.cholesky(self._damped(lam), "the damped Gauss-Newton matrix")
        return self.excess()

    def _damped(self, lam: float) -> Array:
        """Return the matrix of the system, with W and the damping on its diagonal."""
        self.H.reshape(-1)[:: self.problem.net.size + 1] = self.diagonal + lam * self.M
        return self.H

    def effective(self, eta: float, largest: Array) -> Array:
        net, xp = self.problem.net, self.problem.net.ops.xp
        W = eta * self.penalised
        self.ratio = 0.0
        for _ in self.factors(largest):
            pass
        # Biases without effect have neither curvature nor decay: a trace of damping serves them.
        self.H.reshape(-1)[:: net.size + 1] = self.diagonal + W + TRACE * self.M
        inverse = net.ops.spd_inverse(self.H, "the penalised Gauss-Newton matrix")
        return (self.penalised > 0.0).sum() - xp.vdot(W, inverse.diagonal().copy())

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


class Dual(System):
    """The system in the space of the rows, for fewer targets than weights.

    A row of J is s_l ⊗ ā_{l-1} in layer l, s_l a column of the root passed back to h_l. Where the
    damping is a product e ⊗ f in each layer, the Gram matrix needs no J:

        K = J M⁻¹ Jᵀ / N = Σ_l (S_l e⁻¹ S_lᵀ) ∘ (Ā_{l-1} f⁻¹ Ā_{l-1}ᵀ) / N
        M = (E + W) / λ = e ⊗ f
        d = −(λ M)⁻¹ W θ − M⁻¹ Jᵀ v / N,   (K + λ I) v = u − J (λ M)⁻¹ W θ,   C_L u = ∂E/∂h_L

    which is d = −C⁻¹ (g + W θ) by completing the square: C⁻¹ by Woodbury's identity would lose all
    digits at a small λ. Flops: (N R)² Σ d_l for K, (N R)³/3 for a factorisation.
    """

    def words(self, rows: int) -> str:
        return (
            f"the system of all {self.rank * rows:,} targets (weights: {self.problem.net.size:,})"
        )

    def cost(self, rows: float, accelerated: bool) -> Cost:
        net, M = self.problem.net, self.rank * rows
        solves = 2.0 if accelerated else 1.0
        grams = sum(o * M**2 + i * rows**2 for o, i in net.shapes)
        phases = {
            "passes": cost.backward(net.sizes, rows),
            "statistics": self.rank * cost.through(net.sizes, rows) + grams,
            "inverses": M**3 / 3.0,
            "solve": solves * (2.0 * M**2 + cost.backward(net.sizes, rows)),
        }
        if accelerated:
            phases["model"] = bend(net, rows)
        kept = 2.0 * M * M + self.rank * rows * sum(o + i for o, i in net.shapes)
        return Cost(phases, 0.0, (kept + rows**2) * net.dtype.itemsize)

    def linearise(self, batch: Batch) -> tuple[Array, Array]:
        net, xp, ws = self.problem.net, self.problem.net.ops.xp, self.workspace
        loss, N, R = self.problem.loss, len(batch.x), self.rank
        self.batch, self.ratio = batch, -1.0
        self.g = ws.take("gradient", (net.size,))
        self.u = ws.take("root residuals", (N, R))
        self.S = [ws.take(("columns", l), (o, R, N)) for l, (o, _) in enumerate(net.shapes)]
        self.A = [ws.take(("inputs", l), (i, N)) for l, (_, i) in enumerate(net.shapes)]
        total: Any = 0.0
        squares: list[Array] = []
        for number, (rows, tape) in enumerate(batch.blocks()):
            y = batch.y[rows]
            with batch.timer("passes"):
                value, delta = loss.value_and_gradient(net.ops, tape.output, y)
                total = total + value.sum(dtype=xp.float64)
                batch.add_gradient(tape, delta, self.g, new=number == 0)
            with batch.timer("statistics"):
                self.u[rows] = loss.root_residual(net.ops, tape.output, y)
                root = loss.gn_root(net.ops, tape.output, y)
                for l, C in backpropagate(net, net.views(batch.theta), tape, root, ws):
                    self.S[l - 1][:, :, rows] = C.transpose(2, 0, 1)
                    self.A[l - 1][:, rows] = tape.abar[l - 1].T
                found = batch.squares(rows, tape)
                squares = [a + b for a, b in zip(squares, found, strict=True)] if squares else found
        with batch.timer("statistics"):
            sizes = []
            for S, a in zip(self.S, squares, strict=True):
                sizes += [xp.einsum("orn,orn->o", S, S), a]
            return total / N, xp.concatenate(sizes) * (1.0 / N)

    def damp(self, lam: float, eta: float, largest: Array) -> Array:
        self.eta, self.lam = eta, lam
        with self.batch.timer("statistics"):
            if self.ratio != eta / lam:
                self.ratio = eta / lam
                self._make_gram(self.factors(largest))
                self.diagonal = self.K.diagonal().copy()
        with self.batch.timer("inverses"):
            self.K.reshape(-1)[:: len(self.K) + 1] = self.diagonal + lam
            self.L = self.problem.net.ops.cholesky(self.K, "the damped Gram matrix")
        return self.excess()

    def effective(self, eta: float, largest: Array) -> Array:
        """Return γ = tr (K + I)⁻¹ K_w with W in place of λ M, where K_w is K without the biases;
        these have next to no decay. The same as in `Primal` where the data determine the biases.
        """
        net, xp = self.problem.net, self.problem.net.ops.xp
        without, prior = [], []
        for l, (o, _) in enumerate(net.shapes):
            q = (eta * self.shares[l]) ** 0.5
            e = xp.full(o, q, dtype=net.dtype)
            without.append((e, xp.where(self.masks[l] > 0.0, q, inf).astype(net.dtype)))
            prior.append((e, q * xp.maximum(self.masks[l], LIGHT)))
        self.ratio = -1.0
        self._make_gram(without)
        weights = self.K.copy()
        self._make_gram(prior)
        self.K.reshape(-1)[:: len(self.K) + 1] += 1.0
        weights *= net.ops.spd_inverse(self.K, "the penalised Gram matrix")
        return weights.sum()

    def _make_gram(self, factors: Iterable[tuple[Array, Array]]) -> None:
        """Make K of the factors e and f of every layer."""
        net, xp, ws = self.problem.net, self.problem.net.ops.xp, self.workspace
        N, R = len(self.batch.x), self.rank
        self.K = ws.take("gram", (R * N, R * N))
        for l, (e, f) in enumerate(factors):
            columns = (self.S[l] / xp.sqrt(N * e)[:, None, None]).reshape(len(e), R * N)
            inputs = self.A[l] / xp.sqrt(f)[:, None]
            product = self.K if l == 0 else ws.take("gram part", (R * N, R * N))
            net.ops.gram(columns, 1.0, out=product)
            product.reshape(R, N, R, N)[...] *= net.ops.gram(inputs, 1.0)[:, None]
            if l > 0:
                self.K += product

    def direction(self) -> Array:
        if not self.eta:
            return self._pulled(self._solved(self.u))
        shift = self.penalised * self.batch.theta
        shift *= self.eta / self.lam
        shift /= self.M
        d = self._pulled(self._solved(self.u - self._pushed(shift)))
        d -= shift
        return d

    def acceleration(self, d: Array) -> Array:
        b = self.workspace.take("bend", self.u.shape)
        with self.batch.timer("model"):
            for rows, tape, curved in self.batch.bend(d):
                b[rows] = self._in_root(tape, rows, curved)
        return self._pulled(self._solved(b))

    def _in_root(self, tape: Tape, rows: slice, v: Array) -> Array:
        """Return C_Lᵀ v, (N, R), for outputs v of a block of rows."""
        ops = self.problem.net.ops
        root = self.problem.loss.gn_root(ops, tape.output, self.batch.y[rows])
        return ops.xp.einsum("rnk,nk->nr", root, v)

    def _pushed(self, v: Array) -> Array:
        """Return J v, (N, R), for a flat v."""
        net, out = self.problem.net, self.workspace.take("pushed", self.u.shape)
        W = net.views(self.batch.theta)
        with self.batch.timer("solve"):
            for rows, tape in self.batch.blocks():
                (Rh,) = r_forward(net, W, tape, [net.views(v)], self.workspace)
                out[rows] = self._in_root(tape, rows, Rh)
        return out

    def _solved(self, b: Array) -> Array:
        """Return (K + λ I)⁻¹ b, (N, R), for such a b."""
        with self.batch.timer("solve"):
            v = b.T.reshape(-1, 1).copy()
            self.problem.net.ops.cholesky_solve(self.L, v, right=False)
            return v.reshape(b.shape[::-1]).T

    def _pulled(self, v: Array) -> Array:
        """Return −M⁻¹ Jᵀ v / N, flat, for v (N, R)."""
        net, loss, batch = self.problem.net, self.problem.loss, self.batch
        out = net.ops.xp.empty_like(self.g)
        with batch.timer("solve"):
            for number, (rows, tape) in enumerate(batch.blocks()):
                delta = loss.gn_root_product(net.ops, tape.output, batch.y[rows], v[rows])
                batch.add_gradient(tape, delta, out, new=number == 0)
            out /= self.M
            return -out
