"""The preconditioner over the updates of a run: a loop over the blocks of the layers.

It decides when statistics are taken and from which rows; the curvature estimates them, the blocks
average, damp, invert and apply them. Its state is a record of arrays and numbers; nothing is cached
outside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gnopt import rng
from gnopt.aims import AUTO, CROSS_VALIDATION, EVIDENCE
from gnopt.curvature import Curvature, CurvatureSample, CurvatureSettings
from gnopt.curvature.blocks import Block, BlockSettings, LayerPlan, Refresh
from gnopt.curvature.cost import Cost, input_factors
from gnopt.curvature.damping import Damping, DampingSettings
from gnopt.curvature.factors import Factor, Forms, mix_each
from gnopt.engine.arrays import Array, Workspace
from gnopt.engine.network import Network, Tape, forward
from gnopt.optimizers.base import Problem, row_blocks
from gnopt.options import option

EARLY = 10  # updates with statistics from all rows: the first steps decide where the run goes
LEAST_ROWS = 250


@dataclass(frozen=True, kw_only=True)
class PreconditionerSettings(DampingSettings):
    """Options of statistics and damping, with those of the block class and of the curvature."""

    curvature_decay: float = option(
        0.7,
        "moving average of the factors, bias-corrected: β_k = min(1 − 1/k, β)",
        low=0.0,
        high=1.0,
        open_high=True,
    )
    factor_period: int = option(
        5, "updates between statistics (every update for the first 10)", low=1
    )
    factor_rows: float = option(
        0.25,
        "share of the batch that statistics use, at least 250 rows; all of it in "
        "the first 10 updates",
        low=0.0,
        high=1.0,
        open_low=True,
    )
    weight_decay: float | str = option(
        AUTO,
        "η in the penalty ½ η ‖W‖² of the weights, biases aside, in units of the loss of the best "
        "constant predictor; evidence: chosen during the run by the evidence of the data; "
        "cross_validation: chosen before the run; auto: as training.aim says, for prediction by "
        "cross-validation where that takes seconds, else by the evidence",
        choices=(AUTO, EVIDENCE, CROSS_VALIDATION),
        low=0.0,
    )
    block: BlockSettings = field(default_factory=BlockSettings)
    curvature: CurvatureSettings = field(default_factory=CurvatureSettings)


@dataclass
class PreconditionerState:
    """How many statistics were taken, and the block of every layer."""

    statistics: int
    blocks: list[Block]

    def mark(self) -> PreconditionerState:
        """Return the state as it is now, to go back to: its arrays are replaced, never changed."""
        return PreconditionerState(self.statistics, [block.copied() for block in self.blocks])

    def restore(self, mark: PreconditionerState) -> None:
        """Go back to a state that `mark` returned; the mark may be used again."""
        fresh = mark.mark()
        self.statistics, self.blocks = fresh.statistics, fresh.blocks


class Preconditioner:
    """Drives one curvature and the blocks that it names."""

    def __init__(
        self,
        problem: Problem,
        settings: PreconditionerSettings,
        curvature: Curvature,
        workspace: Workspace,
    ) -> None:
        self.problem, self.settings, self.workspace = problem, settings, workspace
        self.curvature = curvature
        self.block = curvature.block.chosen(settings.block)
        self.forms = Forms(settings.block.width, low_rank=settings.curvature_decay == 0.0)
        self.plans = self._plans()

    def _plans(self) -> list[LayerPlan]:
        net, settings = self.problem.net, self.settings
        diagonal = self.curvature.diagonal_factors(net, self.problem.loss)
        period = settings.block.period
        slots = _stagger(net, diagonal, period)
        plans = []
        for l, shape in enumerate(net.shapes):
            # Without an average the sketch of one factor says nothing of the next one.
            sketched = not diagonal[l] and settings.curvature_decay > 0.0
            rank = settings.block.sketch_rank(shape[0], settings) if sketched else 0
            plans.append(
                LayerPlan(
                    net.ops,
                    l + 1,
                    shape,
                    net.dtype,
                    self.forms,
                    period,
                    (slots[2 * l], slots[2 * l + 1]),
                    rank,
                    diagonal[l],
                    self.problem.seed,
                )
            )
        return plans

    def init(self) -> PreconditionerState:
        """Return the state before any statistics."""
        return PreconditionerState(0, [self.block.start(plan) for plan in self.plans])

    def damping(self, eta: Any, lam: float, boost: float = 1.0) -> Damping:
        """Return the damping of an update under this weight decay η, λ and boost.

        ``eta`` is a number, or an array with one for each layer.
        """
        return Damping(self.settings, eta, lam, boost)

    def due(self, state: PreconditionerState, k: int) -> bool:
        """Whether update k takes statistics."""
        return state.statistics == 0 or k <= EARLY or k % self.settings.factor_period == 0

    def rows(self, batch: int, k: int) -> int:
        """Return how many data points of a batch update k takes statistics from."""
        share = 1.0 if k <= EARLY else self.settings.factor_rows
        return min(batch, max(LEAST_ROWS, round(share * batch)))

    def observe(
        self,
        state: PreconditionerState,
        W: list[Array],
        tape: Tape,
        held: slice,
        x: Array,
        y: Array,
        step: int,
        k: int,
    ) -> tuple[Tape, slice]:
        """Mix the statistics of the batch's first rows into the blocks.

        ``tape`` holds rows ``held`` of the batch; where statistics want more rows, the batch is run
        through again in parts. Returns the tape and the rows that are valid now.
        """
        net, ops = self.problem.net, self.problem.net.ops
        count = self.rows(len(x), k)
        state.statistics += 1
        beta = min(1.0 - 1.0 / state.statistics, self.settings.curvature_decay)
        y = self.problem.loss.even(ops, y[:count])
        # One generator for the whole batch: its parts draw one after the other.
        sample = self._sample(W, tape, y, rng.generator(self.problem.seed, "curvature", step))
        parts = [held] if held.stop >= count else list(row_blocks(net, count, self.problem.memory))
        means: list[Factor] = []
        for i, part in enumerate(parts):
            if part is not held:
                tape, held = forward(net, W, x[part], self.workspace), part
            used = min(part.stop, count) - part.start
            sample = replace(sample, tape=tape.head(used), y=y[part.start : part.start + used])
            share = used / count
            self._observe_scales(state, sample, share, new=i == 0)
            if self.block.factored:
                self._observe_inputs(state, sample, beta if i == 0 else 1.0, (1.0 - beta) * share)
                means = mix_each(ops, means, self.curvature.means(sample), 1.0, share)
        if self.block.factored:
            outputs = self.curvature.finish(means, sample)
            for plan, block, G in zip(self.plans, state.blocks, outputs, strict=True):
                block.observe_output(plan, G, beta, 1.0 - beta)
        return tape, held

    def _sample(
        self, W: list[Array], tape: Tape, y: Array, generator: np.random.Generator
    ) -> CurvatureSample:
        problem = self.problem
        return CurvatureSample(
            problem.net,
            W,
            tape,
            problem.loss,
            y,
            generator,
            problem.memory,
            self.forms,
            self.workspace,
        )

    def _observe_inputs(
        self, state: PreconditionerState, sample: CurvatureSample, keep: float, weight: float
    ) -> None:
        known = 0 < self.settings.block.known_after < state.statistics
        for plan, block in zip(self.plans, state.blocks, strict=True):
            if not (known and plan.layer == 1):
                block.observe_input(plan, sample.inputs(plan.layer), keep, weight)

    def _observe_scales(
        self, state: PreconditionerState, sample: CurvatureSample, share: float, new: bool
    ) -> None:
        """Mix in the diagonals, where the curvature estimates them and the blocks have bases."""
        bases = [block.bases() for block in state.blocks]
        ready = [pair for pair in bases if pair is not None]
        if not self.curvature.estimates_scales or len(ready) < len(bases):
            return
        decay = self.settings.curvature_decay
        scales = self.curvature.scales(sample, ready)
        for plan, block, S in zip(self.plans, state.blocks, scales, strict=True):
            block.observe_scales(plan, S, decay, share, new)

    def prepare(self, state: PreconditionerState, k: int, damping: Damping, force: bool) -> None:
        """Refresh the damped inverses or bases that are due at update k, or all with ``force``."""
        refresh = Refresh(k, self.settings.block.period, force)
        for plan, block in zip(self.plans, state.blocks, strict=True):
            block.prepare(plan, refresh, damping.of_layer(plan.layer))

    def solve(self, state: PreconditionerState, g: Array, damping: Damping, out: Array) -> None:
        """Write (block + damping)⁻¹ g of every layer into the flat ``out``."""
        views = self.problem.net.views
        for plan, block, g_l, out_l in zip(
            self.plans, state.blocks, views(g), views(out), strict=True
        ):
            block.solve(plan, damping.of_layer(plan.layer), g_l, out_l, self._half)

    def _half(self, shape: tuple[int, ...]) -> Array:
        return self.workspace.take("half", shape)

    def cost(self, rows: float) -> Cost:
        """Return what an average update with statistics of ``rows`` data points costs."""
        net, settings = self.problem.net, self.settings
        statistics = self.curvature.flops(net, self.problem.loss, rows, self.forms.width)
        if self.block.factored:
            known = settings.block.known_after > 0
            statistics += input_factors(net.sizes, rows, known, self.forms.width)
        each = [self.block.cost(plan) for plan in self.plans]
        return Cost(
            {
                "statistics": statistics / settings.factor_period,
                "inverses": sum(c.refresh for c in each) / settings.block.period,
                "solve": sum(c.solve for c in each),
            },
            sum(c.bytes for c in each),
        )


def _stagger(net: Network, diagonal: list[bool], period: int) -> list[int]:
    """Return the residue (mod period) at which each factor is refreshed.

    The dearest factor comes first, and each goes to the update that has least to do so far.
    """
    work = []
    for l, (o, i) in enumerate(net.shapes):
        work += [(float(i) ** 3, 2 * l), (0.0 if diagonal[l] else float(o) ** 3, 2 * l + 1)]
    load, slots = [0.0] * period, [0] * len(work)
    for flops, index in sorted(work, reverse=True):
        slots[index] = load.index(min(load))
        load[slots[index]] += flops
    return slots
