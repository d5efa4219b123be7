"""The Kronecker-factored preconditioner over the updates of a run: statistics, averages, inverses,
solves.

Its state is a dictionary of arrays and numbers; nothing is cached outside it.
"""

from __future__ import annotations

from typing import Any

from gnopt import rng
from gnopt.curvature import Curvature, Sample
from gnopt.curvature.kron import (
    apply_inverses,
    damped_cholesky,
    damped_inverse,
    eigenbasis,
    input_factor,
    join,
    mix,
    rotate,
    sketched_inverse,
)
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import Tape, forward
from gnopt.optimizers import damping
from gnopt.optimizers.base import Problem, State, blocks
from gnopt.options import Option

OPTIONS = (
    *damping.OPTIONS,
    Option(
        "curvature_decay",
        0.7,
        "float",
        "moving average of the factors, bias-corrected: β_k = min(1 − 1/k, β)",
        low=0.0,
        high=1.0,
        open_high=True,
    ),
    Option(
        "factor_period",
        5,
        "int",
        "updates between statistics (every update for the first 10)",
        low=1,
    ),
    Option(
        "inverse_period",
        10,
        "int",
        "updates between inversions of a factor, staggered over factors (sooner in "
        "the beginning: every update for the first 3, then after k // 4)",
        low=1,
    ),
    Option(
        "factor_rows",
        0.25,
        "float",
        "share of the batch that statistics use, at least 250 rows; all of it in "
        "the first 10 updates",
        low=0.0,
        high=1.0,
        open_low=True,
    ),
    Option(
        "sketch_g",
        0.125,
        "float",
        "share of the eigenvalues of a wide layer's G that its inverse keeps apart, the "
        "rest at their mean; used where damping_g >= 1 in the relative rule; 1 = keep all",
        low=0.0,
        high=1.0,
        open_low=True,
    ),
    Option(
        "factor_width",
        2048,
        "int",
        "factors of wider layers are split into diagonal blocks of at most this width; 0 = never",
        low=0,
    ),
    Option(
        "input_updates",
        10,
        "int",
        "statistics after which the first layer's A, the second moment of the data, "
        "is taken as known; 0 = never",
        low=0,
    ),
)
SKETCH_WIDTH = (
    256  # of the narrowest layer whose G is sketched: below it the full inverse is as fast
)
EARLY = 10  # updates with statistics from all rows: the first steps decide where the run goes
LEAST_ROWS = 250


def options_for(curvature: Curvature) -> tuple[Option, ...]:
    """The options that a preconditioner of this curvature reads: a diagonal has no factors to split
    or invert.
    """
    unread = {
        "factors": set(),
        "eigen": {"damping_split", "sketch_g"},
        "identity": {
            "damping_split",
            "sketch_g",
            "inverse_period",
            "factor_width",
            "input_updates",
        },
    }
    return tuple(option for option in OPTIONS if option.name not in unread[curvature.basis])


class Preconditioner:
    """(A_l, G_l) of every layer and what is prepared from them."""

    def __init__(
        self, problem: Problem, settings: dict[str, Any], curvature: Curvature, workspace: Workspace
    ) -> None:
        self.problem, self.settings, self.curvature, self.workspace = (
            problem,
            settings,
            curvature,
            workspace,
        )
        self.diagonal = problem.loss.diagonal and curvature.exact_output  # the output layer's G
        self.slots: list[int] = []
        self.eigen = curvature.basis == "eigen"
        if curvature.basis != "identity":
            self.slots = _stagger(problem.net, self.diagonal, settings["inverse_period"])
        if curvature.basis == "factors":
            self.eigen = settings["damping_split"] == "exact"
        self.ranks = self._ranks()

    def init(self) -> State:
        """No statistics yet."""
        layers = self.problem.net.layers
        return {
            "statistics": 0,
            "A": [None] * layers,
            "G": [None] * layers,
            "prepared_A": [None] * layers,
            "prepared_G": [None] * layers,
            "age": [0] * (2 * layers),
            "basis_G": [self._first_basis(l) for l in range(layers)],
            "scales": [None] * layers,
            "scale_terms": [0] * layers,
        }

    def _ranks(self) -> list[int]:
        """Rank of the sketch of each layer's G; 0 where G is not sketched."""
        net, settings = self.problem.net, self.settings
        if (
            self.curvature.basis != "factors"
            or self.eigen
            or settings["damping_rule"] != "relative"
            or settings["damping_g"] < 1.0
            or settings["curvature_decay"] == 0.0
        ):
            return [0] * net.layers
        ranks = []
        for l, (d, _) in enumerate(net.shapes):
            rank = max(1, round(settings["sketch_g"] * d))
            fits = SKETCH_WIDTH <= d <= (settings["factor_width"] or d) and 2 * rank < d
            ranks.append(0 if not fits or (self.diagonal and l == net.layers - 1) else rank)
        return ranks

    def _first_basis(self, layer: int) -> Array | None:
        """Random orthonormal columns from which the sketch of this layer's G starts."""
        net, rank = self.problem.net, self.ranks[layer]
        if rank == 0:
            return None
        draw = rng.generator(self.problem.seed, "sketch", layer)
        columns = draw.standard_normal((net.shapes[layer][0], rank), dtype=net.dtype)
        return net.ops.orthonormal(net.ops.asarray(columns))

    def mark(self, state: State) -> State:
        """The state as it is now, to go back to: arrays in it are replaced, never written to."""
        return {
            name: list(value) if isinstance(value, list) else value for name, value in state.items()
        }

    def due(self, state: State, k: int) -> bool:
        """Whether update k takes statistics."""
        return state["statistics"] == 0 or k <= EARLY or k % self.settings["factor_period"] == 0

    def rows(self, batch: int, k: int) -> int:
        """Data points whose statistics update k takes."""
        share = 1.0 if k <= EARLY else self.settings["factor_rows"]
        return min(batch, max(LEAST_ROWS, round(share * batch)))

    def observe(
        self,
        state: State,
        W: list[Array],
        tape: Tape,
        held: slice,
        x: Array,
        y: Array,
        step: int,
        k: int,
    ) -> tuple[Tape, slice]:
        """Mix the statistics of the batch's first rows into A and G; return the tape and rows that
        are valid now.

        ``tape`` holds rows ``held`` of the batch; more rows than these are run through again in
        blocks.
        """
        net, settings = self.problem.net, self.settings
        count = self.rows(len(x), k)
        state["statistics"] += 1
        beta = min(1.0 - 1.0 / state["statistics"], settings["curvature_decay"])
        generator = rng.generator(self.problem.seed, "curvature", step)
        pieces = [held] if held.stop >= count else list(blocks(net, count, self.problem.memory))
        means: list[Any] = [None] * net.layers
        for i, piece in enumerate(pieces):
            if piece is not held:
                tape, held = forward(net, W, x[piece], self.workspace), piece
            used = min(piece.stop, count) - piece.start
            share = used / count
            sample = Sample(
                net,
                W,
                tape.head(used),
                self.problem.loss,
                y[piece.start : piece.start + used],
                generator,
                self.problem.memory,
                settings,
                self.workspace,
            )
            if self.curvature.basis != "factors":
                self._observe_scales(state, sample, share, new=i == 0)
            if self.curvature.basis == "identity":
                continue
            keep = beta if i == 0 else 1.0
            known = 1 if 0 < settings["input_updates"] < state["statistics"] else 0
            for l in range(known, net.layers):
                A = input_factor(net, sample.tape, l + 1, settings)
                state["A"][l] = join(net.ops, state["A"][l], A, keep, (1.0 - beta) * share)
            means = [
                join(net.ops, old, new, 1.0, share)
                for old, new in zip(means, self.curvature.means(sample), strict=True)
            ]
        if self.curvature.basis != "identity":
            for l, G in enumerate(self.curvature.finish(means, sample)):
                state["G"][l] = join(net.ops, state["G"][l], G, beta, 1.0 - beta)
        return tape, held

    def _observe_scales(self, state: State, sample: Sample, share: float, new: bool) -> None:
        """Mix the diagonals in the current bases; ``new`` begins a batch, a basis that changed
        begins an average.
        """
        net = self.problem.net
        layers = range(net.layers)
        if self.curvature.basis == "identity":
            bases: list[Any] = [(None, None) for _ in layers]
        elif state["prepared_A"][0] is None:
            return
        else:
            bases = [(state["prepared_G"][l][1], state["prepared_A"][l][1]) for l in layers]
        for l, scale in enumerate(self.curvature.scales(sample, bases)):
            if new:
                state["scale_terms"][l] += 1
            beta = min(1.0 - 1.0 / state["scale_terms"][l], self.settings["curvature_decay"])
            state["scales"][l] = mix(
                net.ops, state["scales"][l], scale, beta if new else 1.0, (1.0 - beta) * share
            )

    def prepare(self, state: State, k: int, lam: float, boost: float, force: bool) -> None:
        """Refresh the damped inverses (or eigenbases) that are due at update k."""
        net, ops, settings = self.problem.net, self.problem.net.ops, self.settings
        if self.curvature.basis == "identity":
            return
        period = settings["inverse_period"]
        limit = max(1, min(period, k // 4))
        for l in range(net.layers):
            for side, factors, prepared in ((0, "A", "prepared_A"), (1, "G", "prepared_G")):
                index = 2 * l + side
                state["age"][index] += 1
                early = k <= 3 or (limit < period and state["age"][index] >= limit)
                due = early or (limit == period and k % period == self.slots[index])
                if not (due or force or state[prepared][l] is None):
                    continue
                state["age"][index] = 0
                what = f"factor {factors} of layer {l + 1}"
                if self.eigen:
                    state[prepared][l] = list(eigenbasis(ops, state[factors][l], what))
                    state["scale_terms"][l] = (
                        0  # a diagonal in the old basis says nothing of the new one
                    )
                    continue
                amounts = damping.factor_damping(
                    ops, settings, state["A"][l], state["G"][l], lam, boost
                )
                if side == 1 and self.ranks[l]:
                    state[prepared][l], state["basis_G"][l] = sketched_inverse(
                        ops, state[factors][l], state["basis_G"][l], amounts[side], what
                    )
                    continue
                invert, M, amount = (
                    damped_cholesky if period == 1 else damped_inverse,
                    state[factors][l],
                    amounts[side],
                )
                if index == 0 and settings["damping_rule"] == "relative":
                    M, amount = damping.own_units(
                        ops, M, amount, boost**0.5 * settings["damping_a"]
                    )
                state[prepared][l] = invert(ops, M, amount, what)

    def solve(self, state: State, g: Array, lam: float, boost: float, out: Array) -> None:
        """Write G⁻¹ g A⁻¹ of every layer into the flat ``out``: 2 o i (o + i) flops each, 2 o i (2
        r + i) where G is sketched with rank r, 4 o i (o + i) in eigenbases.
        """
        net, ops = self.problem.net, self.problem.net.ops
        for l, (g_l, out_l) in enumerate(zip(net.views(g), net.views(out), strict=True)):
            A, G = state["prepared_A"][l], state["prepared_G"][l]
            if self.curvature.basis == "identity":
                diagonal = state["scales"][l]
                shift = damping.diagonal_damping(ops, self.settings, diagonal, lam, boost)
                ops.xp.divide(g_l, diagonal + shift, out=out_l)
            elif self.eigen:
                inner = rotate(ops, G[1], g_l, A[1])
                if state["scale_terms"][l]:
                    diagonal = state["scales"][l]
                    shift = damping.diagonal_damping(ops, self.settings, diagonal, lam, boost)
                else:
                    diagonal = G[0][:, None] * A[0][None, :]
                    shift = damping.product_damping(
                        ops, self.settings, state["A"][l], state["G"][l], lam, boost
                    )
                inner /= diagonal + shift
                out_l[...] = rotate(ops, G[1], inner, A[1], back=True)[: len(g_l), : g_l.shape[1]]
            else:
                apply_inverses(
                    ops, G, g_l, A, out_l, lambda shape: self.workspace.take("half", shape)
                )


def _stagger(net: Any, diagonal: bool, period: int) -> list[int]:
    """The residue (mod period) at which each factor is refreshed: dearest first, each to the least
    loaded update.
    """
    work = []
    for l, (o, i) in enumerate(net.shapes):
        free = diagonal and l == net.layers - 1
        work += [(float(i) ** 3, 2 * l), (0.0 if free else float(o) ** 3, 2 * l + 1)]
    load, slots = [0.0] * period, [0] * len(work)
    for cost, index in sorted(work, reverse=True):
        slots[index] = load.index(min(load))
        load[slots[index]] += cost
    return slots
