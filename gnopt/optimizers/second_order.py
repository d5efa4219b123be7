"""The second-order update that every Kronecker-factored curvature shares (Botev et al. 2017;
Martens & Grosse 2015).

One update: loss and gradient; statistics A, G on some rows, averaged over updates; damped inverses,
a part of them each time; D = −G⁻¹ g A⁻¹; step sizes along D, the previous update and the decayed
sum of past D from a quadratic model with the exact Gauss-Newton matrix; a bound on the step's
length; θ ← θ + δ.

A step is judged by the loss of the next batch, which has to be computed anyway: where that is not
finite, or has jumped and the weights before the step were better on this unseen batch, weights and
factors are put back, the memory of past directions is dropped and damping is raised. The last step
of a run is judged likewise, by ``closing_weights``. With ``damping_rule = "lm"`` the same batch is
evaluated again for the reduction ratio, at the price of a forward pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from math import ceil, inf, isfinite, lcm, nan, sqrt
from typing import Any, cast

import numpy as np

from gnopt.aims import AUTO, EVIDENCE
from gnopt.curvature import Curvature, cost
from gnopt.curvature.cost import Cost
from gnopt.curvature.damping import adapt
from gnopt.curvature.factors import TINY
from gnopt.engine.arrays import Array, Backend, Unchecked, Workspace
from gnopt.engine.network import Tape, forward, still_units
from gnopt.errors import Diverged
from gnopt.optimizers import preconditioner
from gnopt.optimizers.base import (
    BatchGradient,
    Optimizer,
    OptimizerSettings,
    Problem,
    State,
    Stats,
    loss_and_gradient,
    mean_loss,
    row_blocks,
)
from gnopt.optimizers.evidence import START, Evidence, EvidenceState
from gnopt.optimizers.growth import GrowthSettings, GrowthState, grown
from gnopt.optimizers.preconditioner import (
    Preconditioner,
    PreconditionerSettings,
    PreconditionerState,
)
from gnopt.optimizers.quadratic import curvature_products, minimise
from gnopt.options import option

RIDGE = 1e-6  # of the quadratic model with unit diagonal
LEAST_MODEL_ROWS = 62
# Flops that cost little: of the quadratic model's pass, and of an update's passes over the batch.
CHEAP_MODEL, CHEAP_PASSES = 1e8, 5e8
FREE_ROWS = 1000.0  # no batch is made larger than this unasked
CALLS = 5e5  # flops in the time that the calls of one layer take in an update, whatever its width
# Weight decay acts where a layer's gradient, in units of its weights, is no smaller than this share
# of the largest one: weights that no gradient reaches yet are not to be driven to zero.
REACHED = 1e-3
# Share of the updates' passes that choices of weight decay cost, and flops of a choice for each
# weight.
EVIDENCE_SHARE, EVIDENCE_FLOPS, BATCH = 0.1, 100.0, 1000
DECAY_OF_OTHERS = 1e-3  # in place of the evidence, for a loss that is no likelihood
STIFFNESS_DECAY = 0.9  # per update, of the highest curvature along directions
TRUST = 10.0  # longest direction of a layer in units of its weights' norm
LEAST_NORM = 0.1  # of weights with d_out outputs, in units of √d_out: zero weights may move
BLAME = 0.1  # a step is undone if it left an unseen batch worse by this share of its loss
RAISE, RELAX = 4.0, 0.9  # damping's factor after a rejected step, and per accepted one
ROUNDING = 1e-6  # a rise of the loss by this share is no rise
MAX_REJECTIONS = 12  # in a row
# Where all of the data is one batch: the damping at which steps have become too short to get past a
# kink, the first and the greatest rise above the lowest loss that is let pass then, and the updates
# without a new lowest loss after which less is.
STUCK, FIRST_SLACK, MOST_SLACK, PATIENCE = 256.0, 1e-3, 0.03, 50
COUNTED = 4  # dead units are counted at every fourth set of statistics, for the sake of small nets


@dataclass(frozen=True, kw_only=True)
class SecondOrderSettings(OptimizerSettings, GrowthSettings, PreconditionerSettings):
    """The options of every method that a curvature makes, with the curvature's own."""

    rescale: bool = option(
        True,
        "step sizes from the quadratic model with the exact Gauss-Newton matrix; "
        "otherwise learning_rate",
    )
    learning_rate: float = option(1.0, "step size where rescale is off", low=0.0, open_low=True)
    model_rows: float = option(
        0.03125,
        "share of the batch that the quadratic model uses, at least 62 rows",
        low=0.0,
        high=1.0,
        open_low=True,
    )
    model_damping: float = option(
        1e-4,
        "κ added to the Gauss-Newton matrix in the quadratic model (relative "
        "rule; the others use λ)",
        low=0.0,
    )
    directions: list[str] = option(
        ["previous", "decayed_sum"],
        "directions beside the preconditioned gradient in the quadratic model",
        choices=("previous", "decayed_sum"),
    )
    direction_decay: float = option(
        0.9, "decay of the sum of past directions", low=0.0, high=1.0, open_high=True
    )
    step_limit: float = option(
        0.15,
        "longest step as a share of the norm of the weights, biases aside; 0 = none",
        low=0.0,
    )
    rejection: float = option(
        0.5,
        "a rise of the loss by this share of its size is looked into: where the last "
        "step is to blame it is undone and damping raised; 0 = only where the loss is not finite",
        low=0.0,
    )


_METHODS: dict[type[Curvature], type[SecondOrderSettings]] = {}


def settings_of(curvature: type[Curvature]) -> type[SecondOrderSettings]:
    """Return the settings record of the method that this curvature makes.

    It holds the records of the block class and of the curvature, so that their options are the
    method's.
    """
    if curvature not in _METHODS:
        records = {"block": curvature.block.Settings, "curvature": curvature.Settings}
        made = make_dataclass(
            f"{curvature.__name__}Method",
            [(name, kind, field(default_factory=kind)) for name, kind in records.items()],
            bases=(SecondOrderSettings,),
            frozen=True,
            kw_only=True,
        )
        _METHODS[curvature] = cast(type[SecondOrderSettings], made)
    return _METHODS[curvature]


@dataclass
class Height:
    """Loss and squared norm of the weights, biases aside: what the objective is made of."""

    loss: float = inf
    ww: float = 0.0

    def under(self, eta: float) -> float:
        """Return the objective under weight decay η, which may change during a run."""
        return self.loss + 0.5 * eta * self.ww


@dataclass
class SecondOrderState(State):
    """What an update leaves to the next one.

    ``damping`` is λ and ``boost`` its factor after rejected steps; ``anchor`` is θ before the last
    step, ``previous`` that step, ``decayed_sum`` the sum of ``terms`` past directions; the factors
    hold the blocks of the layers. ``last`` is the height of the last batch, at the anchor. Where
    batches are all of the data, ``lowest`` is the lowest one, ``slack`` the share by which an
    objective may exceed it, ``low`` the θ of the lowest one while that is more than rounding, and
    ``stale`` counts updates since the lowest one or the last change of the slack. ``stiffness`` is
    the highest curvature along the directions of recent updates.
    """

    factors: PreconditionerState
    growth: GrowthState
    damping: float
    evidence: EvidenceState | None = None
    boost: float = 1.0
    accepted: int = 0
    rejected_in_row: int = 0
    last: Height = field(default_factory=lambda: Height())
    lowest: Height = field(default_factory=lambda: Height())
    slack: float = ROUNDING
    low: Array | None = None
    stale: int = 0
    stiffness: float = 0.0
    anchor: Array | None = None
    previous: Array | None = None
    decayed_sum: Array | None = None
    terms: int = 0


@dataclass
class StepProposal:
    """What an update knows before it chooses its step: the loss, D, and the quadratic model.

    ``slopes`` b = Vᵀ∇, ``gram`` VᵀV and ``curvature`` Vᵀ GN V belong to the directions V called
    ``names``; ``gg`` = ‖∇‖², ``ww`` the squared norm of the weights without biases. ``height`` is
    what the objective is made of, and ``penalty`` VᵀV as the penalty counts it. Without names
    the loss was not finite and there is no step to choose. ``dead`` units gave the same on all rows
    of the statistics; NaN where they were not counted.
    """

    loss: float
    D: Array
    names: list[str] = field(default_factory=list)
    gg: float = nan
    ww: float = nan
    slopes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    gram: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    curvature: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    dead: float = nan
    height: Height = field(default_factory=lambda: Height())
    penalty: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


class SecondOrder(Optimizer[SecondOrderState]):
    """Drives a ``Curvature``; see the module's text for the update."""

    order = 2
    Settings = SecondOrderSettings
    state_type = SecondOrderState
    settings: SecondOrderSettings

    def __init__(
        self, problem: Problem, settings: SecondOrderSettings, curvature: type[Curvature]
    ) -> None:
        super().__init__(problem, settings)
        self.name, self.summary = curvature.name, curvature.summary
        self.curvature = curvature(settings.curvature)
        self.preconditioner = Preconditioner(problem, settings, self.curvature, self.workspace)
        # The penalty counts the last layer's weights in units of the targets: 1 / scale² of ‖W_L‖².
        self.last_share = problem.output_scale**-2
        self.last = slice(problem.net.offsets[-2], problem.net.offsets[-1])
        self.biases = problem.net.ops.asarray(problem.net.bias_positions())
        self.bias_offsets = [0, *itertools.accumulate(problem.net.sizes[1:])]
        passes = cost.forward(problem.net.sizes, 1) + cost.backward(problem.net.sizes, 1)
        fixed = self.preconditioner.cost(0).flops + CALLS * problem.net.layers
        self.free = min(fixed / passes, FREE_ROWS)
        self.cheap = CHEAP_PASSES / passes
        self.least_norms = problem.net.ops.asarray(
            [LEAST_NORM**2 * o for o in problem.net.sizes[1:]], problem.net.dtype
        )

        decay = problem.aim.choose("weight_decay", settings.weight_decay)
        adapts = isinstance(decay, str) and problem.loss.likelihood
        first = START if adapts else DECAY_OF_OTHERS
        self._eta = problem.unit * (first if isinstance(decay, str) else decay)
        self.evidence: Evidence | None = None
        observed = problem.loss.likelihood and problem.aim.weight_decay == EVIDENCE
        if adapts or (observed and self._eta > 0.0):
            self.evidence = Evidence(problem, self._pays_for_evidence(), adapts)

    def init(self, theta: Array) -> SecondOrderState:
        return SecondOrderState(
            self.preconditioner.init(),
            GrowthState(),
            self.settings.damping,
            EvidenceState() if self.evidence else None,
            eta=self._eta,
            average=self.first_average(theta),
        )

    def batch_size(self, state: SecondOrderState, base: int) -> int:
        if self.settings.growth_limit == 1.0:
            return min(base, self.problem.rows)
        rows = self._first_rows(base) * state.growth.multiple
        return grown(min(rows, self._most_rows(base)), self.problem.rows)

    def first_batch(self, base: int) -> int:
        if self.settings.growth_limit == 1.0:
            return min(base, self.problem.rows)
        return grown(min(self._first_rows(base), self._most_rows(base)), self.problem.rows)

    def largest_batch(self, base: int) -> int:
        if self.settings.growth_limit == 1.0:
            return min(base, self.problem.rows)
        return grown(self._most_rows(base), self.problem.rows)

    def notes(self, base: int) -> list[str]:
        first, rows = self.first_batch(base), self.problem.rows
        if first == min(base, rows):
            return []
        held = f"all {rows:,} training rows" if first == rows else f"{first:,} rows"
        why = (
            "it is more than half of them" if 2 * base > rows else "fewer would cost nearly as much"
        )
        return [
            f"batches hold {held}, not training.batch_size = {base}: {why} "
            "(optimizer.growth_limit = 1 keeps that size)"
        ]

    def _first_rows(self, base: int) -> float:
        """Return the rows of the first batch: ``base``, or as many as double an update's cost."""
        return max(float(base), self.free)

    def _most_rows(self, base: int) -> float:
        """Return the rows up to which a batch may grow."""
        return max(self.settings.growth_limit * self._first_rows(base), self.cheap)

    def update(self, theta: Array, state: SecondOrderState, x: Array, y: Array, step: int) -> Stats:
        settings, k = self.settings, state.accepted + 1
        proposal, mark = self.attempt(theta, state, x, y, step)
        rejected = 0
        if self.judge(theta, state, x, y, proposal.height, step):
            state.factors.restore(mark)
            proposal, _ = self.attempt(theta, state, x, y, step)
            rejected += 1
        with self.timer("vector"):
            self.note_lowest(theta, state, proposal.height, len(x))
            steps, stats = self.choose_step(state, proposal, len(x))
            self.advance(theta, state, proposal.D, steps)
        if settings.damping_rule == "lm" and k % settings.damping_period == 0:
            rejected += self.levenberg_marquardt(theta, state, x, y, stats, step)
        stats["rejected"] = rejected
        if self.evidence and state.evidence:
            with self.timer("evidence"):
                self.choose_decay(state, proposal, len(x), k, stats)
        with self.timer("vector"):
            if self.settings.averaging == AUTO and len(x) >= self.problem.rows:
                state.average = None  # no noise is left that an average could take away
            self.average_iterates(theta, state, step)
        return stats

    def choose_decay(
        self, state: SecondOrderState, proposal: StepProposal, rows: int, k: int, stats: Stats
    ) -> None:
        """Choose weight decay for the next updates where that is due, and add it to the log."""
        assert self.evidence is not None
        assert state.evidence is not None
        evidence, exact = state.evidence, rows >= self.problem.rows
        self.evidence.observe(evidence, proposal.loss, exact)
        if self.evidence.due(evidence, k):
            blocks = state.factors.blocks
            state.eta = self.evidence.next_decay(
                evidence, state.eta, self.preconditioner.plans, blocks, proposal.height.ww, k, exact
            )
            stats["effective"] = evidence.effective
            stats["log_evidence"] = evidence.log_evidence
            stats["noise"] = sqrt(evidence.noise)

    def log_evidence(self, theta: Array, state: SecondOrderState, loss: float) -> float | None:
        if self.evidence is None or state.evidence is None or not self.evidence.adapts:
            return None
        (ww,) = self.problem.net.ops.scalars(self.penalised_norm(theta))
        return self.evidence.log_evidence(state.evidence, state.eta, loss, ww)

    def penalised_norm(self, theta: Array) -> Array:
        """Return ‖W‖² as the penalty counts it (0-d, on the device)."""
        xp = self.problem.net.ops.xp
        biases = xp.take(theta, self.biases)
        ww = xp.vdot(theta, theta) - xp.vdot(biases, biases)
        return ww - (1.0 - self.last_share) * self._last_norm(theta, biases)

    def _last_norm(self, theta: Array, biases: Array) -> Any:
        """Return ‖W_L‖², biases aside (0-d, on the device); 0 where it counts like the others."""
        if self.last_share == 1.0:
            return 0.0
        xp, theta_L = self.problem.net.ops.xp, theta[self.last]
        b_L = biases[self.bias_offsets[-2] :]
        return xp.vdot(theta_L, theta_L) - xp.vdot(b_L, b_L)

    # ---- the step --------------------------------------------------------------------------------

    def attempt(
        self, theta: Array, state: SecondOrderState, x: Array, y: Array, step: int
    ) -> tuple[StepProposal, PreconditionerState]:
        """Return a proposal at θ, and the factors as they were before its statistics.

        Where a factorisation failed whose check was postponed, the work is done again with checks
        at once. Raises Diverged where the loss is finite and a factorisation fails all the same.
        """
        net, ops = self.problem.net, self.problem.net.ops
        g = self.workspace.take("gradient", (net.size,))
        for deferred in (True, False):
            with self.timer("passes"):
                batch = loss_and_gradient(self.problem, net.views(theta), x, y, g, self.workspace)
            mark = state.factors.mark()
            try:
                with ops.deferred_checks(deferred):
                    return self.propose(theta, state, batch, step, deferred), mark
            except Unchecked:
                state.factors.restore(mark)
            except Diverged:
                (value,) = ops.scalars(batch.loss)
                if isfinite(value):
                    raise
                # The same numbers have spoilt the factors and the loss: the loss is to be judged.
                return StepProposal(value, g, height=Height(value, nan)), mark
        raise AssertionError("checks at once leave nothing unchecked")

    def propose(
        self,
        theta: Array,
        state: SecondOrderState,
        batch: BatchGradient,
        step: int,
        deferred: bool,
    ) -> StepProposal:
        """Take statistics, refresh inverses, and make the direction and the quadratic model.

        Ends in the one fetch of the update from the device. The loss is fetched with the rest, so
        the caller undoes what a rejected step has left in the factors.
        """
        net, make, factors = self.problem.net, self.preconditioner, state.factors
        W, g, k = batch.W, batch.g, state.accepted + 1
        with self.timer("vector"):
            unit = 1.0 if deferred and net.ops.queued else _shorten(net.ops, g)
            norms = net.ops.squared_norms(theta, net.offsets)
            eta = self.decay(theta, norms, g, unit, state.eta)
        tape, held, still = batch.tape, batch.held, None
        if make.due(factors, k):
            with self.timer("statistics"):
                tape, held = make.observe(factors, W, tape, held, batch.x, batch.y, step, k)
                if factors.statistics % COUNTED == 1:
                    still = still_units(net, tape.head(make.rows(len(batch.x), k)))
        # No previous update: there was none yet, or it was undone, and the inverses lack the
        # damping raised since.
        fresh, damping = state.previous is None, make.damping(eta, state.damping, state.boost)
        with self.timer("inverses"):
            make.prepare(factors, k, damping, force=fresh)
        D = self.workspace.take("direction", (net.size,))
        with self.timer("solve"):
            make.solve(factors, g, damping, D)
            D *= -1.0
        with self.timer("vector"):
            self.bound(theta, norms, g, D)
        V = self.directions(state, D)
        with self.timer("model"):
            Q = self.model(batch, tape, held, list(V.values()))
        with self.timer("vector"):
            return self.fetch(theta, g, D, batch.loss, V, Q, unit, still)

    def decay(self, theta: Array, norms: Array, g: Array, unit: float, eta: float) -> Array:
        """Add weight decay to the gradient g in this unit, g_l ← g_l + η_l W_l, biases aside;
        return the η_l. ``norms`` are the ‖W_l‖².

        With r_l = ‖g_l‖ / ‖W_l‖, η_l = η min(1, r_l / (REACHED max r)): the preconditioner
        multiplies a gradient by the inverse curvature of the loss, so that a decay which outweighs
        a vanishing gradient would drive the weights of that layer to zero within a few updates. The
        last layer counts in units of the targets.
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        if not eta:
            return xp.zeros(net.layers, net.dtype)
        ratios = xp.sqrt(ops.squared_norms(g, net.offsets) / xp.maximum(norms, self.least_norms))
        if self.last_share != 1.0:
            ratios[-1] *= 1.0 / self.last_share
        reached = ratios / xp.maximum(REACHED * ratios.max(), TINY)
        etas = (eta * xp.minimum(reached, 1.0)).astype(net.dtype)
        if self.last_share != 1.0:
            etas[-1] *= self.last_share
        for l, (start, stop) in enumerate(itertools.pairwise(net.offsets)):
            ops.axpy(etas[l] / unit, theta[start:stop], g[start:stop])
        each = xp.repeat(etas / unit, net.sizes[1:])
        g[self.biases] -= each * xp.take(theta, self.biases)
        return etas

    def bound(self, theta: Array, norms: Array, g: Array, D: Array) -> None:
        """Shorten the directions D_l of layers to ‖D_l‖ ≤ TRUST ‖W_l‖, biases aside in W_l.

        ``norms`` are the ‖W_l‖² with biases. A layer whose direction is not finite, or zero because
        its curvature overflows, takes the negative gradient. Where the curvature of a layer
        vanishes, its direction would otherwise be so long that the one step size along D leaves
        nothing for the other layers (the trust ratio of You et al. 2017).
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        ww = norms - ops.squared_norms(xp.take(theta, self.biases), self.bias_offsets)
        longest = TRUST**2 * xp.maximum(ww, self.least_norms)
        dd = ops.squared_norms(D, net.offsets)
        usable = (dd > 0.0) & (dd < inf)
        if ops.queued or not usable.all():
            dd = xp.where(usable, dd, ops.squared_norms(g, net.offsets))
        scale = xp.sqrt(xp.minimum(longest / xp.maximum(dd, TINY), 1.0))
        for l, (start, stop) in enumerate(itertools.pairwise(net.offsets)):
            if ops.queued or not (usable[l] and scale[l] == 1.0):
                part = D[start:stop]
                ops.elementwise(_bounded, part, g[start:stop], usable[l], scale[l], out=part)

    def directions(self, state: SecondOrderState, D: Array) -> dict[str, Array]:
        """Return the directions of the quadratic model by name, D first."""
        # The decayed sum is a direction of its own once it holds two terms: one alone is parallel
        # to the last step.
        past = {
            "previous": state.previous,
            "decayed_sum": state.decayed_sum if state.terms >= 2 else None,
        }
        chosen = {name: past[name] for name in self.settings.directions}
        return {"preconditioned": D} | {n: v for n, v in chosen.items() if v is not None}

    def model_rows(self, rows: int) -> int:
        """Return how many rows of a batch the quadratic model uses."""
        cheap = int(CHEAP_MODEL / (12 * self.problem.net.size))
        return min(rows, max(LEAST_MODEL_ROWS, cheap, round(self.settings.model_rows * rows)))

    def model(self, batch: BatchGradient, tape: Tape, held: slice, V: list[Array]) -> Array:
        """Return Vᵀ GN V over the first rows of the batch, (k, k) on the device.

        ``tape`` holds the batch's first rows, ``held``. Where the model wants more of them, it runs
        the batch through again in parts.
        """
        problem, W, n = self.problem, batch.W, self.model_rows(len(batch.x))
        y = problem.loss.part(problem.net.ops, batch.y, slice(0, n))
        if n <= tape.rows:
            return curvature_products(
                problem.net, W, tape.head(n), problem.loss, y, V, self.workspace
            )
        total: Any = 0.0
        for rows in row_blocks(problem.net, n, problem.memory):
            part = forward(problem.net, W, batch.x[rows], self.workspace)
            Q = curvature_products(problem.net, W, part, problem.loss, y[rows], V, self.workspace)
            total = total + Q * (part.rows / n)
        return total

    def fetch(
        self,
        theta: Array,
        g: Array,
        D: Array,
        loss: Array,
        V: dict[str, Array],
        Q: Array,
        unit: float,
        still: Array | None,
    ) -> StepProposal:
        """Bring all numbers that the choice of the step and the log need to the host together.

        ``unit`` is that of g; ``still`` counts dead units where statistics were taken.
        """
        ops, xp, v, m = self.problem.net.ops, self.problem.net.ops.xp, list(V.values()), len(V)
        # Output biases at the data's mean can be most of ‖θ‖ and say nothing of how far weights may
        # move.
        biases = xp.take(theta, self.biases)
        fetched = ops.scalars(
            loss,
            xp.vdot(g, g),
            xp.vdot(theta, theta) - xp.vdot(biases, biases),
            *[xp.vdot(v_i, g) for v_i in v],
            *[xp.vdot(v[i], v[j]) for i in range(m) for j in range(m) if j <= i],
            *self._last_products(theta, biases, v),
            *([] if still is None else [still]),
            *Q.reshape(-1),
        )
        ops.confirm(fetched)
        gram, last, pairs = np.zeros((m, m)), np.zeros((m, m)), m * (m + 1) // 2
        lower, less, last_ww = np.tril_indices(m), 1.0 - self.last_share, 0.0
        gram[lower] = fetched[3 + m : 3 + m + pairs]
        if less:
            last_ww = fetched[3 + m + pairs]
            last[lower] = fetched[4 + m + pairs : 4 + m + 2 * pairs]
        gram, last = gram + np.tril(gram, -1).T, last + np.tril(last, -1).T
        GN = np.array(fetched[-m * m :]).reshape(m, m)
        return StepProposal(
            fetched[0],
            D,
            list(V),
            unit**2 * fetched[1],
            fetched[2],
            unit * np.array(fetched[3 : 3 + m]),
            gram,
            0.5 * (GN + GN.T),
            nan if still is None else fetched[-m * m - 1],
            Height(fetched[0], fetched[2] - less * last_ww),
            gram - less * last,
        )

    def _last_products(self, theta: Array, biases: Array, V: list[Array]) -> list[Any]:
        """Return ‖W_L‖² and the products of the last layer's parts of directions, lower triangle
        (0-d, on the device), where the last layer counts for itself in the penalty.
        """
        if self.last_share == 1.0:
            return []
        xp, parts = self.problem.net.ops.xp, [v[self.last] for v in V]
        products = [
            xp.vdot(parts[i], parts[j]) for i in range(len(V)) for j in range(len(V)) if j <= i
        ]
        return [self._last_norm(theta, biases), *products]

    def choose_step(
        self, state: SecondOrderState, proposal: StepProposal, rows: int
    ) -> tuple[dict[str, float], Stats]:
        """Return step sizes by name of direction, and the row of the log."""
        settings, names = self.settings, proposal.names
        b, gram = proposal.slopes, proposal.gram
        adaptive = settings.damping_rule != "relative"
        if adaptive:
            kappa = state.boost * state.damping
        else:
            kappa = self.model_damping(state, proposal, rows)
        model = proposal.curvature + kappa * gram + state.eta * proposal.penalty
        # Rescaling undoes damping alone, so the boost shortens the longest step as well.
        longest = settings.step_limit * sqrt(max(proposal.ww, 0.0)) / state.boost
        if not settings.rescale:
            steps = np.eye(len(b))[0] * settings.learning_rate
        elif isfinite(model[0, 0]):
            steps = minimise(model, b, RIDGE)
        else:  # the curvature along D overflows
            steps = np.eye(len(b))[0] * (longest or 1.0) / sqrt(gram[0, 0] + TINY)
        norm = sqrt(max(float(steps @ gram @ steps), 0.0))
        if 0.0 < longest < norm:
            steps *= longest / norm
            norm = longest
        if "previous" in names:
            state.growth.observe(settings, float(b[names.index("previous")]), self.problem.rows)
        state.growth.gain = -float(b @ steps)
        state.last = proposal.height
        chosen = dict(zip(names, steps.tolist(), strict=True))
        stats = {
            "loss": proposal.loss,
            "grad_norm": sqrt(proposal.gg),
            "step_norm": norm,
            "alpha": chosen["preconditioned"],
            "mu": chosen.get("previous", nan),
            "nu": chosen.get("decayed_sum", nan),
            "damping": state.boost * state.damping if adaptive else state.boost,
            "rho": nan,
            "predicted": float(b @ steps + 0.5 * steps @ model @ steps),
            "batch": rows,
            "batch_noise": state.growth.noise,
            "dead_units": proposal.dead,
            "weight_decay": state.eta,
            "effective": nan,
            "log_evidence": nan,
            "noise": nan,
        }
        return chosen, stats

    def model_damping(self, state: SecondOrderState, proposal: StepProposal, rows: int) -> float:
        """Return κ of the relative rule: of a tiny curvature along the directions no more than that
        curvature, times the boost.

        An absolute κ would decide the step alone where a net's curvature is far below it. A batch
        that is fitted already says little of the curvature, so the highest one of recent batches
        counts where batches differ.
        """
        settings = self.settings
        gram = np.diag(proposal.gram)
        highest = float((np.diag(proposal.curvature) / np.maximum(gram, TINY)).max())
        if not self._exact(rows):
            highest = max(highest, STIFFNESS_DECAY * state.stiffness)
        state.stiffness = highest if isfinite(highest) else state.stiffness
        kappa = settings.model_damping
        return state.boost * (min(kappa, highest) if highest > 0.0 else kappa)

    def advance(
        self, theta: Array, state: SecondOrderState, D: Array, steps: Mapping[str, float]
    ) -> None:
        """Take the step: θ ← θ + δ.

        Keeps δ as the previous update, adds D to the decayed sum, and keeps the old θ as the
        anchor, so that the next batch can undo the step.
        """
        ops, xp = self.problem.net.ops, self.problem.net.ops.xp
        if state.previous is None:
            state.previous = xp.zeros_like(theta)
        if state.anchor is None:
            state.anchor = xp.empty_like(theta)
        if "decayed_sum" in self.settings.directions and state.decayed_sum is None:
            state.decayed_sum = xp.zeros_like(theta)
        ops.in_place(
            _advance,
            (theta, state.anchor, state.previous, state.decayed_sum),
            D,
            steps["preconditioned"],
            steps.get("previous", 0.0),
            steps.get("decayed_sum", 0.0),
            self.settings.direction_decay,
        )
        state.terms += state.decayed_sum is not None
        state.accepted += 1
        state.boost = max(1.0, state.boost * RELAX)

    # ---- the guard -------------------------------------------------------------------------------

    def judge(
        self, theta: Array, state: SecondOrderState, x: Array, y: Array, height: Height, step: int
    ) -> bool:
        """Undo the last step if it is to blame for a jump of the objective; return whether it was.

        Called once an update with the height of a batch that the step has not seen. Raises Diverged
        where undoing the step does not help.
        """
        ops, value, eta = self.problem.net.ops, height.loss, state.eta
        if not self.jumped(state, height, len(x)):
            state.rejected_in_row = 0
            return False
        if state.anchor is None:
            if not isfinite(value):
                raise Diverged(f"update {step}: the loss is {value:g} before the first step")
            return False
        # A workspace apart: the tape of the batch is still wanted if the step stands.
        apart = Workspace(ops, self.problem.net.dtype)
        with self.timer("passes"):
            (before,) = ops.scalars(
                mean_loss(self.problem, self.problem.net.views(state.anchor), x, y, apart)
            )
        former = Height(before, state.last.ww)
        if not self.to_blame(height.under(eta), former.under(eta), len(x)):
            state.rejected_in_row = 0  # the batch is a hard one, the step was not bad
            return False
        if not isfinite(before):
            raise Diverged(
                f"update {step}: the loss is {before:g} on this batch also before the last step"
            )
        ops.xp.copyto(theta, state.anchor)
        self._reject(state, step, isfinite(value))
        if self._exact(len(x)) and isfinite(value) and state.boost > STUCK:
            # Only at a kink of the loss, as relu has them, are steps as short as that turned down.
            # Going up a little, as runs on other rows at every update do, leads past it.
            state.boost, state.stale = 1.0, 0
            state.slack = min(max(10.0 * state.slack, FIRST_SLACK), MOST_SLACK)
        return True

    def note_lowest(self, theta: Array, state: SecondOrderState, height: Height, rows: int) -> None:
        """Keep the lowest objective of all of the data, that of ``height`` at θ if it is, and
        become stricter where there was none for long.
        """
        if not self._exact(rows):
            return
        eta = state.eta
        if height.under(eta) < state.lowest.under(eta):
            state.lowest, state.stale = height, 0
            state.low = theta.copy() if state.slack > ROUNDING else None
            return
        state.stale += 1
        if state.stale >= PATIENCE and state.slack > ROUNDING:
            state.slack, state.stale = max(ROUNDING, state.slack / 10.0), 0

    def jumped(self, state: SecondOrderState, height: Height, rows: int) -> bool:
        """Whether the objective of a batch calls for a look at the last step: it is not finite, or
        far above that of the batch before.
        """
        eta = state.eta
        value, last, tolerance = height.under(eta), state.last.under(eta), self.settings.rejection
        if self._exact(rows):
            last, tolerance = min(last, state.lowest.under(eta)), state.slack
        return not isfinite(value) or (tolerance > 0.0 and value - last > tolerance * abs(last))

    def to_blame(self, value: float, before: float, rows: int) -> bool:
        """Whether the last step made this batch worse; ``before`` is the loss without the step."""
        blame = 0.0 if self._exact(rows) else BLAME
        return not isfinite(value) or value - before > blame * abs(before)

    def _exact(self, rows: int) -> bool:
        """Whether a batch is all of the data, so that no noise excuses a rise of its loss."""
        return self.settings.rejection > 0.0 and rows >= self.problem.rows

    def closing_weights(
        self, theta: Array, state: SecondOrderState, x: Array, y: Array
    ) -> Array | None:
        if state.anchor is None:
            return None
        net, ops = self.problem.net, self.problem.net.ops
        eta = state.eta
        value = mean_loss(self.problem, net.views(theta), x, y, self.workspace)
        height = Height(*ops.scalars(value, self.penalised_norm(theta)))
        lowest = state.lowest.under(eta)
        if state.low is not None and self._exact(len(x)) and not height.under(eta) <= lowest:
            return state.low
        if not self.jumped(state, height, len(x)):
            return None
        (before,) = ops.scalars(
            mean_loss(self.problem, net.views(state.anchor), x, y, self.workspace)
        )
        former = Height(before, state.last.ww).under(eta)
        if not isfinite(before) or not self.to_blame(height.under(eta), former, len(x)):
            return None
        return state.anchor

    def _reject(self, state: SecondOrderState, step: int, finite: bool) -> None:
        """Raise damping and forget past directions; the weights are back at the anchor."""
        state.rejected_in_row += 1
        if state.rejected_in_row > MAX_REJECTIONS and not finite:
            raise Diverged(
                f"update {step}: {MAX_REJECTIONS} steps in a row led to a loss that is not finite"
            )
        state.boost = min(state.boost * RAISE, RAISE**MAX_REJECTIONS)
        state.previous, state.decayed_sum, state.terms = None, None, 0

    def levenberg_marquardt(
        self, theta: Array, state: SecondOrderState, x: Array, y: Array, stats: Stats, step: int
    ) -> bool:
        """Adapt λ by the reduction ratio on the same batch, and undo the step if it raised the
        objective; return whether it was undone.
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        with self.timer("passes"):
            after = mean_loss(self.problem, net.views(theta), x, y, self.workspace)
        old = state.anchor
        with self.timer("vector"):
            after_value, ww = ops.scalars(after, self.penalised_norm(theta))
        reached = Height(after_value, ww)
        change = reached.under(state.eta) - state.last.under(state.eta)
        rho = change / stats["predicted"] if stats["predicted"] != 0.0 else nan
        stats["rho"] = rho if isfinite(rho) else nan
        state.damping = adapt(self.settings, state.damping, rho)
        if isfinite(after_value) and change <= 0.0:
            return False
        xp.copyto(theta, old)
        self._reject(state, step, isfinite(after_value))
        return True

    def _pays_for_evidence(self) -> int:
        """Return the number of updates whose EVIDENCE_SHARE pays for a choice of weight decay."""
        net, width = self.problem.net, self.settings.block.width
        choice = sum(cost.eigenvalues(o, width) + cost.eigenvalues(i, width) for o, i in net.shapes)
        choice += EVIDENCE_FLOPS * net.size
        passes = cost.forward(net.sizes, 1) + cost.backward(net.sizes, 1)
        return ceil(choice / (EVIDENCE_SHARE * passes * self.first_batch(BATCH)))

    # ---- periods ---------------------------------------------------------------------------------

    def period(self) -> int:
        """Statistics are taken every ``factor_period`` updates, inverses every ``inverse_period``;
        together they repeat after the least common multiple of the two.
        """
        return lcm(self.settings.factor_period, self.settings.block.period)

    def skip_to(self, state: SecondOrderState, updates: int) -> None:
        """Count ``updates`` accepted steps, and as many statistics where there were fewer."""
        factors = state.factors
        state.accepted = updates
        factors.statistics = max(factors.statistics, updates)

    # ---- cost ------------------------------------------------------------------------------------

    def cost(self, base: int) -> Cost:
        """Return flops by phase, bytes of blocks and directions, and of the curvature's
        temporaries.
        """
        net, rows, kinds = self.problem.net, min(base, self.problem.rows), self.settings.directions
        largest = self.preconditioner.rows(self.largest_batch(base), 1)
        # Levenberg and Marquardt's rule runs the batch forward again after the step.
        adaptive = self.settings.damping_rule == "lm"
        judged = 1.0 / self.settings.damping_period if adaptive else 0.0
        factors = self.preconditioner.cost(self.preconditioner.rows(rows, preconditioner.EARLY + 1))
        return Cost(
            {
                "passes": (1.0 + judged) * cost.forward(net.sizes, rows)
                + cost.backward(net.sizes, rows),
                **factors.phases,
                "model": cost.quadratic_model(net.sizes, self.model_rows(rows), 1 + len(kinds)),
            },
            factors.state + net.size * (3.0 + len(kinds)) * net.dtype.itemsize,
            float(self.curvature.temporaries(net, self.problem.loss, largest, self.problem.memory)),
        )


def _shorten(ops: Backend, g: Array) -> float:
    """Return 1; where ‖g‖² overflows, its largest finite entry, and divide g by that.

    Entries that are not finite become 0.
    """
    xp = ops.xp
    (square,) = ops.scalars(xp.vdot(g, g))
    if isfinite(square):
        return 1.0
    g[...] = xp.where(xp.abs(g) < inf, g, 0.0)
    (unit,) = ops.scalars(xp.abs(g).max())
    if unit == 0.0:
        return 1.0
    g *= 1.0 / unit
    return unit


def _bounded(ops: Backend, D: Array, g: Array, usable: Array, scale: Array, out: Array) -> Array:
    """Return scale · D, or −scale · g where D is not ``usable``."""
    xp = ops.xp
    return xp.multiply(xp.where(usable, D, -g), scale, out=out)


def _advance(
    ops: Backend,
    theta: Array,
    anchor: Array,
    delta: Array,
    total: Array | None,
    D: Array,
    alpha: float,
    mu: float,
    nu: float,
    decay: float,
) -> None:
    """δ ← α D + μ δ + ν s, s ← decay · s + D, anchor ← θ, θ ← θ + δ; without s (``total``) if it is
    None.
    """
    delta *= mu
    ops.axpy(alpha, D, delta)
    if total is not None:
        ops.axpy(nu, total, delta)
        total *= decay
        total += D
    anchor[...] = theta
    theta += delta
