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

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite, nan, sqrt
from typing import Any

from gnopt.curvature import get_curvature
from gnopt.engine.arrays import Array, Unchecked
from gnopt.engine.network import Tape, forward, gn_vector
from gnopt.errors import Diverged
from gnopt.optimizers import damping, preconditioner
from gnopt.optimizers.base import (
    AVERAGING,
    Optimizer,
    Problem,
    State,
    Stats,
    blocks,
    loss_and_gradient,
    mean_loss,
    training_flops,
)
from gnopt.optimizers.preconditioner import Preconditioner
from gnopt.optimizers.solver import BETWEEN_LOOKS, ConjugateGradients, Iterate
from gnopt.options import Option, defaults

OPTIONS = (
    Option("damping", 1.0, "float", "initial λ", low=0.0, open_low=True),
    Option(
        "damping_rule",
        "lm",
        "str",
        "lm: λ by Levenberg-Marquardt; fixed: constant",
        choices=("lm", "fixed"),
    ),
    Option("damping_min", 1e-4, "float", "lm rule: lowest λ", low=0.0, open_low=True),
    Option("damping_max", 1e6, "float", "lm rule: highest λ", low=0.0, open_low=True),
    Option("damping_period", 1, "int", "lm rule: updates between adaptations", low=1),
    Option(
        "damping_decay",
        2.0 / 3.0,
        "float",
        "lm rule: ω = damping_decay^damping_period",
        low=0.0,
        high=1.0,
        open_low=True,
        open_high=True,
    ),
    Option("weight_decay", 1e-5, "float", "η in the penalty ½ η ‖θ‖²", low=0.0),
    Option(
        "product_rows",
        1.0,
        "float",
        "share of the batch that GN-vector products use, at least 62 rows",
        low=0.0,
        high=1.0,
        open_low=True,
    ),
    Option(
        "preconditioner",
        "kfra",
        "str",
        "of the conjugate gradients: none, or factors by this curvature",
        choices=("none", "kfra", "kflr", "kfac"),
    ),
    AVERAGING,
)
MAX_REJECTIONS = 12
BACKTRACKS = 6
FACTS = 5  # numbers of a point of the line search


@dataclass
class Trial:
    """A point of the line search: an iterate Δ, and once fetched the loss by share s of the step,
    ‖Δ‖², ∇ᵀΔ, θᵀΔ and ΔᵀBΔ with B = GN + λ I.
    """

    iterate: Iterate
    losses: dict[float, float] = field(default_factory=dict)
    dd: float = nan
    gd: float = nan
    td: float = nan
    dBd: float = nan


@dataclass
class Proposal:
    """What an update knows before it steps: loss, ‖∇‖², the last iterate and points to choose from,
    likeliest first.
    """

    loss: float
    gg: float
    iterations: int
    residual: float
    solution: Array
    trials: list[Trial]


class GaussNewtonCG(Optimizer):
    """Template: a sibling says how conjugate gradients start and stop, and which iterate is
    taken.
    """

    order = 2
    keep = 0.0

    def __init__(self, problem: Problem, settings: dict[str, Any]) -> None:
        super().__init__(problem, settings)
        self.factors: Preconditioner | None = None
        name = settings["preconditioner"]
        if name != "none":
            curvature = get_curvature(name)
            # Made anew at every update, but as inverses, which a period of 1 would not make: many
            # solves use them, and on a GPU two products are a fraction of the operations of four
            # triangular solves.
            own = {
                **defaults(preconditioner.OPTIONS + curvature.options),
                "damping_rule": "fixed",
                "inverse_period": 2,
                "factor_period": 1,
                "curvature_decay": 0.0,
                "input_updates": 0,
                "factor_rows": 1.0,
                "weight_decay": settings["weight_decay"],
            }
            if name == "kflr":
                own["columns"] = 1
            self.factors = Preconditioner(problem, own, curvature, self.workspace)

    def init(self, theta: Array) -> State:
        state: State = {
            "damping": self.settings["damping"],
            "rejected_in_row": 0,
            "iterations": BETWEEN_LOOKS,
            "solution": self.problem.net.ops.xp.zeros_like(theta),
        }
        if self.settings["averaging"]:
            state["average"] = theta.copy()
        return state

    # ---- what siblings define --------------------------------------------------------------------

    def start(self, state: State) -> Array:
        """Where conjugate gradients begin."""
        raise TypeError(f"{type(self).__name__} does not define start")

    def stop(self, i: int, residual: Array, models: list[Array]) -> Array:
        """Whether i iterations are enough, 0-d on the device like the relative residual and the
        model's values.
        """
        raise TypeError(f"{type(self).__name__} does not define stop")

    # ---- the update ------------------------------------------------------------------------------

    def update(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Stats:
        ops, xp, cfg = self.problem.net.ops, self.problem.net.ops.xp, self.settings
        try:
            with ops.deferred_checks(True):
                found = self.propose(theta, state, x, y, step)
        except Unchecked:
            found = self.propose(theta, state, x, y, step)
        if not (isfinite(found.loss) and isfinite(found.gg)):
            raise Diverged(
                f"update {step}: loss {found.loss:g}, gradient norm {sqrt(max(found.gg, 0.0)):g}"
            )
        state["solution"], state["iterations"] = found.solution, found.iterations
        chosen, share = self.search(theta, x, y, found)
        after, dd, gd = chosen.losses[share], share * share * chosen.dd, share * chosen.gd
        predicted = gd + 0.5 * share * share * chosen.dBd
        change = after - found.loss + cfg["weight_decay"] * (share * chosen.td + 0.5 * dd)
        accepted = change <= 0.0
        rho = change / predicted if predicted < 0.0 else nan
        stats: Stats = {
            "loss": found.loss,
            "grad_norm": sqrt(found.gg),
            "step_norm": sqrt(dd) if accepted else 0.0,
            "alpha": share,
            "damping": state["damping"],
            "rho": rho,
            "rejected": 0.0 if accepted else 1.0,
            "batch": len(x),
            "predicted": predicted,
            "iterations": found.iterations,
            "residual": found.residual,
        }
        if cfg["damping_rule"] == "lm" and (step % cfg["damping_period"] == 0 or not accepted):
            state["damping"] = damping.adapt(cfg, state["damping"], rho if accepted else -1.0)
        if accepted:
            with self.timer("vector"):
                ops.axpy(share, chosen.iterate.x, theta)
            state["rejected_in_row"] = 0
        else:
            state["rejected_in_row"] += 1
            state["solution"] = xp.zeros_like(theta)
            if state["rejected_in_row"] > MAX_REJECTIONS and not isfinite(after):
                raise Diverged(f"update {step}: {MAX_REJECTIONS} steps in a row were rejected")
        with self.timer("vector"):
            self.average_iterates(theta, state, step)
        return stats

    def propose(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Proposal:
        """Gradient, conjugate gradients and the first points of the line search, in one fetch from
        the device.

        Where a fetch waits, as many iterations are queued as the last update took and a few more,
        and all points of the search are tried; a further fetch is needed only where it takes longer
        than that, or a step is shortened.
        """
        net, ops, xp, cfg = (
            self.problem.net,
            self.problem.net.ops,
            self.problem.net.ops.xp,
            self.settings,
        )
        W, g, limit = net.views(theta), xp.empty_like(theta), cfg["iterations"]
        with self.timer("passes"):
            loss, _, _ = loss_and_gradient(self.problem, W, x, y, g, self.workspace)
        with self.timer("vector"):
            ops.axpy(cfg["weight_decay"], theta, g)
        rows = self.product_rows(len(x))
        with self.timer("model"):
            product = self.product(W, x[:rows], y[:rows], state["damping"] + cfg["weight_decay"])
        try:
            precondition = self.preconditioner(W, x[:rows], y[:rows], state["damping"], step)
        except Diverged:
            (value,) = ops.scalars(loss)
            if isfinite(value):
                raise
            raise Diverged(f"update {step}: loss {value:g}") from None
        with self.timer("vector"):
            solver = ConjugateGradients(
                product, -g, self.start(state), precondition, ops, self.stop, self.keep
            )
        until = (
            min(limit, state["iterations"] + state["iterations"] // 8 + 2) if ops.queued else limit
        )
        while True:
            with self.timer("vector"):
                solver.run(until)
                points = [solver.last(), *solver.earlier(solver.index)]
                tried = points if ops.queued else points[:1]
                values = [loss, xp.vdot(g, g), solver.active, solver.count, solver.residual()]
                for point in tried:
                    values += self._facts(theta, x, y, point)
                loss_value, gg, active, count, residual, *facts = ops.scalars(*values)
            ops.confirm([loss_value, gg, residual])
            if not active or until == limit:
                break
            until = min(limit, 2 * until)
        last, *earlier = [Trial(point) for point in points]
        for i, trial in enumerate([last, *earlier][: len(tried)]):
            self._note(trial, facts[FACTS * i : FACTS * (i + 1)])
        trials = [last, *(trial for trial in earlier if trial.iterate.index < count)]
        return Proposal(loss_value, gg, int(count), residual, solver.x, trials)

    def _facts(self, theta: Array, x: Array, y: Array, point: Iterate) -> list[Array]:
        """The loss at θ + Δ and the numbers of a ``Trial``, 0-d on the device."""
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

    def search(self, theta: Array, x: Array, y: Array, found: Proposal) -> tuple[Trial, float]:
        """The point to step to and the share of it taken: best iterate, halved until it helps."""
        ops = self.problem.net.ops

        def known(trial: Trial) -> float:
            if not trial.losses:
                self._note(trial, ops.scalars(*self._facts(theta, x, y, trial.iterate)))
            return trial.losses[1.0]

        chosen, *earlier = found.trials
        for trial in earlier:  # Martens 2010: back up while it gets better
            if known(trial) >= known(chosen):
                break
            chosen = trial
        share, after = 1.0, known(chosen)
        for _ in range(BACKTRACKS):
            if after < found.loss:
                break
            share *= 0.5
            (value,) = ops.scalars(self._loss(theta, x, y, chosen.iterate, share))
            after = chosen.losses[share] = value if isfinite(value) else inf
        return chosen, share

    def product_rows(self, rows: int) -> int:
        """Rows of the batch that products use."""
        return min(rows, max(62, round(self.settings["product_rows"] * rows)))

    def product(self, W: list[Array], x: Array, y: Array, shift: float) -> Callable[[Array], Array]:
        """v → (GN + shift I) v over the rows of x, in blocks."""
        net, xp = self.problem.net, self.problem.net.ops.xp
        parts = list(blocks(net, len(x), self.problem.memory))
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
        """r → P⁻¹ r with the Kronecker factors of these rows, or the identity."""
        if self.factors is None:
            return lambda r: r
        factors, net = self.factors, self.problem.net
        state = factors.init()
        part = next(iter(blocks(net, len(x), self.problem.memory)))
        rows = slice(0, part.stop - part.start)
        with self.timer("statistics"):
            tape = forward(net, W, x[rows])
            factors.observe(state, W, tape, rows, x[rows], y[rows], step, 1)
        with self.timer("inverses"):
            factors.prepare(state, 1, lam, 1.0, force=True)

        def precondition(r: Array) -> Array:
            with self.timer("solve"):
                out = net.ops.xp.empty_like(r)
                factors.solve(state, r, lam, 1.0, out)
                return out

        return precondition

    def cost(self, base: int) -> dict[str, float]:
        """Flops if every iteration is used, and bytes of the vectors."""
        net, rows = self.problem.net, min(base, self.problem.rows)
        product = 8.0 * net.size * self.settings["product_rows"] * rows
        solve = sum(2.0 * o * i * (o + i) for o, i in net.shapes) if self.factors else 0.0
        factors = (
            2.0 * sum(float(d) ** 2 for o, i in net.shapes for d in (o, i)) if self.factors else 0.0
        )
        return {
            "flops": training_flops(net, rows) + self.settings["iterations"] * (product + solve),
            "bytes": (8.0 * net.size + factors) * net.dtype.itemsize,
        }
