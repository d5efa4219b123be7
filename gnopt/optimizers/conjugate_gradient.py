"""Methods that solve the exact, un-factored system (GN + λ I) Δ = −∇ by preconditioned conjugate gradients.

GN-vector products need no matrix (``engine.network.gn_vector``). λ adapts by Levenberg and Marquardt's rule on the
batch that the step was made from; a step that raises the objective is shortened, and undone if that does not help.
The siblings ``gauss_newton`` (solve to a tolerance) and ``hessian_free`` (Martens 2010) differ in when they stop, where
they start and which iterate they take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from typing import Any

from gnopt.curvature import get_curvature
from gnopt.engine.backend import Array
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
from gnopt.options import Option, defaults

OPTIONS = (
    Option("damping", 1.0, "float", "initial λ", low=0.0, open_low=True),
    Option("damping_rule", "lm", "str", "lm: λ by Levenberg-Marquardt; fixed: constant", choices=("lm", "fixed")),
    Option("damping_min", 1e-4, "float", "lm rule: lowest λ", low=0.0, open_low=True),
    Option("damping_max", 1e6, "float", "lm rule: highest λ", low=0.0, open_low=True),
    Option("damping_period", 1, "int", "lm rule: updates between adaptations", low=1),
    Option("damping_decay", 2.0 / 3.0, "float", "lm rule: ω = damping_decay^damping_period", low=0.0, high=1.0,
           open_low=True, open_high=True),
    Option("weight_decay", 1e-5, "float", "η in the penalty ½ η ‖θ‖²", low=0.0),
    Option("product_rows", 1.0, "float", "share of the batch that GN-vector products use, at least 62 rows", low=0.0,
           high=1.0, open_low=True),
    Option("preconditioner", "kfra", "str", "of the conjugate gradients: none, or factors by this curvature",
           choices=("none", "kfra", "kflr", "kfac")),
    AVERAGING,
)
MAX_REJECTIONS = 12
BACKTRACKS = 6


@dataclass
class Solution:
    """Iterates of conjugate gradients: the last, some on the way, iterations used, residual and model value."""

    x: Array
    path: list[Array]
    iterations: int
    residual: float
    model: float


def conjugate_gradients(product: Callable[[Array], Array], b: Array, x: Array, precondition: Callable[[Array], Array],
                        ops: Any, stop: Callable[[int, float, list[float]], bool], limit: int,
                        keep: float = 0.0) -> Solution:
    """Minimise ½ xᵀ B x − bᵀ x from ``x`` for a positive definite B given by its ``product``.

    ``stop(i, relative residual, model values)`` ends it; iterates are kept at indices growing by the factor ``keep``
    (> 1) for backtracking. Two products a start and one an iteration.
    """
    xp = ops.xp
    x = x.copy()
    r = b - product(x)
    z = precondition(r)
    p = z.copy()
    rz, bb, rr, xb, xr = ops.scalars(xp.vdot(r, z), xp.vdot(b, b), xp.vdot(r, r), xp.vdot(x, b), xp.vdot(x, r))
    models = [-0.5 * (xb + xr)]  # ½ xᵀBx − bᵀx with Bx = b − r
    path: list[Array] = []
    next_kept, i = 1.0, 0
    while i < limit and rz > 0.0 and not stop(i, sqrt(rr / bb) if bb > 0 else 0.0, models):
        Bp = product(p)
        pBp = xp.vdot(p, Bp)
        # α stays on the device, so that an iteration waits for it once; it is 0 where p has no curvature.
        alpha = rz / xp.where(pBp > 0.0, pBp, inf)
        ops.axpy(alpha, p, x)
        ops.axpy(-alpha, Bp, r)
        z = precondition(r)
        curvature, rz_new, *rest = ops.scalars(pBp, xp.vdot(r, z), xp.vdot(r, r), xp.vdot(x, b), xp.vdot(x, r))
        if not curvature > 0.0:
            break  # rounding has used it up
        rr, xb, xr = rest
        models.append(-0.5 * (xb + xr))
        p *= rz_new / rz
        p += z
        rz = rz_new
        i += 1
        if keep > 1.0 and i >= next_kept:
            path.append(x.copy())
            next_kept = max(next_kept + 1.0, next_kept * keep)
    return Solution(x, path, i, sqrt(rr / bb) if bb > 0 else 0.0, models[-1])


class GaussNewtonCG(Optimizer):
    """Template: a sibling says how conjugate gradients start and stop, and which iterate is taken."""

    order = 2
    keep = 0.0

    def __init__(self, problem: Problem, settings: dict[str, Any]) -> None:
        super().__init__(problem, settings)
        self.factors: Preconditioner | None = None
        name = settings["preconditioner"]
        if name != "none":
            curvature = get_curvature(name)
            own = {**defaults(preconditioner.OPTIONS + curvature.options), "damping_rule": "fixed", "inverse_period": 1,
                   "factor_period": 1, "curvature_decay": 0.0, "input_updates": 0, "factor_rows": 1.0,
                   "weight_decay": settings["weight_decay"]}
            if name == "kflr":
                own["columns"] = 1
            self.factors = Preconditioner(problem, own, curvature, self.workspace)

    def init(self, theta: Array) -> State:
        state: State = {"damping": self.settings["damping"], "rejected_in_row": 0,
                        "solution": self.problem.net.ops.xp.zeros_like(theta)}
        if self.settings["averaging"]:
            state["average"] = theta.copy()
        return state

    # ---- what siblings define ----------------------------------------------------------------------------

    def start(self, state: State) -> Array:
        """Where conjugate gradients begin."""
        raise TypeError(f"{type(self).__name__} does not define start")

    def stop(self, i: int, residual: float, models: list[float]) -> bool:
        """Whether iteration i is the last."""
        raise TypeError(f"{type(self).__name__} does not define stop")

    # ---- the update --------------------------------------------------------------------------------------

    def update(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Stats:
        net, ops, xp, cfg = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp, self.settings
        W = net.views(theta)
        g = xp.empty_like(theta)
        loss, _, _ = loss_and_gradient(self.problem, W, x, y, g, self.workspace)
        g += theta * cfg["weight_decay"]
        loss_value, gg = ops.scalars(loss, xp.vdot(g, g))
        if not (isfinite(loss_value) and isfinite(gg)):
            raise Diverged(f"update {step}: loss {loss_value:g}, gradient norm {sqrt(gg) if gg >= 0 else gg:g}")
        rows = min(len(x), max(62, round(cfg["product_rows"] * len(x))))
        shift = state["damping"] + cfg["weight_decay"]
        product = self._product(W, x[:rows], y[:rows], shift)
        solution = conjugate_gradients(product, -g, self.start(state),
                                       self._precondition(W, x[:rows], y[:rows], state["damping"], step), ops,
                                       self.stop, cfg["iterations"], self.keep)
        state["solution"] = solution.x
        chosen, after, share = self._line(theta, W, x, y, loss_value, solution)
        delta = chosen * share
        dd, gd, td, dBd = ops.scalars(xp.vdot(delta, delta), xp.vdot(g, delta), xp.vdot(theta, delta),
                                      xp.vdot(delta, product(delta)))
        predicted = gd + 0.5 * dBd
        change = after - loss_value + cfg["weight_decay"] * (td + 0.5 * dd)
        accepted = change <= 0.0
        rho = change / predicted if predicted < 0.0 else nan
        stats: Stats = {
            "loss": loss_value, "grad_norm": sqrt(gg), "step_norm": sqrt(dd) if accepted else 0.0, "alpha": share,
            "damping": state["damping"], "rho": rho, "rejected": 0.0 if accepted else 1.0, "batch": len(x),
            "predicted": predicted, "iterations": solution.iterations, "residual": solution.residual,
        }
        if cfg["damping_rule"] == "lm" and (step % cfg["damping_period"] == 0 or not accepted):
            state["damping"] = damping.adapt(cfg, state["damping"], rho if accepted else -1.0)
        if accepted:
            theta += delta
            state["rejected_in_row"] = 0
        else:
            state["rejected_in_row"] += 1
            state["solution"] = xp.zeros_like(theta)
            if state["rejected_in_row"] > MAX_REJECTIONS and not isfinite(after):
                raise Diverged(f"update {step}: {MAX_REJECTIONS} steps in a row were rejected")
        self.average_iterates(theta, state, step)
        return stats

    def _line(self, theta: Array, W: list[Array], x: Array, y: Array, before: float,
              solution: Solution) -> tuple[Array, float, float]:
        """The iterate to step to, the loss there and the share of it taken: best iterate, halved until it helps."""
        net, ops = self.problem.net, self.problem.net.ops

        def loss_at(delta: Array, share: float) -> float:
            (value,) = ops.scalars(mean_loss(self.problem, net.views(theta + delta * share), x, y, self.workspace))
            return value if isfinite(value) else inf

        chosen, after = solution.x, loss_at(solution.x, 1.0)
        for earlier in reversed(solution.path[:-1]):  # Martens 2010: back up while it gets better
            value = loss_at(earlier, 1.0)
            if value >= after:
                break
            chosen, after = earlier, value
        share = 1.0
        for _ in range(BACKTRACKS):
            if after < before:
                break
            share *= 0.5
            after = loss_at(chosen, share)
        return chosen, after, share

    def _product(self, W: list[Array], x: Array, y: Array, shift: float) -> Callable[[Array], Array]:
        """v → (GN + shift I) v over the rows of x, in blocks."""
        net, xp = self.problem.net, self.problem.net.ops.xp
        parts = list(blocks(net, len(x), self.problem.memory))
        whole: Tape | None = forward(net, W, x) if len(parts) == 1 else None

        def product(v: Array) -> Array:
            out = xp.empty_like(v)
            if whole is not None:
                gn_vector(net, W, whole, self.problem.loss, y, net.views(v), net.views(out), self.workspace)
            else:
                out.fill(0.0)
                part = self.workspace.take("product part", v.shape)
                for rows in parts:
                    tape = forward(net, W, x[rows], self.workspace)
                    gn_vector(net, W, tape, self.problem.loss, y[rows], net.views(v), net.views(part), self.workspace)
                    net.ops.axpy((rows.stop - rows.start) / len(x), part, out)
            net.ops.axpy(shift, v, out)
            return out

        return product

    def _precondition(self, W: list[Array], x: Array, y: Array, lam: float, step: int) -> Callable[[Array], Array]:
        """r → P⁻¹ r with the Kronecker factors of these rows, or the identity."""
        if self.factors is None:
            return lambda r: r
        factors, net = self.factors, self.problem.net
        state = factors.init()
        part = next(iter(blocks(net, len(x), self.problem.memory)))
        rows = slice(0, part.stop - part.start)
        tape = forward(net, W, x[rows])
        factors.observe(state, W, tape, rows, x[rows], y[rows], step, 1)
        factors.prepare(state, 1, lam, 1.0, force=True)

        def precondition(r: Array) -> Array:
            out = net.ops.xp.empty_like(r)
            factors.solve(state, r, lam, 1.0, out)
            return out

        return precondition

    def cost(self, base: int) -> dict[str, float]:
        """Flops if every iteration is used, and bytes of the vectors."""
        net, rows = self.problem.net, min(base, self.problem.rows)
        product = 8.0 * net.size * self.settings["product_rows"] * rows
        solve = sum(2.0 * o * i * (o + i) for o, i in net.shapes) if self.factors else 0.0
        factors = 2.0 * sum(float(d) ** 2 for o, i in net.shapes for d in (o, i)) if self.factors else 0.0
        return {"flops": training_flops(net, rows) + self.settings["iterations"] * (product + solve),
                "bytes": (8.0 * net.size + factors) * net.dtype.itemsize}
