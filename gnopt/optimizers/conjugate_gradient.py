"""Methods that solve the exact, un-factored system (GN + λ I) Δ = −∇ by preconditioned conjugate
gradients.

GN-vector products need no matrix (``engine.network.gn_vector``). λ adapts by Levenberg and
Marquardt's rule on the batch that the step was made from; a step that raises the objective is
shortened, and undone if that does not help. Nothing on the way waits for the device: an update
usually fetches its numbers once. The siblings ``gauss_newton`` (solve to a tolerance) and
``hessian_free`` (Martens 2010) differ in when they stop, where they start and which iterate they
take.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf, isfinite, nan, sqrt

from gnopt.aims import OBJECTIVE
from gnopt.curvature import Curvature, all_curvatures, cost, get_curvature
from gnopt.curvature.blocks import KroneckerBlock
from gnopt.curvature.cost import Cost
from gnopt.curvature.damping import AdaptiveDampingSettings, adapt
from gnopt.engine.arrays import Array, Unchecked
from gnopt.engine.losses import Loss
from gnopt.engine.network import Tape, forward, gn_vector, still_units
from gnopt.errors import Diverged, SettingProblem
from gnopt.optimizers.base import (
    Optimizer,
    OptimizerSettings,
    Problem,
    State,
    Stats,
    loss_and_gradient,
    mean_loss,
    row_blocks,
)
from gnopt.optimizers.preconditioner import Preconditioner
from gnopt.optimizers.second_order import settings_of
from gnopt.optimizers.solver import BETWEEN_LOOKS, ConjugateGradients, Iterate
from gnopt.options import option

MAX_REJECTIONS = 12
NONE = "none"  # no preconditioner
BACKTRACKS = 6
FACTS = 5  # numbers of a point of the line search


@dataclass
class Trial:
    """A point of the line search: an iterate Δ and, once they were fetched, its numbers.

    ``losses`` is share s of the step → loss at θ + s Δ; the others are ‖Δ‖², ∇ᵀΔ, θᵀΔ and ΔᵀBΔ with
    B = GN + λ I.
    """

    iterate: Iterate
    losses: dict[float, float] = field(default_factory=dict)
    dd: float = nan
    gd: float = nan
    td: float = nan
    dBd: float = nan


def _preconditioners() -> tuple[str, ...]:
    """Names of the curvatures whose damped factors serve conjugate gradients."""
    factored = [n for n, c in all_curvatures().items() if issubclass(c.block, KroneckerBlock)]
    return (NONE, *factored)


@dataclass(frozen=True, kw_only=True)
class CGSettings(OptimizerSettings, AdaptiveDampingSettings):
    """The options that both siblings take."""

    damping: float = option(1.0, "initial λ", low=0.0, open_low=True)
    damping_period: int = option(1, "lm rule: updates between adaptations", low=1)
    damping_decay: float = option(
        2.0 / 3.0,
        "lm rule: ω = damping_decay^damping_period",
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    )
    weight_decay: float = option(
        OBJECTIVE.weight_decay,
        "η in the penalty ½ η ‖θ‖², in units of the loss of the best constant predictor",
        low=0.0,
    )
    product_rows: float = option(
        1.0,
        "share of the batch that GN-vector products use, at least 62 rows",
        low=0.0,
        high=1.0,
        open_low=True,
    )
    preconditioner: str = option(
        "kfra",
        "of the conjugate gradients: none, or factors by this curvature",
        choices=_preconditioners,
    )
    iterations: int = option(250, "most iterations of conjugate gradients", low=1)

    def contradictions(self, loss: Loss) -> Iterator[SettingProblem]:
        """Yield a preconditioner that samples targets, for a loss that is not a likelihood, too."""
        yield from super().contradictions(loss)
        if self.preconditioner == NONE or loss.likelihood:
            return
        if get_curvature(self.preconditioner).needs_likelihood:
            yield SettingProblem(
                "optimizer.preconditioner",
                f"optimizer.preconditioner = '{self.preconditioner}' samples targets from the "
                f"model, and loss '{loss.name}' is not a likelihood",
                f"another, such as {type(self)().preconditioner}",
            )


@dataclass
class CGState(State):
    """λ, the last solution, how many iterations it took, and rejections in a row."""

    damping: float
    solution: Array
    iterations: int = BETWEEN_LOOKS
    rejected_in_row: int = 0


@dataclass
class CGProposal:
    """What an update knows before it steps: loss, ‖∇‖², the last iterate and points to choose from,
    likeliest first; ``dead`` units give the same on all rows of the batch.
    """

    loss: float
    gg: float
    dead: int
    iterations: int
    residual: float
    solution: Array
    trials: list[Trial]


class GaussNewtonCG(Optimizer[CGState]):
    """Template: a sibling says how conjugate gradients start and stop, and which iterate is
    taken.
    """

    order = 2
    keep = 0.0
    Settings = CGSettings
    state_type = CGState
    settings: CGSettings

    def __init__(self, problem: Problem, settings: CGSettings) -> None:
        super().__init__(problem, settings)
        self.factors: Preconditioner | None = None
        if settings.preconditioner != NONE:
            curvature = get_curvature(settings.preconditioner)
            self.factors = self._factors(curvature)

    def _factors(self, curvature: type[Curvature]) -> Preconditioner:
        # Made anew at every update, but as inverses, which a period of 1 would not make: many
        # solves use them, and on a GPU two products are a fraction of the operations of four
        # triangular solves.
        settings = settings_of(curvature)(curvature=curvature.cheapest()).changed(
            damping_rule="fixed",
            inverse_period=2,
            factor_period=1,
            curvature_decay=0.0,
            input_updates=0,
            factor_rows=1.0,
        )
        return Preconditioner(self.problem, settings, curvature(settings.curvature), self.workspace)

    def init(self, theta: Array) -> CGState:
        return CGState(
            self.settings.damping,
            self.problem.net.ops.xp.zeros_like(theta),
            eta=self.problem.unit * self.settings.weight_decay,
            average=self.first_average(theta),
        )

    # ---- what siblings define --------------------------------------------------------------------

    @abstractmethod
    def start(self, state: CGState) -> Array:
        """Return where conjugate gradients begin."""

    @abstractmethod
    def stop(self, i: int, residual: Array, models: list[Array]) -> Array:
        """Whether i iterations are enough, 0-d on the device like the relative residual and the
        model's values.
        """

    # ---- the update ------------------------------------------------------------------------------

    def update(self, theta: Array, state: CGState, x: Array, y: Array, step: int) -> Stats:
        ops, xp, settings = self.problem.net.ops, self.problem.net.ops.xp, self.settings
        try:
            with ops.deferred_checks(True):
                proposal = self.propose(theta, state, x, y, step)
        except Unchecked:
            proposal = self.propose(theta, state, x, y, step)
        if not (isfinite(proposal.loss) and isfinite(proposal.gg)):
            raise Diverged(
                f"update {step}: loss {proposal.loss:g}, "
                f"gradient norm {sqrt(max(proposal.gg, 0.0)):g}"
            )
        state.solution, state.iterations = proposal.solution, proposal.iterations
        chosen, share = self.search(theta, x, y, proposal)
        after, dd, gd = chosen.losses[share], share * share * chosen.dd, share * chosen.gd
        predicted = gd + 0.5 * share * share * chosen.dBd
        change = after - proposal.loss + state.eta * (share * chosen.td + 0.5 * dd)
        accepted = change <= 0.0
        rho = change / predicted if predicted < 0.0 else nan
        stats: Stats = {
            "loss": proposal.loss,
            "grad_norm": sqrt(proposal.gg),
            "step_norm": sqrt(dd) if accepted else 0.0,
            "alpha": share,
            "damping": state.damping,
            "rho": rho,
            "rejected": 0.0 if accepted else 1.0,
            "batch": len(x),
            "predicted": predicted,
            "iterations": proposal.iterations,
            "residual": proposal.residual,
            "dead_units": proposal.dead,
        }
        if settings.damping_rule == "lm" and (step % settings.damping_period == 0 or not accepted):
            state.damping = adapt(settings, state.damping, rho if accepted else -1.0)
        if accepted:
            with self.timer("vector"):
                ops.axpy(share, chosen.iterate.x, theta)
            state.rejected_in_row = 0
        else:
            state.rejected_in_row += 1
            state.solution = xp.zeros_like(theta)
            if state.rejected_in_row > MAX_REJECTIONS and not isfinite(after):
                raise Diverged(f"update {step}: {MAX_REJECTIONS} steps in a row were rejected")
        with self.timer("vector"):
            self.average_iterates(theta, state, step)
        return stats

    def propose(self, theta: Array, state: CGState, x: Array, y: Array, step: int) -> CGProposal:
        """Compute the gradient, conjugate gradients and the first points of the line search, in one
        fetch from the device.

        Where a fetch waits, as many iterations are queued as the last update took and a few more,
        and all points of the search are tried; a further fetch is needed only where it takes longer
        than that, or a step is shortened.
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        settings = self.settings
        W, g, limit = net.views(theta), xp.empty_like(theta), settings.iterations
        with self.timer("passes"):
            batch = loss_and_gradient(self.problem, W, x, y, g, self.workspace)
            loss, dead = batch.loss, still_units(net, batch.tape)
        with self.timer("vector"):
            ops.axpy(state.eta, theta, g)
        used = slice(0, self.product_rows(len(x)))
        some_x, some_y = x[used], self.problem.loss.part(ops, y, used)
        with self.timer("model"):
            product = self.product(W, some_x, some_y, state.damping + state.eta)
        try:
            precondition = self.preconditioner(W, some_x, some_y, state.damping + state.eta, step)
        except Diverged:
            (value,) = ops.scalars(loss)
            if isfinite(value):
                raise
            raise Diverged(f"update {step}: loss {value:g}") from None
        with self.timer("vector"):
            solver = ConjugateGradients(
                product, -g, self.start(state), precondition, ops, self.stop, self.keep
            )
        until = min(limit, state.iterations + state.iterations // 8 + 2) if ops.queued else limit
        while True:
            with self.timer("vector"):
                solver.run(until)
                points = [solver.last(), *solver.earlier(solver.index)]
                tried = points if ops.queued else points[:1]
                values = [loss, xp.vdot(g, g), dead, solver.active, solver.count, solver.residual()]
                for point in tried:
                    values += self._facts(theta, x, y, point)
                loss_value, gg, dead_value, active, count, residual, *facts = ops.scalars(*values)
            ops.confirm([loss_value, gg, residual])
            if not active or until == limit:
                break
            until = min(limit, 2 * until)
        last, *earlier = [Trial(point) for point in points]
        for i, trial in enumerate([last, *earlier][: len(tried)]):
            self._note(trial, facts[FACTS * i : FACTS * (i + 1)])
        trials = [last, *(trial for trial in earlier if trial.iterate.index < count)]
        return CGProposal(loss_value, gg, int(dead_value), int(count), residual, solver.x, trials)

    def _facts(self, theta: Array, x: Array, y: Array, point: Iterate) -> list[Array]:
        """Return the loss at θ + Δ and the numbers of a ``Trial``, 0-d on the device."""
        xp = self.problem.net.ops.xp
        return [
            self._loss(theta, x, y, point, 1.0),
            xp.vdot(point.x, point.x),
            -point.xb,
            xp.vdot(theta, point.x),
            point.curvature,
        ]

    def _note(self, trial: Trial, facts: list[float]) -> None:
        value, trial.dd, trial.gd, trial.td, trial.dBd = facts
        trial.losses[1.0] = value if isfinite(value) else inf

    def _loss(self, theta: Array, x: Array, y: Array, point: Iterate, share: float) -> Array:
        net = self.problem.net
        with self.timer("passes"):
            return mean_loss(self.problem, net.views(theta + point.x * share), x, y, self.workspace)

    def search(self, theta: Array, x: Array, y: Array, proposal: CGProposal) -> tuple[Trial, float]:
        """Return the best iterate and the share of it to step by, halved until it helps."""
        ops = self.problem.net.ops

        def known(trial: Trial) -> float:
            if not trial.losses:
                self._note(trial, ops.scalars(*self._facts(theta, x, y, trial.iterate)))
            return trial.losses[1.0]

        chosen, *earlier = proposal.trials
        for trial in earlier:  # Martens 2010: back up while it gets better
            if known(trial) >= known(chosen):
                break
            chosen = trial
        share, after = 1.0, known(chosen)
        for _ in range(BACKTRACKS):
            if after < proposal.loss:
                break
            share *= 0.5
            (value,) = ops.scalars(self._loss(theta, x, y, chosen.iterate, share))
            after = chosen.losses[share] = value if isfinite(value) else inf
        return chosen, share

    def product_rows(self, rows: int) -> int:
        """Return how many rows of the batch products use."""
        return min(rows, max(62, round(self.settings.product_rows * rows)))

    def product(self, W: list[Array], x: Array, y: Array, shift: float) -> Callable[[Array], Array]:
        """v → (GN + shift I) v over the rows of x, in blocks."""
        net, xp = self.problem.net, self.problem.net.ops.xp
        parts = list(row_blocks(net, len(x), self.problem.memory))
        whole: Tape | None = forward(net, W, x) if len(parts) == 1 else None

        def product(v: Array) -> Array:
            with self.timer("model"):
                return multiply(v)

        def multiply(v: Array) -> Array:
            out = xp.empty_like(v)
            if whole is not None:
                gn_vector(
                    net,
                    W,
                    whole,
                    self.problem.loss,
                    y,
                    net.views(v),
                    net.views(out),
                    self.workspace,
                )
            else:
                out.fill(0.0)
                part = self.workspace.take("product part", v.shape)
                for rows in parts:
                    tape = forward(net, W, x[rows], self.workspace)
                    gn_vector(
                        net,
                        W,
                        tape,
                        self.problem.loss,
                        y[rows],
                        net.views(v),
                        net.views(part),
                        self.workspace,
                    )
                    net.ops.axpy((rows.stop - rows.start) / len(x), part, out)
            net.ops.axpy(shift, v, out)
            return out

        return product

    def preconditioner(
        self, W: list[Array], x: Array, y: Array, lam: float, step: int
    ) -> Callable[[Array], Array]:
        """r → P⁻¹ r with the Kronecker factors of these rows damped by λ and weight decay together,
        or the identity.
        """
        if self.factors is None:
            return lambda r: r
        factors, net = self.factors, self.problem.net
        state, damping = factors.init(), factors.damping(0.0, lam)
        part = next(iter(row_blocks(net, len(x), self.problem.memory)))
        rows = slice(0, part.stop - part.start)
        with self.timer("statistics"):
            tape = forward(net, W, x[rows])
            factors.observe(state, W, tape, rows, x[rows], y[rows], step, 1)
        with self.timer("inverses"):
            factors.prepare(state, 1, damping, force=True)

        def precondition(r: Array) -> Array:
            with self.timer("solve"):
                out = net.ops.xp.empty_like(r)
                factors.solve(state, r, damping, out)
                return out

        return precondition

    def cost(self, base: int) -> Cost:
        """Return flops if every iteration is used, and bytes of the vectors."""
        net, rows = self.problem.net, min(base, self.problem.rows)
        products, m = self.settings.iterations + 1, self.product_rows(rows)
        phases = {
            # A line search looks at one point at least.
            "passes": 2.0 * cost.forward(net.sizes, rows) + cost.backward(net.sizes, rows),
            "model": products * cost.gn_vector(net.sizes, m) + cost.forward(net.sizes, m),
        }
        kept = 0.0
        if self.factors is not None:
            own = self.factors.cost(m)
            kept = own.state
            # Factors are made anew at every update, whatever the period of their inverses.
            phases["statistics"] = cost.forward(net.sizes, m) + own.phases["statistics"]
            phases["inverses"] = own.phases["inverses"] * self.factors.settings.block.period
            phases["solve"] = own.phases["solve"] * products
        return Cost(phases, 8.0 * net.size * net.dtype.itemsize + kept)
