"""Weight decay chosen by the evidence of the data (MacKay 1992; Foresee & Hagan 1997; Immer et al.
2021).

Weight decay η is the ratio of two precisions of a Bayesian model: a normal prior of the weights,
biases aside, and a likelihood with noise σ² (1 unless the loss is the squared error),

    −log p(data, W) = N E/σ² + ½ N η ‖W‖² / σ²,      N rows, mean loss E.

The Laplace approximation with the Kronecker factors A ⊗ G of the layers as curvature gives the log
evidence and the number γ of weights that the data determine. With the eigenvalues t_ij = a_i g_j of
the blocks, the biases integrated out,

    ℓ(η) = [ −N E/σ² − ½ N η ‖W‖²/σ² − ½ Σ log(1 + t/η) − ½ N K log 2πσ² ] / N     nats a row
    γ(η) = Σ t / (t + η),       σ² = 2 N E / (N K − γ)

(the terms in σ² for the squared error alone). η follows MacKay's fixed point
η = σ²γ / (N ‖W‖²), which ignores that the curvature changes with η. Where every batch is all of the
data, η later climbs: it is changed by a factor, the weights follow in the next updates, and the
direction is kept while ℓ rises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, inf, isfinite, log, nan, pi, sqrt

from gnopt.curvature.blocks import Block, LayerPlan
from gnopt.engine.arrays import Array
from gnopt.optimizers.base import Problem

START = 1e-6  # first η, in units of the loss: it counts once the loss has fallen
LOWEST, HIGHEST = 1e-9, 1.0  # of η, in units of the loss
STAGE = 10  # the first choices are made after so many updates each, whatever they cost
FIRST_STAGES = 2
# Where every batch is all of the data, so many choices follow MacKay's fixed point before η climbs;
# where batches differ all do, as ℓ is too noisy to be compared.
MACKAY_STAGES = 6
# How far, in log η, the first choice goes from START to the fixed point, whose γ is that of weights
# hardly trained; and later ones from the η before.
FIRST_WAY, WAY = 0.75, 0.5
EXACT_PERIOD = 2  # stages between choices once η climbs, where every batch is all of the data
LEAST_FREE = 0.05  # residual degrees of freedom, as a share of the numbers in the targets
LOSS_MEMORY = 0.8  # of the average of the losses of batches
FIRST_FACTOR, LEAST_FACTOR, SHRINK = log(2.0), 0.1, 0.6  # of the climb, in log η


@dataclass
class Spectrum:
    """Eigenvalues of a layer's block as products t_ij = a_i g_j, the bias integrated out."""

    a: Array
    g: Array


@dataclass
class EvidenceState:
    """The noise and what the next choice of η needs; every checkpoint stores it.

    ``effective`` is γ, ``log_evidence`` ℓ and ``spectra`` what both were made of at the last
    choice; ``loss`` is the mean loss of recent batches, ``stages`` counts choices, the next one is
    due at update ``next_stage``, ``factor`` is the next change of log η, ``last`` the ℓ before it.
    """

    noise: float = 1.0  # σ²
    loss: float = nan
    stages: int = 0
    next_stage: int = STAGE
    factor: float = FIRST_FACTOR
    last: float = -inf
    effective: float = nan
    log_evidence: float = nan
    spectra: list[Spectrum] = field(default_factory=list)


class Evidence:
    """Chooses η during a run."""

    def __init__(self, problem: Problem, interval: int, adapts: bool) -> None:
        """``interval`` is the number of updates that pay for a choice; η stays as it is unless the
        evidence ``adapts`` it.
        """
        self.problem, self.adapts = problem, adapts
        self.interval = max(STAGE, -(-interval // STAGE) * STAGE)
        self.numbers = problem.rows * problem.net.sizes[-1]
        self.gaussian = problem.loss.gaussian

    def observe(self, state: EvidenceState, loss: float, exact: bool) -> None:
        """Take note of the loss of a batch; ``exact`` says that it is all of the data."""
        if exact or not isfinite(state.loss):
            state.loss = loss
        else:
            state.loss += (1.0 - LOSS_MEMORY) * (loss - state.loss)

    def due(self, state: EvidenceState, k: int) -> bool:
        """Whether η is chosen anew at update k."""
        return k >= state.next_stage

    def next_decay(
        self,
        state: EvidenceState,
        eta: float,
        plans: list[LayerPlan],
        blocks: list[Block],
        ww: float,
        k: int,
        exact: bool,
    ) -> float:
        """Return the next η at update k; ``ww`` is the squared norm of the weights without
        biases, ``exact`` says that every batch is all of the data.
        """
        state.spectra = self._spectra(plans, blocks)
        N, unit, stage = self.problem.rows, self.problem.unit, state.stages
        gamma, volume = self._sums(state, eta)
        early = stage < MACKAY_STAGES or not exact
        fresh = self._noise(state.loss, gamma)
        state.noise = sqrt(state.noise * fresh) if early and stage and self.gaussian else fresh
        ell = self._log_evidence(state.loss, ww, eta, state.noise, volume)
        state.effective, state.log_evidence = gamma, ell
        state.stages += 1
        gap = STAGE * (EXACT_PERIOD if exact and not early else 1)
        state.next_stage = k + (gap if stage < FIRST_STAGES else max(self.interval, gap))
        if not self.adapts:
            return eta
        if early:
            target = state.noise * gamma / max(N * ww, 1e-300)
            target = min(max(target, LOWEST * unit), 10.0 * unit)
            way = WAY if stage else FIRST_WAY
            eta = eta ** (1.0 - way) * target**way
        else:
            if ell < state.last:
                size = max(SHRINK * abs(state.factor), LEAST_FACTOR)
                state.factor = -size if state.factor > 0.0 else size
            eta *= exp(state.factor)
        state.last = ell
        return min(max(eta, LOWEST * unit), HIGHEST * unit)

    def log_evidence(self, state: EvidenceState, eta: float, loss: float, ww: float) -> float:
        """Return ℓ of weights with this mean loss over all rows; −∞ before the first choice.

        The curvature is that of the last choice.
        """
        if not state.spectra:
            return -inf
        gamma, volume = self._sums(state, eta)
        return self._log_evidence(loss, ww, eta, self._noise(loss, gamma), volume)

    def _log_evidence(
        self, loss: float, ww: float, eta: float, noise: float, volume: float
    ) -> float:
        N = self.problem.rows
        fit = -(loss + 0.5 * eta * ww) / noise - 0.5 * volume / N
        return fit - (0.5 * self.numbers / N * log(2.0 * pi * noise) if self.gaussian else 0.0)

    def _noise(self, loss: float, gamma: float) -> float:
        """Return σ² of residuals with this mean loss."""
        if not self.gaussian:
            return 1.0
        free = max(self.numbers - gamma, LEAST_FREE * self.numbers)
        return max(2.0 * self.problem.rows * loss / free, 1e-12 * self.problem.unit)

    def _sums(self, state: EvidenceState, eta: float) -> tuple[float, float]:
        """Return γ and Σ log(1 + t/η)."""
        xp, found = self.problem.net.ops.xp, []
        for s in state.spectra:
            t = xp.outer(s.g, s.a) * (1.0 / eta)
            found += [xp.log1p(t).sum(), (t / (1.0 + t)).sum()]
        numbers = self.problem.net.ops.scalars(*found)
        return sum(numbers[1::2]), sum(numbers[::2])

    def _spectra(self, plans: list[LayerPlan], blocks: list[Block]) -> list[Spectrum]:
        found = [
            Spectrum(*block.spectrum(plan.ops)) for plan, block in zip(plans, blocks, strict=True)
        ]
        found[-1].g = found[-1].g * self.problem.output_scale**2
        return found
