"""One update, phase by phase: the engine's own functions in the order in which ``Optimizer.update``
calls them.

The result is that of ``update``, number for number; only the stopwatch lies between the steps. A
driver stands for each family of methods; ``driver`` finds the one for an optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gnopt.benchmark.clock import Clock
from gnopt.engine.arrays import Array
from gnopt.engine.network import Tape, forward, gradient
from gnopt.optimizers.base import Optimizer, Problem, Stats, blocks
from gnopt.optimizers.conjugate_gradient import GaussNewtonCG, Proposal, Trial
from gnopt.optimizers.first_order import FirstOrder
from gnopt.optimizers.quadratic import curvature_products
from gnopt.optimizers.schedules import learning_rate
from gnopt.optimizers.second_order import SecondOrder
from gnopt.optimizers.solver import ConjugateGradients

PHASES = (
    "data",
    "forward",
    "loss",
    "backward",
    "factors",
    "inverses",
    "solve",
    "model",
    "search",
    "vector",
    "logging",
)
PERIODIC = ("factors", "inverses")  # not in every update alike

Driver = Callable[[Any, Clock, Array, dict[str, Any], Array, Array, int], Stats]


def forward_backward(
    clock: Clock, problem: Problem, W: list[Array], x: Array, y: Array, out: Array, workspace: Any
) -> tuple[Array, Tape, slice]:
    """``loss_and_gradient`` in three phases."""
    net, xp = problem.net, problem.net.ops.xp
    views = net.views(out)
    total: Any = 0.0
    for number, rows in enumerate(blocks(net, len(x), problem.memory)):
        with clock.phase("forward"):
            tape = forward(net, W, x[rows], workspace)
        with clock.phase("loss"):
            value, delta = problem.loss.value_and_gradient(net.ops, tape.output, y[rows])
            total = total + value.sum(dtype=xp.float64)
            delta *= 1.0 / len(x)
        with clock.phase("backward"):
            if number == 0:
                gradient(net, W, tape, delta, views, workspace)
            else:
                part = workspace.take("gradient part", (net.size,))
                gradient(net, W, tape, delta, net.views(part), workspace)
                out += part
    return total / len(x), tape, rows


def first_order(
    optimizer: FirstOrder,
    clock: Clock,
    theta: Array,
    state: dict[str, Any],
    x: Array,
    y: Array,
    step: int,
) -> Stats:
    """Forward, loss, backward; everything else is work on vectors."""
    net, ops, cfg = optimizer.problem.net, optimizer.problem.net.ops, optimizer.settings
    g = optimizer.workspace.take("gradient", (net.size,))
    loss, _, _ = forward_backward(
        clock, optimizer.problem, net.views(theta), x, y, g, optimizer.workspace
    )
    with clock.phase("vector"):
        if cfg["weight_decay"]:
            g += theta * cfg["weight_decay"]
        rate = learning_rate(cfg["learning_rate"], cfg["schedule"], cfg["decay_period"], step)
        squared = ops.xp.vdot(g, g)
        delta = optimizer.step(g, state["moments"], rate, step)
        theta += delta
        optimizer.average_iterates(theta, state, step)
        loss_value, gg, dd = ops.scalars(loss, squared, ops.xp.vdot(delta, delta))
    return {
        "loss": loss_value,
        "grad_norm": gg**0.5,
        "step_norm": dd**0.5,
        "lr": rate,
        "batch": len(x),
    }


def second_order(
    optimizer: SecondOrder,
    clock: Clock,
    theta: Array,
    state: dict[str, Any],
    x: Array,
    y: Array,
    step: int,
) -> Stats:
    """The Kronecker-factored update; a step rejected by the guard shows as ``rejected`` in the
    result.
    """
    net, ops, cfg, factors = (
        optimizer.problem.net,
        optimizer.problem.net.ops,
        optimizer.settings,
        state["factors"],
    )
    W, make, k = net.views(theta), optimizer.preconditioner, state["accepted"] + 1
    g = optimizer.workspace.take("gradient", (net.size,))
    rejected = 0
    while True:
        loss, tape, held = forward_backward(
            clock, optimizer.problem, W, x, y, g, optimizer.workspace
        )
        lam, boost, before = state["damping"], state["boost"], make.mark(factors)
        with clock.phase("vector"):
            if cfg["weight_decay"]:
                ops.axpy(cfg["weight_decay"], theta, g)
        with clock.phase("factors"):
            if make.due(factors, k):
                tape, held = make.observe(factors, W, tape, held, x, y, step, k)
        with clock.phase("inverses"):
            make.prepare(factors, k, lam, boost, force=state["previous"] is None)
        with clock.phase("solve"):
            D = optimizer.workspace.take("direction", (net.size,))
            make.solve(factors, g, lam, boost, D)
        with clock.phase("vector"):
            D *= -1.0
        V, n = optimizer.directions(state, D), optimizer.model_rows(tape.rows, len(x))
        with clock.phase("model"):
            Q = curvature_products(
                net,
                W,
                tape.head(n),
                optimizer.problem.loss,
                y[held][:n],
                list(V.values()),
                optimizer.workspace,
            )
        with clock.phase("vector"):
            found = optimizer.fetch(theta, g, D, loss, V, Q)
            if rejected or not optimizer.judge(theta, state, x, y, found.loss, step):
                break
            factors.update(before)
            rejected = 1
    with clock.phase("vector"):
        steps, stats = optimizer.choose_step(state, found, len(x))
        optimizer.advance(theta, state, D, steps)
    if cfg["damping_rule"] == "lm" and k % cfg["damping_period"] == 0:
        with clock.phase("search"):
            rejected += optimizer.levenberg_marquardt(theta, state, x, y, stats, step)
    with clock.phase("vector"):
        stats["rejected"] = rejected
        optimizer.average_iterates(theta, state, step)
    return stats


def exact(
    optimizer: GaussNewtonCG,
    clock: Clock,
    theta: Array,
    state: dict[str, Any],
    x: Array,
    y: Array,
    step: int,
) -> Stats:
    """Conjugate gradients: the solution as it is found in an update, without the rules that follow
    it.

    Products with the Gauss-Newton matrix count as "model", applications of the preconditioner as
    "solve", the preconditioner's making as "factors", the losses tried along the iterates as
    "search".
    """
    net, ops, cfg = optimizer.problem.net, optimizer.problem.net.ops, optimizer.settings
    W, xp = net.views(theta), ops.xp
    g = xp.empty_like(theta)
    loss, _, _ = forward_backward(clock, optimizer.problem, W, x, y, g, optimizer.workspace)
    rows = optimizer.product_rows(len(x))
    with clock.phase("vector"):
        ops.axpy(cfg["weight_decay"], theta, g)
        loss_value, gg = ops.scalars(loss, xp.vdot(g, g))
    with clock.phase("model"):
        product = optimizer.product(W, x[:rows], y[:rows], state["damping"] + cfg["weight_decay"])
    with clock.phase("factors"):
        precondition = optimizer.preconditioner(W, x[:rows], y[:rows], state["damping"], step)
    inner = Clock(synchronize=ops.synchronize)
    inner.read = clock.read

    def timed(name: str, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def call(v: Array) -> Array:
            with inner.phase(name):
                return function(v)

        return call

    with clock.phase("vector"):
        solver = ConjugateGradients(
            timed("model", product),
            -g,
            optimizer.start(state),
            timed("solve", precondition),
            ops,
            optimizer.stop,
            optimizer.keep,
        )
        solver.run(cfg["iterations"])
        count, residual = ops.scalars(solver.count, solver.residual())
    for name, seconds in inner.seconds.items():
        clock.move("vector", name, seconds)
    with clock.phase("search"):
        trials = [Trial(point) for point in (solver.last(), *solver.earlier(int(count)))]
        found = Proposal(loss_value, gg, int(count), residual, solver.x, trials)
        chosen, share = optimizer.search(theta, x, y, found)
    return {
        "loss": loss_value,
        "grad_norm": gg**0.5,
        "alpha": share,
        "iterations": found.iterations,
        "after": chosen.losses[share],
    }


def driver(optimizer: Optimizer) -> Driver:
    """The driver for this optimizer's family."""
    for family, found in (
        (SecondOrder, second_order),
        (GaussNewtonCG, exact),
        (FirstOrder, first_order),
    ):
        if isinstance(optimizer, family):
            return found
    raise TypeError(f"no phases are known for {type(optimizer).__name__}")
