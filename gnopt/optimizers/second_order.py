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

from dataclasses import dataclass, field
from math import inf, isfinite, lcm, nan, sqrt
from typing import Any

import numpy as np

from gnopt.curvature import Curvature
from gnopt.curvature.kron import sketch_flops
from gnopt.engine.arrays import Array, Backend, Unchecked, Workspace
from gnopt.engine.network import Tape
from gnopt.errors import Diverged
from gnopt.optimizers import damping, growth, preconditioner
from gnopt.optimizers.base import (
    AVERAGING,
    Optimizer,
    Problem,
    State,
    Stats,
    loss_and_gradient,
    mean_loss,
    training_flops,
)
from gnopt.optimizers.preconditioner import Preconditioner
from gnopt.optimizers.quadratic import curvature_products, minimise
from gnopt.options import Option

OPTIONS = (
    Option(
        "weight_decay",
        1e-5,
        "float",
        "η in the penalty ½ η ‖θ‖², in gradient, model and damping",
        low=0.0,
    ),
    Option(
        "rescale",
        True,
        "bool",
        "step sizes from the quadratic model with the exact Gauss-Newton matrix; "
        "otherwise learning_rate",
    ),
    Option("learning_rate", 1.0, "float", "step size where rescale is off", low=0.0, open_low=True),
    Option(
        "model_rows",
        0.03125,
        "float",
        "share of the batch that the quadratic model uses, at least 62 rows",
        low=0.0,
        high=1.0,
        open_low=True,
    ),
    Option(
        "model_damping",
        1e-4,
        "float",
        "κ added to the Gauss-Newton matrix in the quadratic model (relative "
        "rule; the others use λ)",
        low=0.0,
    ),
    Option(
        "directions",
        ["previous", "decayed_sum"],
        "strs",
        "directions beside the preconditioned gradient in the quadratic model",
        choices=("previous", "decayed_sum"),
    ),
    Option(
        "direction_decay",
        0.9,
        "float",
        "decay of the sum of past directions",
        low=0.0,
        high=1.0,
        open_high=True,
    ),
    Option(
        "step_limit",
        0.15,
        "float",
        "longest step as a share of the norm of the weights, biases aside; 0 = none",
        low=0.0,
    ),
    Option(
        "rejection",
        0.5,
        "float",
        "a rise of the loss by this share of its size is looked into: where the last "
        "step is to blame it is undone and damping raised; 0 = only where the loss is not finite",
        low=0.0,
    ),
    *growth.OPTIONS,
    AVERAGING,
)
RIDGE = 1e-6  # of the quadratic model with unit diagonal
LEAST_MODEL_ROWS = 62
BLAME = 0.1  # a step is undone if it left an unseen batch worse by this share of its loss
RAISE, RELAX = 4.0, 0.9  # damping's factor after a rejected step, and per accepted one
ROUNDING = 1e-6  # a rise of the loss by this share is no rise
MAX_REJECTIONS = 12  # in a row


@dataclass
class Proposal:
    """What an update has found before it chooses its step: the loss, D, and the quadratic model's
    numbers.

    ``slopes`` b = Vᵀ∇, ``gram`` VᵀV and ``curvature`` Vᵀ GN V belong to the directions V called
    ``names``; ``gg`` = ‖∇‖², ``ww`` the squared norm of the weights without biases.
    """

    loss: float
    D: Array
    names: list[str] = field(default_factory=list)
    gg: float = nan
    ww: float = nan
    slopes: Any = None
    gram: Any = None
    curvature: Any = None


def options_for(curvature: Curvature) -> tuple[Option, ...]:
    """All options of the method that this curvature makes."""
    return preconditioner.options_for(curvature) + OPTIONS + curvature.options


class SecondOrder(Optimizer):
    """Drives a ``Curvature``; see the module's text for the update."""

    def __init__(self, problem: Problem, settings: dict[str, Any], curvature: Curvature) -> None:
        super().__init__(problem, settings)
        self.curvature = curvature
        self.name, self.summary, self.options = (
            curvature.name,
            curvature.summary,
            options_for(curvature),
        )
        self.preconditioner = Preconditioner(problem, settings, curvature, self.workspace)
        self.biases = problem.net.ops.asarray(problem.net.bias_positions())

    def init(self, theta: Array) -> State:
        state: State = {
            "accepted": 0,
            "rejected_in_row": 0,
            "last_loss": inf,
            "damping": self.settings["damping"],
            "boost": 1.0,
            "factors": self.preconditioner.init(),
            "growth": growth.initial(),
            "anchor": None,
            "previous": None,
            "decayed_sum": None,
            "terms": 0,
        }
        if self.settings["averaging"]:
            state["average"] = theta.copy()
        return state

    def batch_size(self, state: State, base: int) -> int:
        return growth.rows(state["growth"], base, self.problem.rows)

    def largest_batch(self, base: int) -> int:
        return growth.rows({"multiple": self.settings["growth_limit"]}, base, self.problem.rows)

    def update(self, theta: Array, state: State, x: Array, y: Array, step: int) -> Stats:
        net, cfg, factors, k = (
            self.problem.net,
            self.settings,
            state["factors"],
            state["accepted"] + 1,
        )
        g = self.workspace.take("gradient", (net.size,))
        rejected, unchecked = 0, True
        while True:
            with self.timer("passes"):
                loss, tape, held = loss_and_gradient(
                    self.problem, net.views(theta), x, y, g, self.workspace
                )
            before = self.preconditioner.mark(factors)
            try:
                with net.ops.deferred_checks(unchecked):
                    found = self.propose(theta, state, g, loss, tape, held, x, y, step)
            except Unchecked:
                factors.update(before)
                unchecked = False
                continue
            except Diverged:
                (value,) = net.ops.scalars(loss)
                if isfinite(value):
                    raise
                found = Proposal(
                    value, g
                )  # the factors are spoilt by the same numbers as the loss: to be judged
            if rejected or not self.judge(theta, state, x, y, found.loss, step):
                break
            factors.update(before)
            rejected, unchecked = 1, True
        with self.timer("vector"):
            steps, stats = self.choose_step(state, found, len(x))
            self.advance(theta, state, found.D, steps)
        if cfg["damping_rule"] == "lm" and k % cfg["damping_period"] == 0:
            rejected += self.levenberg_marquardt(theta, state, x, y, stats, step)
        stats["rejected"] = rejected
        with self.timer("vector"):
            self.average_iterates(theta, state, step)
        return stats

    # ---- the step --------------------------------------------------------------------------------

    def propose(
        self,
        theta: Array,
        state: State,
        g: Array,
        loss: Array,
        tape: Tape,
        held: slice,
        x: Array,
        y: Array,
        step: int,
    ) -> Proposal:
        """Statistics, inverses, direction and quadratic model; ends in the update's one fetch from
        the device.

        The loss is fetched with the rest, so that what a rejected step has left in the factors is
        to be undone.
        """
        net, ops, cfg, make = (
            self.problem.net,
            self.problem.net.ops,
            self.settings,
            self.preconditioner,
        )
        W, factors, k = net.views(theta), state["factors"], state["accepted"] + 1
        if cfg["weight_decay"]:
            with self.timer("vector"):
                ops.axpy(cfg["weight_decay"], theta, g)
        if make.due(factors, k):
            with self.timer("statistics"):
                tape, held = make.observe(factors, W, tape, held, x, y, step, k)
        # No previous update: there was none yet, or it was undone, and the inverses lack the
        # damping raised since.
        fresh = state["previous"] is None
        with self.timer("inverses"):
            make.prepare(factors, k, state["damping"], state["boost"], force=fresh)
        D = self.workspace.take("direction", (net.size,))
        with self.timer("solve"):
            make.solve(factors, g, state["damping"], state["boost"], D)
            D *= -1.0
        V = self.directions(state, D)
        n = self.model_rows(tape.rows, len(x))
        head, y_head = tape.head(n), y[held][:n]
        with self.timer("model"):
            Q = curvature_products(
                net, W, head, self.problem.loss, y_head, list(V.values()), self.workspace
            )
        with self.timer("vector"):
            return self.fetch(theta, g, D, loss, V, Q)

    def directions(self, state: State, D: Array) -> dict[str, Array]:
        """The directions of the quadratic model by name, D first."""
        # The decayed sum is a direction of its own once it holds two terms: one alone is parallel
        # to the last step.
        have = {"previous": state["previous"] is not None, "decayed_sum": state["terms"] >= 2}
        return {"preconditioned": D} | {
            name: state[name] for name in self.settings["directions"] if have[name]
        }

    def model_rows(self, held: int, rows: int) -> int:
        """Rows that the quadratic model uses."""
        return min(held, max(LEAST_MODEL_ROWS, round(self.settings["model_rows"] * rows)))

    def fetch(
        self, theta: Array, g: Array, D: Array, loss: Array, V: dict[str, Array], Q: Array
    ) -> Proposal:
        """All numbers that the choice of the step needs, brought to the host together."""
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
            *Q.reshape(-1),
        )
        ops.confirm(fetched)
        gram = np.zeros((m, m))
        gram[np.tril_indices(m)] = fetched[3 + m : 3 + m + m * (m + 1) // 2]
        GN = np.array(fetched[-m * m :]).reshape(m, m)
        return Proposal(
            fetched[0],
            D,
            list(V),
            fetched[1],
            fetched[2],
            np.array(fetched[3 : 3 + m]),
            gram + np.tril(gram, -1).T,
            0.5 * (GN + GN.T),
        )

    def choose_step(
        self, state: State, found: Proposal, rows: int
    ) -> tuple[dict[str, float], Stats]:
        """Step sizes by name of direction, and the log row."""
        cfg, names, b, gram = self.settings, found.names, found.slopes, found.gram
        adaptive = cfg["damping_rule"] != "relative"
        kappa = cfg["weight_decay"] + state["boost"] * (
            state["damping"] if adaptive else cfg["model_damping"]
        )
        model = found.curvature + kappa * gram
        steps = (
            minimise(model, b, RIDGE)
            if cfg["rescale"]
            else np.eye(len(b))[0] * cfg["learning_rate"]
        )
        norm = sqrt(max(float(steps @ gram @ steps), 0.0))
        longest = (
            cfg["step_limit"] * sqrt(max(found.ww, 0.0)) / state["boost"]
        )  # rescaling undoes damping alone
        if 0.0 < longest < norm:
            steps *= longest / norm
            norm = longest
        if "previous" in names:
            growth.observe(state["growth"], cfg, float(b[names.index("previous")]))
        state["growth"]["gain"] = -float(b @ steps)
        state["last_loss"] = found.loss
        chosen = dict(zip(names, steps.tolist(), strict=True))
        stats = {
            "loss": found.loss,
            "grad_norm": sqrt(found.gg),
            "step_norm": norm,
            "alpha": chosen["preconditioned"],
            "mu": chosen.get("previous", nan),
            "nu": chosen.get("decayed_sum", nan),
            "damping": state["boost"] * state["damping"] if adaptive else state["boost"],
            "rho": nan,
            "predicted": float(b @ steps + 0.5 * steps @ model @ steps),
            "batch": rows,
            "noise": state["growth"]["noise"],
        }
        return chosen, stats

    def advance(self, theta: Array, state: State, D: Array, steps: dict[str, float]) -> None:
        """θ ← θ + δ, with δ kept as the previous update, D added to the decayed sum, and θ kept as
        the anchor.
        """
        ops, xp = self.problem.net.ops, self.problem.net.ops.xp
        if state["previous"] is None:
            state["previous"] = xp.zeros_like(theta)
        if state["anchor"] is None:
            state["anchor"] = xp.empty_like(theta)
        if "decayed_sum" in self.settings["directions"] and state["decayed_sum"] is None:
            state["decayed_sum"] = xp.zeros_like(theta)
        ops.in_place(
            _advance,
            (theta, state["anchor"], state["previous"], state["decayed_sum"]),
            D,
            steps["preconditioned"],
            steps.get("previous", 0.0),
            steps.get("decayed_sum", 0.0),
            self.settings["direction_decay"],
        )
        state["terms"] += state["decayed_sum"] is not None
        state["accepted"] += 1
        state["boost"] = max(1.0, state["boost"] * RELAX)

    # ---- the guard -------------------------------------------------------------------------------

    def judge(self, theta: Array, state: State, x: Array, y: Array, value: float, step: int) -> int:
        """Undo the last step if it is to blame for a jump of the loss: 1 if so. Raises Diverged."""
        ops = self.problem.net.ops
        if not self.jumped(state, value, len(x)):
            state["rejected_in_row"] = 0
            return 0
        if state["anchor"] is None:
            if not isfinite(value):
                raise Diverged(f"update {step}: the loss is {value:g} before the first step")
            return 0
        apart = Workspace(
            ops, self.problem.net.dtype
        )  # the tape of the batch is still wanted if the step stands
        with self.timer("passes"):
            (before,) = ops.scalars(
                mean_loss(self.problem, self.problem.net.views(state["anchor"]), x, y, apart)
            )
        if not self.to_blame(value, before, len(x)):
            state["rejected_in_row"] = 0  # the batch is a hard one, the step was not bad
            return 0
        if not isfinite(before):
            raise Diverged(
                f"update {step}: the loss is {before:g} on this batch also before the last step"
            )
        ops.xp.copyto(theta, state["anchor"])
        self._reject(state, step, isfinite(value))
        return 1

    def jumped(self, state: State, value: float, rows: int) -> bool:
        """Whether the loss of a batch is not finite, or so far above that of the last that the step
        is looked into.
        """
        last, tolerance = (
            state["last_loss"],
            ROUNDING if self._exact(rows) else self.settings["rejection"],
        )
        return not isfinite(value) or (tolerance > 0.0 and value - last > tolerance * abs(last))

    def to_blame(self, value: float, before: float, rows: int) -> bool:
        """Whether the last step left this batch worse, ``before`` being the loss without the
        step.
        """
        blame = 0.0 if self._exact(rows) else BLAME
        return not isfinite(value) or value - before > blame * abs(before)

    def _exact(self, rows: int) -> bool:
        """Whether a batch is all of the data, where steps are judged by it: no noise excuses a
        rise.
        """
        return self.settings["rejection"] > 0.0 and rows >= self.problem.rows

    def closing_weights(self, theta: Array, state: State, x: Array, y: Array) -> Array | None:
        if state["anchor"] is None or "average" in state:
            return None
        net, ops = self.problem.net, self.problem.net.ops
        (value,) = ops.scalars(mean_loss(self.problem, net.views(theta), x, y, self.workspace))
        if not self.jumped(state, value, len(x)):
            return None
        (before,) = ops.scalars(
            mean_loss(self.problem, net.views(state["anchor"]), x, y, self.workspace)
        )
        return (
            state["anchor"] if isfinite(before) and self.to_blame(value, before, len(x)) else None
        )

    def _reject(self, state: State, step: int, finite: bool) -> None:
        """Raise damping and forget past directions; the weights are those of the anchor again."""
        state["rejected_in_row"] += 1
        if state["rejected_in_row"] > MAX_REJECTIONS and not finite:
            raise Diverged(
                f"update {step}: {MAX_REJECTIONS} steps in a row led to a loss that is not finite"
            )
        state["boost"] = min(state["boost"] * RAISE, RAISE**MAX_REJECTIONS)
        state["previous"], state["decayed_sum"], state["terms"] = None, None, 0

    def levenberg_marquardt(
        self, theta: Array, state: State, x: Array, y: Array, stats: Stats, step: int
    ) -> int:
        """Adapt λ by the reduction ratio on the same batch; undo a step that raised the objective:
        1 if so.
        """
        net, ops, xp = self.problem.net, self.problem.net.ops, self.problem.net.ops.xp
        with self.timer("passes"):
            after = mean_loss(self.problem, net.views(theta), x, y, self.workspace)
        old = state["anchor"]
        with self.timer("vector"):
            after_value, tt, oo = ops.scalars(after, xp.vdot(theta, theta), xp.vdot(old, old))
        change = after_value - stats["loss"] + 0.5 * self.settings["weight_decay"] * (tt - oo)
        rho = change / stats["predicted"] if stats["predicted"] != 0.0 else nan
        stats["rho"] = rho if isfinite(rho) else nan
        state["damping"] = damping.adapt(self.settings, state["damping"], rho)
        if isfinite(after_value) and change <= 0.0:
            return 0
        xp.copyto(theta, old)
        self._reject(state, step, isfinite(after_value))
        return 1

    # ---- periods ---------------------------------------------------------------------------------

    def period(self) -> int:
        """Statistics are taken every ``factor_period`` updates, inverses every ``inverse_period``;
        together they repeat after the least common multiple of the two.
        """
        return lcm(self.settings["factor_period"], self.settings.get("inverse_period", 1))

    def skip_to(self, state: State, updates: int) -> None:
        """Count ``updates`` accepted steps, and as many statistics where there were fewer."""
        factors = state["factors"]
        state["accepted"] = updates
        factors["statistics"] = max(factors["statistics"], updates)

    # ---- cost ------------------------------------------------------------------------------------

    def cost(self, base: int) -> dict[str, float]:
        """Average flops of an update once periods are reached, bytes of factors, inverses and
        directions, and of the curvature's temporaries.
        """
        net, cfg = self.problem.net, self.settings
        largest = self.preconditioner.rows(self.largest_batch(base), 1)
        temporary = float(
            self.curvature.temporaries(net, self.problem.loss, largest, cfg, self.problem.memory)
        )
        rows = min(base, self.problem.rows)
        n = self.preconditioner.rows(rows, preconditioner.EARLY + 1)
        first = net.shapes[0][1]
        own = self.curvature.flops(net, self.problem.loss, n, cfg)
        model = (
            max(LEAST_MODEL_ROWS, cfg["model_rows"] * rows)
            * 4.0
            * net.size
            * (1 + len(cfg["directions"]))
        )
        vectors = net.size * (3.0 + len(cfg["directions"])) * net.dtype.itemsize
        if self.curvature.basis == "identity":
            return {
                "flops": training_flops(net, rows) + own / cfg["factor_period"] + model,
                "bytes": vectors + net.size * net.dtype.itemsize,
                "temporaries": temporary,
            }
        width = cfg["factor_width"] or max(net.sizes) + 1
        known = first * min(first, width) if cfg["input_updates"] else 0
        A = sum(float(i) * min(i, width) for _, i in net.shapes) - known
        dims = [i for _, i in net.shapes] + [
            o for o, _ in net.shapes[: -1 if self.preconditioner.diagonal else None]
        ]
        ranks = self.preconditioner.ranks
        twice = 2.0 if self.preconditioner.eigen else 1.0  # rotations there and back
        inverse = sum(float(d) * min(d, width) ** 2 for d in dims) * (
            9.0 if self.preconditioner.eigen else 1.0
        )
        inverse += sum(
            sketch_flops(o, r) - float(o) ** 3
            for (o, _), r in zip(net.shapes, ranks, strict=True)
            if r
        )
        solve = twice * sum(
            2.0 * o * i * ((2 * r or min(o, width)) + min(i, width))
            for (o, i), r in zip(net.shapes, ranks, strict=True)
        )
        flops = (
            training_flops(net, rows)
            + (n * A + own) / cfg["factor_period"]
            + inverse / cfg["inverse_period"]
            + solve
            + model
        )
        factors = 2.0 * sum(float(d) * min(d, width) for d in dims) * net.dtype.itemsize
        return {"flops": flops, "bytes": factors + vectors, "temporaries": temporary}


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
