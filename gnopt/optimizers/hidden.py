"""The Gauss-Newton system of the hidden weights alone, for many outputs and 𝒢_L = w_n I.

Two facts make this system small and exact, however many outputs there are:

* The hidden weights see the outputs through the weights V of the last layer only, as VᵀV, of rank
  r = min(K, d_{L-1}). With V = Q R, where Q has orthonormal columns, the r rows of R are passed
  back in place of the K rows of V.
* Every output has the same matrix B in the block of the last layer, which is I_K ⊗ B. So a Schur
  complement eliminates the weights of that layer (Golub & Pereyra 1973 separate them likewise).

T_n is R times the derivative of a_{L-1} by the hidden weights, ā_n the input of the last layer, and
λ M = E + W, with diagonals λ M_h of the hidden weights and λ M_L of the weights of one output:

    H_h = Σ_n w_n T_nᵀ T_n / N,   Z = Σ_n w_n ā_n ⊗ T_n / N,   B = Σ_n w_n ā_n ā_nᵀ / N + λ M_L
    S = H_h + λ M_h − Zᵀ (B⁻¹ ⊗ I_r) Z

A system C x = b, whose part b_L is of shape (K, d_{L-1} + 1), is solved by

    x_h = S⁻¹ (b_h − Zᵀ vec(Qᵀ b_L B⁻¹)),   x_L = (b_L − Q (Z x_h)) B⁻¹
"""

from __future__ import annotations

from typing import Any

from gnopt.curvature import cost
from gnopt.curvature.cost import Cost
from gnopt.curvature.exact import root_jacobian
from gnopt.engine.arrays import Array
from gnopt.engine.network import Network, Tape, times_slope
from gnopt.optimizers.base import Problem
from gnopt.optimizers.dense import CHUNK, TRACE, Batch, Primal, bend


class Hidden(Primal):
    """S as a P_h × P_h matrix: N r P_h² flops by syrk, r d_{L-1} P_h² and P_h³/3 for each
    factorisation.
    """

    def __init__(self, problem: Problem, *given: Any) -> None:
        super().__init__(problem, *given)
        net = problem.net
        self.below = Network(
            net.sizes[:-1], [*net.activations[:-2], net.activations[-1]], net.ops, net.dtype.name
        )
        self.rank = min(net.sizes[-1], net.sizes[-2])

    @staticmethod
    def serves(problem: Problem) -> bool:
        """Whether the loss has 𝒢_L = w_n I, and the network hidden layers and several outputs."""
        net = problem.net
        return problem.loss.unit_curvature and net.layers > 1 and net.sizes[-1] > 1

    def words(self, rows: int) -> str:
        net, P = self.problem.net, self.below.size
        return (
            f"the system of the {P:,} weights of the hidden layers, which see {self.rank} "
            f"combinations of the {net.sizes[-1]:,} outputs; the {net.size - P:,} weights of the "
            "last layer are eliminated from it (exactly)"
        )

    def cost(self, rows: float, accelerated: bool) -> Cost:
        net, P, r = self.problem.net, float(self.below.size), self.rank
        K, i = net.shapes[-1]
        solves, pairs = 2.0 if accelerated else 1.0, float(r * i)
        phases = {
            "statistics": r * cost.through(self.below.sizes, rows)
            + cost.second_moment(r * rows, self.below.size)
            + cost.second_moment(rows, i)
            + 2.0 * rows * pairs * P
            + (4.0 * net.sizes[-2] + 2.0 * r) * K * net.sizes[-2],
            "inverses": cost.cholesky(self.below.size)
            + cost.cholesky(i)
            + float(i) ** 3
            + 2.0 * i * pairs * P
            + pairs * P * P,
            "solve": solves
            * (cost.multiply(self.below.size, 1) + cost.multiply(i, r + K) + 4.0 * pairs * (P + K)),
        }
        if accelerated:
            phases["model"] = bend(net, rows) + cost.backward(net.sizes, rows)
        chunk = r * min(self._chunk(), rows) * P
        numbers = 3.0 * P * P + 3.0 * pairs * P + chunk
        return Cost(phases, 0.0, numbers * net.dtype.itemsize)

    def _chunk(self) -> int:
        """Return the rows of a chunk: so many that T is no smaller than Z, if memory allows."""
        net, each = self.problem.net, self.rank * self.below.size
        most = self.problem.memory // net.dtype.itemsize // each
        return max(1, min(most, max(CHUNK // each, net.shapes[-1][1])))

    def linearise(self, batch: Batch) -> tuple[Array, Array]:
        net, xp, ws = self.problem.net, self.problem.net.ops.xp, self.workspace
        i, P = net.shapes[-1][1], self.below.size
        with batch.timer("statistics"):
            V = net.views(batch.theta)[-1][:, :-1]
            self.Q = net.ops.orthonormal(V)
            self.R = self.Q.T @ V
            self.Z = ws.take("coupling", (i, self.rank, P))
            self.Z[...] = 0.0
            self.moment = xp.zeros((i, i), dtype=net.dtype)
            self.total = xp.zeros((), dtype=net.dtype)
        self.H = ws.take("gauss-newton", (P, P))
        return self._summed(batch)

    def _sizes(self, squares: list[Array]) -> Array:
        """Return s and a of every layer; each output of the last one has s = Σ_n w_n / N."""
        net, xp, scale = self.problem.net, self.problem.net.ops.xp, 1.0 / len(self.batch.x)
        found = []
        for D, a in zip(self.below.views(self.diagonal), squares, strict=False):
            found += [D[:, -1], a * scale]
        last = xp.full(net.sizes[-1], 1.0, dtype=net.dtype) * (self.total * scale)
        return xp.concatenate([*found, last, squares[-1] * scale])

    def _add_products(self, rows: slice, tape: Tape, new: bool) -> None:
        """Add the products of T and ā for a block of rows to H_hh, Z and B, a chunk at a time."""
        net, xp, batch = self.problem.net, self.problem.net.ops.xp, self.batch
        W, scale, r = net.views(batch.theta), 1.0 / len(batch.x), self.rank
        weight = self.problem.loss.weight(batch.y[rows])
        for start in range(0, tape.rows, self._chunk()):
            some = slice(start, min(start + self._chunk(), tape.rows))
            part = tape.part(some)
            root = self.workspace.take("root", (r, part.rows, net.sizes[-2]))
            root[...] = self.R[:, None]
            times_slope(net, part, net.layers - 1, root, self.workspace)
            inputs = part.abar[-1]
            if weight is None:
                self.total += part.rows
            else:
                self.total += weight[some].sum()
                each = xp.sqrt(weight[some])[:, None]
                root *= each
                inputs = inputs * each
            slopes = None if part.slopes is None else part.slopes[:-1]
            below = Tape(part.abar[:-1], part.h[:-1], part.abar[-1][:, :-1], slopes)
            T = root_jacobian(self.below, W[:-1], below, root, self.workspace)
            if new and start == 0:
                net.ops.gram(T.T, scale, out=self.H)
            else:
                self.H += net.ops.gram(T.T, scale)
            self.moment += net.ops.gram(inputs, scale)
            inputs = xp.ascontiguousarray(inputs.T) * scale
            T = T.reshape(self.below.size, r, part.rows)
            for j in range(r):
                self.Z[:, j] += inputs @ T[:, j].T

    def _damped(self, lam: float) -> Array:
        """Return the Schur complement S over the last layer."""
        self._eliminate(lam * self.M)
        return self.S

    def _eliminate(self, added: Array) -> None:
        """Make S and the Cholesky factor ``last`` of B for a diagonal E + W, the same for every
        output.
        """
        net, P = self.problem.net, self.below.size
        B = self.moment.copy()
        B.reshape(-1)[:: len(B) + 1] += net.views(added)[-1][0]
        self.last = net.ops.cholesky(B, "the damped second moment of the last hidden layer")
        root = net.ops.solve_triangular(self.last, net.ops.xp.eye(len(B), dtype=net.dtype))
        half = root @ self.Z.reshape(len(B), -1)
        self.S = self.workspace.take("schur", (P, P))
        net.ops.gram(half.reshape(-1, P), -1.0, out=self.S)
        self.S += self.H
        self.S.reshape(-1)[:: P + 1] += added[:P]

    def effective(self, eta: float, largest: Array) -> Array:
        net, xp, P = self.problem.net, self.problem.net.ops.xp, self.below.size
        K, i = net.shapes[-1]
        W = eta * self.penalised
        self.ratio = 0.0
        for _ in self.factors(largest):
            pass
        self._eliminate(W + TRACE * self.M)  # as in Primal
        inverse = net.ops.spd_inverse(self.S, "the penalised Gauss-Newton matrix")
        Y = self.Z.reshape(i, -1).copy()
        net.ops.cholesky_solve(self.last, Y, right=False)
        # The diagonal of the last block, summed over outputs: of B⁻¹, and what S adds to r of them.
        Y = Y.reshape(-1, P)
        added = xp.einsum("jp,jp->j", Y @ inverse, Y).reshape(i, self.rank).sum(axis=1)
        own = xp.eye(i, dtype=net.dtype)
        net.ops.cholesky_solve(self.last, own, right=False)
        last = K * own.diagonal() + added
        held = xp.vdot(W[:P], inverse.diagonal().copy()) + xp.vdot(net.views(W)[-1][0], last)
        return (self.penalised > 0.0).sum() - held

    def _solve(self, b: Array) -> Array:
        """Return −C⁻¹ b."""
        net, ops, P = self.problem.net, self.problem.net.ops, self.below.size
        with self.batch.timer("solve"):
            x = -b
            upper, last = x[:P], net.views(x)[-1]
            Z = self.Z.reshape(-1, P)
            seen = (self.Q.T @ last).T.copy()  # (i, r)
            ops.cholesky_solve(self.last, seen, right=False)
            upper -= Z.T @ seen.reshape(-1)
            ops.cholesky_solve(self.L, upper.reshape(-1, 1), right=False)
            last -= self.Q @ (Z @ upper).reshape(-1, self.rank).T
            ops.cholesky_solve(self.last, last, right=True)
            return x
