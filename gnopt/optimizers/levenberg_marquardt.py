"""Levenberg-Marquardt on the whole Gauss-Newton matrix, for small nets in float64 (Levenberg 1944;
Marquardt 1963), with geodesic acceleration (Transtrum & Sethna 2012).

    (H + W + λ D) d = −∇,   (H + W + λ D) a = −Jᵀ 𝒢_L R²{h_L} / N,   δ = d + ½ a

A step is tried on the rows that it was made from, and taken if the objective falls there; else λ is
raised and the same system is solved again. λ follows the ratio ρ of the decrease to that of the
quadratic model at d (Nielsen 1999): λ ← λ max(1/3, 1 − (2ρ − 1)³) after a step, λ ← λ ν, ν ← 2 ν
without one. The second order of the path is taken along where 2 |a|_D ≤ ¾ |d|_D. D is near
√(diag H · mean diag H), halfway between Marquardt's diagonal and the identity, of the largest sizes
of H so far (Moré 1978); the system is that of all weights or that of all targets (``dense``), or
that of the hidden weights, for several outputs (``hidden``).

Every update is made from the same rows: all of them, or one chunk that is kept for the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log, nan, sqrt

import numpy as np

from gnopt.aims import AUTO, CROSS_VALIDATION, EVIDENCE
from gnopt.curvature import cost
from gnopt.curvature.cost import Cost
from gnopt.engine.arrays import Array, Unchecked, Workspace
from gnopt.engine.network import still_units
from gnopt.errors import ConfigError, Diverged
from gnopt.optimizers.base import (
    Claim,
    Optimizer,
    OptimizerSettings,
    Problem,
    State,
    Stats,
    mean_loss,
)
from gnopt.optimizers.dense import Batch, Dual, Primal, System
from gnopt.optimizers.hidden import Hidden
from gnopt.options import option

PRIMAL, DUAL, HIDDEN = "primal", "dual", "hidden"
TRIES = 60  # of an update
LOWEST, HIGHEST = 1e-15, 1e8  # λ; above, no step helps
RAISE, RAISED = 10.0, 1e-14  # factor and least λ after a factorisation that failed
SLOWEST = 1.0 / 3.0  # λ falls by this factor at most
TINY = 1e-300
BENT = 0.75  # 2 |a| / |d| up to which a step follows the bend of its path
FLAT, FLAT_UPDATES = 1e-9, 10  # converged: so many updates in a row fell by no more than this share
AFFORDABLE = 3e10  # flops of an update of all rows: about 1.5 s on one core
ENOUGH, RATE = 20, 2e10  # updates that a run makes at least, and flops a second of one core
ROWS_PER_WEIGHT, LEAST_ROWS = 16, 1000  # of a chunk, whose numbers of targets are counted
# Evidence: η in units of the loss at the start, and its limits; the updates before the first
# choice; the change of log η below which it is settled; the least residual degrees of freedom, as a
# share of the numbers in the targets.
START, LEAST_DECAY, MOST_DECAY = 1e-3, 1e-12, 1e3
EVIDENCE_FROM, SETTLED, LEAST_FREE = 30, 0.05, 0.05
COUNTED = 10  # dead units are counted at every tenth update


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardtSettings(OptimizerSettings):
    """Options of the update and of the rows that it is made from."""

    damping: float = option(1e-2, "initial λ, in units of D", low=0.0, open_low=True)
    acceleration: bool = option(
        True, "follow the second order of the path (geodesic acceleration) where it is small"
    )
    rows: int = option(
        0,
        "rows of every update, drawn once and kept for the run; 0 = all, or, where an update of "
        "all takes too long, at least 16 targets for each weight. training.batch_size is not used",
        low=0,
    )
    form: str = option(
        AUTO,
        "the system that is factorised: primal, of all weights; dual, of all targets; hidden, of "
        "the weights before the last layer (squared error of several outputs); auto: the cheapest",
        choices=(AUTO, PRIMAL, DUAL, HIDDEN),
    )
    weight_decay: float | str = option(
        AUTO,
        "η in the penalty ½ η ‖W‖² of the weights, biases aside, in units of the loss of the best "
        "constant predictor; evidence: chosen during the run by the exact evidence of the data; "
        "cross_validation: chosen before the run; auto: as training.aim says",
        choices=(AUTO, EVIDENCE, CROSS_VALIDATION),
        low=0.0,
    )


@dataclass(kw_only=True)
class LevenbergMarquardtState(State):
    """λ, ν, the largest sizes of H so far, and updates in a row without a clear decrease.

    ``noise`` is σ² by the evidence; ``settled`` says that it has changed η by little.
    """

    damping: float
    largest: Array
    growth: float = 2.0
    flat: int = 0
    noise: float = 1.0
    settled: bool = True


@dataclass
class Trial:
    """A step with its numbers: the objective's parts before and after it, ‖∇‖², ‖δ‖², ∇ᵀd, dᵀE d
    and aᵀE a. ``dead`` counts dead units and ``effective`` is γ, NaN where they were not counted.
    """

    theta: Array  # θ + δ
    loss: float
    penalty: float
    after: float = inf
    penalty_after: float = 0.0
    gg: float = 0.0
    squared: float = 0.0
    gd: float = 0.0
    dEd: float = 0.0
    aEa: float = 0.0
    dead: float = nan
    effective: float = nan

    @property
    def objective(self) -> float:
        """Loss and penalty at θ."""
        return self.loss + self.penalty

    @property
    def bend(self) -> float:
        """2 |a| / |d|, how far the path bends away from d."""
        return 2.0 * sqrt(self.aEa / self.dEd) if self.dEd > 0.0 else 0.0

    @property
    def decrease(self) -> float:
        """How far the objective falls; −∞ where it is not finite."""
        fall = (self.loss - self.after) + (self.penalty - self.penalty_after)
        return fall if isfinite(fall) else -inf

    @property
    def predicted(self) -> float:
        """How far the quadratic model falls at d: ½ (−∇ᵀd + dᵀE d)."""
        return 0.5 * (self.dEd - self.gd)


class LevenbergMarquardt(Optimizer[LevenbergMarquardtState]):
    """One system an update, factorised as often as it takes to find a step."""

    name = "levenberg_marquardt"
    summary = (
        "the exact Gauss-Newton matrix, factorised, with geodesic acceleration; for nets of up to "
        "some thousand weights"
    )
    colour = "#C51B7D"
    other_names = ("lm", "trainlm", "marquardt")
    order = 2
    dtype = "float64"
    exact_evidence = True
    Settings = LevenbergMarquardtSettings
    state_type = LevenbergMarquardtState
    settings: LevenbergMarquardtSettings

    def __init__(self, problem: Problem, settings: LevenbergMarquardtSettings) -> None:
        super().__init__(problem, settings)
        if settings.averaging == AUTO:
            self.averaging = 0.0  # all updates are made from the same rows: there is no noise
        self.apart = Workspace(problem.net.ops, problem.net.dtype)  # of trials
        self.penalised = self._penalised()
        decay = problem.aim.choose("weight_decay", settings.weight_decay)
        self.adapts = isinstance(decay, str) and problem.loss.likelihood
        first = START if self.adapts else 0.0
        self.first_decay = problem.unit * (first if isinstance(decay, str) else decay)
        given = problem, self.penalised, self.workspace
        forms: dict[str, System] = {PRIMAL: Primal(*given)}
        if problem.loss.has_root_residual():
            forms[DUAL] = Dual(*given)
        if Hidden.serves(problem):
            forms[HIDDEN] = Hidden(*given)
        self.system = self._chosen(forms)
        self.rows = self._rows()
        self.rounding = float(np.finfo(problem.net.dtype).eps)

    @classmethod
    def claim(cls, problem: Problem, seconds: float) -> Claim:
        """Claim nets whose update with all rows takes a second or so and fits into memory.

        A fixed chunk of the rows would do for noiseless targets alone, and these nobody knows.
        """
        method = cls(problem, LevenbergMarquardtSettings(rows=problem.rows))
        own, P = method.cost(problem.rows), problem.net.size
        update = f"an update of {P:,} weights on {problem.rows:,} rows takes {own.flops:.2g} flops"
        if own.flops > AFFORDABLE:
            return Claim(False, f"{update}, more than {AFFORDABLE:.2g}")
        if seconds and ENOUGH * own.flops > seconds * RATE:
            return Claim(False, f"{update}: {ENOUGH} of them do not fit into {seconds:g} s")
        available = problem.net.ops.free_memory() // 4
        if own.temporaries > available:
            return Claim(False, f"its matrices take {own.temporaries:.2g} bytes of {available:.2g}")
        return Claim(True, f"{update}, at most {AFFORDABLE:.2g}: the exact method is affordable")

    def _chosen(self, forms: dict[str, System]) -> System:
        """Return the form that was asked for, or the cheapest one at the rows of an update."""
        form, rows = self.settings.form, self.settings.rows or self.problem.rows
        if form in forms:
            return forms[form]
        if form != AUTO:
            missing = {
                DUAL: f"loss {self.problem.loss.name} has no root residuals",
                HIDDEN: "it needs hidden layers, several outputs and the squared error",
            }
            raise ConfigError(
                f"optimizer.form = {form!r}: {missing[form]}; expected {' or '.join(forms)}"
            )
        return min(forms.values(), key=lambda one: one.cost(rows, self.settings.acceleration).flops)

    def _penalised(self) -> Array:
        """Return the diagonal of W for η = 1: 1, 0 for biases; the last layer counts in units of
        the targets.
        """
        net, xp = self.problem.net, self.problem.net.ops.xp
        weights = xp.ones(net.size, dtype=net.dtype)
        weights[net.offsets[-2] :] = self.problem.output_scale**-2
        for W in net.views(weights):
            W[:, -1] = 0.0
        return weights

    def init(self, theta: Array) -> LevenbergMarquardtState:
        net, xp = self.problem.net, self.problem.net.ops.xp
        return LevenbergMarquardtState(
            damping=self.settings.damping,
            largest=xp.zeros(self.system.scales, dtype=net.dtype),
            eta=self.first_decay,
            average=self.first_average(theta),
        )

    # ---- rows ------------------------------------------------------------------------------------

    def _rows(self) -> int:
        """Return the rows of every update."""
        available, net = self.problem.rows, self.problem.net
        if self.settings.rows:
            return min(self.settings.rows, available)
        one, two = self._cost(1.0).flops, self._cost(2.0).flops
        affordable = int((AFFORDABLE - 2.0 * one + two) / (two - one))
        least = max(LEAST_ROWS, -(-ROWS_PER_WEIGHT * net.size // net.sizes[-1]))
        return min(available, max(affordable, least))

    def batch_size(self, state: LevenbergMarquardtState, base: int) -> int:
        return self.rows

    def first_batch(self, base: int) -> int:
        return self.rows

    def largest_batch(self, base: int) -> int:
        return self.rows

    def usual_batch(self, base: int) -> int:
        return self.rows

    def place(self, examples: int) -> int:
        return 0

    @property
    def keeps_rows(self) -> bool:
        return True

    def notes(self, base: int) -> list[str]:
        rows, available = self.rows, self.problem.rows
        if rows == available:
            held = f"every update uses all {rows:,} training rows"
        else:
            held = (
                f"every update uses the same {rows:,} of {available:,} training rows; on noisy "
                "targets a method of batches, such as kfra, may predict better"
            )
        lines = [
            f"{held} (optimizer.rows; training.batch_size does not count)",
            f"an update factorises {self.system.words(rows)}, {self._cost(rows).flops:.3g} flops "
            "(optimizer.form)",
        ]
        if self.problem.net.dtype == np.float32:
            lines.append(
                "float32 ends this method's progress at about 1e-6 of the loss: the matrix that it "
                'factorises has squared condition; training.dtype = "float64" is meant for it'
            )
        return lines

    # ---- the update ------------------------------------------------------------------------------

    def update(
        self, theta: Array, state: LevenbergMarquardtState, x: Array, y: Array, step: int
    ) -> Stats:
        ops, xp = self.problem.net.ops, self.problem.net.ops.xp
        batch = Batch(self.problem, theta, x, y, self.workspace, self.timer)
        loss, sizes = self.system.linearise(batch)
        with self.timer("vector"):
            state.largest = xp.maximum(state.largest, sizes)
        gamma = self._effective(state) if self.adapts and step > EVIDENCE_FROM else nan
        trial: Trial | None = None
        accepted, tries, lam = False, 0, state.damping
        while not accepted and tries < TRIES and (tries == 0 or state.damping < HIGHEST):
            tries, lam = tries + 1, state.damping
            try:
                with ops.deferred_checks(True):
                    trial = self.attempt(batch, state, loss, step, gamma)
            except (Unchecked, Diverged):
                gamma = nan
                self._refuse(loss, sizes, step)
                state.damping = max(RAISE * state.damping, RAISED)
                continue
            if not isfinite(trial.loss):
                self._refuse(loss, sizes, step)
            accepted = trial.decrease > 0.0
            self._adapt(state, trial, accepted)
            if not accepted and trial.predicted <= self.rounding * trial.objective:
                break
        if trial is None:  # no factorisation was of any use
            trial = Trial(theta, *ops.scalars(loss, self.penalty(theta, state.eta)))
        with self.timer("vector"):
            if accepted:
                theta[...] = trial.theta
            still = not accepted or trial.decrease <= FLAT * trial.objective
            state.flat = state.flat + 1 if still else 0
            self.average_iterates(theta, state, step)
        eta = state.eta
        if isfinite(trial.effective):
            self._choose_decay(state, trial)
        return {
            "loss": trial.loss,
            "grad_norm": sqrt(trial.gg),
            "step_norm": sqrt(trial.squared) if accepted else 0.0,
            "damping": lam,
            "rho": trial.decrease / trial.predicted if accepted else nan,
            "rejected": 0.0 if accepted else 1.0,
            "tries": tries,
            "batch": len(x),
            "predicted": -trial.predicted,
            "bend": trial.bend,
            "dead_units": trial.dead,
            "weight_decay": eta,
            "effective": trial.effective,
            "noise": sqrt(state.noise) if isfinite(trial.effective) else nan,
        }

    def attempt(
        self,
        batch: Batch,
        state: LevenbergMarquardtState,
        loss: Array,
        step: int,
        gamma: Array | float = nan,
    ) -> Trial:
        """Solve the system under the present λ and run the rows forward after the step: all that an
        update needs to know, in one fetch from the device; ``gamma`` is fetched with it.
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        system, theta = self.system, batch.theta
        E = system.damp(state.damping, state.eta, state.largest)
        d = system.direction()
        with self.timer("vector"):
            slope = system.slope()
            dEd, aEa, move = xp.vdot(d, E * d), 0.0, d
        if self.settings.acceleration:
            a = system.acceleration(d)
            with self.timer("vector"):
                aEa = xp.vdot(a, E * a)
                move = d + xp.where(4.0 * aEa <= BENT**2 * dEd, a, 0.0) * 0.5
        with self.timer("vector"):
            reached = theta + move
            products = [xp.vdot(slope, slope), xp.vdot(move, move), xp.vdot(slope, d), dEd, aEa]
        with self.timer("passes"):
            after = mean_loss(self.problem, net.views(reached), batch.x, batch.y, self.apart)
            tape = batch.tape if step % COUNTED == 1 else None
            products.append(nan if tape is None else still_units(net, tape))
        with self.timer("vector"):
            penalties = self.penalty(theta, state.eta), self.penalty(reached, state.eta)
            numbers = ops.scalars(loss, penalties[0], after, penalties[1], *products, gamma)
        ops.confirm(numbers[:2] + numbers[4:8])
        return Trial(reached, *numbers)

    def penalty(self, theta: Array, eta: float) -> Array | float:
        """Return ½ η ‖W‖² as the penalty counts it (0-d, on the device)."""
        if not eta:
            return 0.0
        xp = self.problem.net.ops.xp
        return 0.5 * eta * xp.vdot(self.penalised * theta, theta)

    def _effective(self, state: LevenbergMarquardtState) -> Array | float:
        """Return γ at these weights (0-d, on the device); NaN where rounding spoils it."""
        with self.timer("inverses"):
            try:
                return self.system.effective(state.eta, state.largest)
            except Diverged:
                return nan

    def _choose_decay(self, state: LevenbergMarquardtState, trial: Trial) -> None:
        """Take MacKay's fixed point as η of the next update: σ² γ / (N ‖W‖²), with σ² = 2 N E /
        (N K − γ) for the squared error (MacKay 1992; Foresee & Hagan 1997).
        """
        N, gamma = float(self.rows), trial.effective
        if self.problem.loss.gaussian:
            numbers = N * self.problem.net.sizes[-1]
            state.noise = 2.0 * N * trial.loss / max(numbers - gamma, LEAST_FREE * numbers)
        ww = 2.0 * trial.penalty / state.eta
        unit = self.problem.unit
        chosen = state.noise * gamma / max(N * ww, TINY)
        chosen = min(max(chosen, LEAST_DECAY * unit), MOST_DECAY * unit)
        state.settled = abs(log(chosen / state.eta)) < SETTLED
        state.eta = chosen

    def _adapt(self, state: LevenbergMarquardtState, trial: Trial, accepted: bool) -> None:
        """Change λ and ν after a try (Nielsen 1999)."""
        if accepted:
            rho = trial.decrease / max(trial.predicted, TINY)
            state.damping *= max(SLOWEST, 1.0 - (2.0 * min(rho, 1.0) - 1.0) ** 3)
            state.damping, state.growth = max(state.damping, LOWEST), 2.0
        else:
            state.damping = max(state.damping * state.growth, LOWEST)
            state.growth *= 2.0

    def _refuse(self, loss: Array, sizes: Array, step: int) -> None:
        """Raise Diverged unless the loss and H are finite: then a larger λ makes C positive
        definite.
        """
        value, size = self.problem.net.ops.scalars(loss, sizes.sum())
        if not (isfinite(value) and isfinite(size)):
            raise Diverged(f"update {step}: loss {value:g}, sizes of the curvature {size:g}")

    def finished(self, state: LevenbergMarquardtState) -> str:
        if state.damping >= HIGHEST:
            return "no step lowers the objective"
        if state.flat >= FLAT_UPDATES and state.settled:
            return (
                f"the objective has fallen by less than {FLAT:g} of itself in each of "
                f"{FLAT_UPDATES} updates"
            )
        return ""

    # ---- cost ------------------------------------------------------------------------------------

    def cost(self, base: int) -> Cost:
        """Return what an update costs whose first step is taken, at ``base`` rows."""
        return self._cost(float(min(base, self.problem.rows)))

    def _cost(self, rows: float) -> Cost:
        net, own = self.problem.net, self.system.cost(rows, self.settings.acceleration)
        passes = 2.0 * cost.forward(net.sizes, rows) + cost.backward(net.sizes, rows)
        phases = {"passes": passes, **own.phases}
        if self.adapts:
            phases["inverses"] *= 4.0
        return Cost(
            phases,
            own.state + 3.0 * net.size * net.dtype.itemsize,
            own.temporaries,
        )


OPTIMIZER = LevenbergMarquardt
