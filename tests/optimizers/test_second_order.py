"""The second-order update: directions and steps against dense truth, the guard, damping and
growth.
"""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import Case, Truth, close, host, make_case, optimizer, same, settings

from gnopt.curvature import all_curvatures
from gnopt.curvature.blocks import KroneckerBlock
from gnopt.curvature.damping import adapt
from gnopt.errors import Diverged
from gnopt.optimizers.growth import GrowthState, grown
from gnopt.optimizers.second_order import Height, StepProposal

DRIVEN = list(all_curvatures())
KRONECKER = [name for name, c in all_curvatures().items() if c.block is KroneckerBlock]
PLAIN = {
    "step_limit": 0.0,
    "rejection": 0.0,
    "directions": [],
    "model_rows": 1.0,
    "factor_rows": 1.0,
}


def at(case, theta):
    """The case with other weights."""
    return Case(case.net, case.names, case.loss_name, theta.copy(), case.x, case.y)


def small(
    ops,
    loss_name="softmax_cross_entropy",
    rows=12,
    sizes=(4, 3, 5, 3),
    names=("tanh", "softplus"),
    seed=0,
):
    return make_case(sizes, names, loss_name, rows, seed=seed, soft=True, ops=ops)


def start(case, name, rows=None, **changes):
    """A method with its state and a copy of the weights; ``rows`` of data where the batch is not
    all of it.
    """
    method = optimizer(case, name, settings(name, **changes), rows=rows or len(case.x))
    theta = case.theta.copy()
    return method, theta, method.init(theta)


def objective(case, theta, eta=0.0):
    moved = at(case, theta)
    W = [host(W_l)[:, :-1] for W_l in case.net.views(theta)]
    penalty = 0.5 * eta * sum(float((W_l * W_l).sum()) for W_l in W)
    return float(case.loss.value(case.ops, moved.tape().output, case.y).mean()) + penalty


# ---- the direction: one step with step size 1 is the damped solve --------------------------------

ETA = 0.03


def dense_direction(case, truth, name, s):
    """−(damped A ⊗ G)⁻¹ ∇, layer by layer, from the sibling's G and dense matrices, on the host."""
    G = [
        host(g.dense(case.ops))
        for g in optimizer(case, name, s).curvature.output_factors(sample(case))
    ]
    g = truth.gradient() + decay(case.net, truth.gradient(), host(case.theta), ETA)
    out = np.zeros_like(g)
    for l, (G_l, g_l, out_l) in enumerate(
        zip(G, case.net.views(g), case.net.views(out), strict=True)
    ):
        A_l = truth.input_factor(l + 1)
        a, b = np.trace(A_l) / len(A_l), np.trace(G_l) / len(G_l)
        if s.block.damping_split == "exact":
            lam = s.damping_a * s.damping_g * a * b
            shift = lam if s.damping_rule == "relative" else s.damping + ETA
            block = np.kron(A_l, G_l) + shift * np.eye(A_l.shape[0] * G_l.shape[0])
        else:
            root, pi = math.sqrt(s.damping + ETA), math.sqrt(a / b)
            add_A, add_G = (
                (s.damping_a * a, s.damping_g * b)
                if s.damping_rule == "relative"
                else (pi * root, root / pi)
            )
            block = np.kron(A_l + add_A * np.eye(len(A_l)), G_l + add_G * np.eye(len(G_l)))
        out_l[...] = -np.linalg.solve(block, g_l.ravel(order="F")).reshape(g_l.shape, order="F")
    return bounded(case.net, out, host(case.theta))


def decay(net, g, theta, eta):
    """Each layer's weight decay, biases aside: less where hardly any gradient reaches the layer."""
    out = np.zeros_like(g)
    layers = list(zip(net.views(g), net.views(theta), net.views(out), strict=True))
    reached = [
        np.linalg.norm(g_l) / max(np.linalg.norm(W_l), 0.1 * math.sqrt(len(W_l)))
        for g_l, W_l, _ in layers
    ]
    for (_, W_l, out_l), ratio in zip(layers, reached, strict=True):
        out_l[:, :-1] = eta * min(1.0, ratio / (1e-3 * max(reached))) * W_l[:, :-1]
    return out


def bounded(net, D, theta):
    """Each layer's direction, no longer than 10 times its weights."""
    for D_l, W_l in zip(net.views(D), net.views(theta), strict=True):
        longest = 10.0 * max(np.linalg.norm(W_l[:, :-1]), 0.1 * math.sqrt(len(W_l)))
        D_l *= min(1.0, longest / np.linalg.norm(D_l))
    return D


def sample(case):
    from gnopt import rng
    from gnopt.curvature import CurvatureSample

    stream = rng.generator(0, "curvature", 1)  # that of the first update
    return CurvatureSample(case.net, case.W, case.tape(), case.loss, case.y, stream, 1 << 30)


def dense_factors(case, state):
    """A_0..A_{L-1} and G_1..G_L of a state, as matrices."""
    pairs = [block.pair() for block in state.factors.blocks]
    return [factor.dense(case.ops) for side in zip(*pairs, strict=True) for factor in side]


def inverses(state):
    """What is prepared of every factor, A first."""
    blocks = state.factors.blocks
    return [*(b.inverse_A for b in blocks), *(b.inverse_G for b in blocks)]


def ages(state):
    """Updates since each factor was inverted, A first."""
    blocks = state.factors.blocks
    return [*(b.age_A for b in blocks), *(b.age_G for b in blocks)]


def tree_of(record):
    """Every array of a record, in the order of its fields."""
    tree, arrays = [record], []
    while tree:
        value = tree.pop()
        if dataclasses.is_dataclass(value):
            tree += [getattr(value, f.name) for f in dataclasses.fields(value)]
        elif isinstance(value, list):
            tree += value
        elif hasattr(value, "dtype"):
            arrays.append(value)
    return arrays


def ranks_of(method):
    """Rank of the sketch of each layer's G."""
    return [plan.rank for plan in method.preconditioner.plans]


@pytest.mark.parametrize("split", ["factored", "exact"])
@pytest.mark.parametrize("rule", ["relative", "fixed", "lm"])
@pytest.mark.parametrize("name", KRONECKER)
def test_direction_solves_the_damped_system(ops, name, rule, split, loss_name):
    case = small(ops, loss_name)
    s = settings(
        name,
        damping_rule=rule,
        damping_split=split,
        damping=0.7,
        weight_decay=ETA,
        rescale=False,
        learning_rate=1.0,
        damping_period=5,
        **PLAIN,
    )
    method, theta = optimizer(case, name, s), case.theta.copy()
    state = method.init(theta)
    method.update(theta, state, case.x, case.y, 1)
    close(theta - case.theta, dense_direction(case, Truth(case), name, s), 1e-9)


@pytest.mark.parametrize("split", ["factored", "exact"])
def test_more_damping_means_a_shorter_step(ops, split):
    case, lengths = small(ops), []
    for lam in (1e-3, 1e-1, 1e1, 1e3):
        method, theta, state = start(
            case,
            "kfra",
            damping_rule="fixed",
            damping=lam,
            damping_split=split,
            rescale=False,
            **PLAIN,
        )
        lengths.append(method.update(theta, state, case.x, case.y, 1)["step_norm"])
    assert all(b < a for a, b in itertools.pairwise(lengths))


@pytest.mark.parametrize("split", ["factored", "exact"])
def test_solving_twice_is_solving_once_and_factors_stay_as_they_are(ops, split):
    case = small(ops, rows=40)
    method, theta, state = start(case, "kflr", damping_split=split)
    for k in range(1, 4):
        method.update(theta, state, case.x, case.y, k)
    kept = copy.deepcopy(dense_factors(case, state))
    damping = method.preconditioner.damping(0.5, 2.0)
    results = []
    for _ in range(2):
        method.preconditioner.prepare(state.factors, 4, damping, force=True)
        out = ops.xp.empty(case.net.size)
        method.preconditioner.solve(state.factors, case.theta.copy(), damping, out)
        results.append(out)
    same(*results)
    for now, before in zip(dense_factors(case, state), kept, strict=True):
        same(now, before)


# ---- statistics over updates ---------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.8])
@pytest.mark.parametrize("name", ["kfra", "kflr", "empirical_fisher"])
def test_factors_are_bias_corrected_averages(ops, name, beta):
    case = small(ops, rows=12)
    method, theta, state = start(case, name, curvature_decay=beta, input_updates=0, factor_period=1)
    A = G = None
    for k in range(1, 7):
        now = at(case, theta)
        truth = Truth(now)
        batch_A = [truth.input_factor(l) for l in (1, 2, 3)]
        batch_G = [host(g.dense(ops)) for g in method.curvature.output_factors(sample(now))]
        b = min(1.0 - 1.0 / k, beta)
        A = (
            batch_A
            if A is None
            else [b * old + (1 - b) * new for old, new in zip(A, batch_A, strict=True)]
        )
        G = (
            batch_G
            if G is None
            else [b * old + (1 - b) * new for old, new in zip(G, batch_G, strict=True)]
        )
        method.update(theta, state, case.x, case.y, k)
        for expected, found in zip([*A, *G], dense_factors(case, state), strict=True):
            close(found, expected)


def test_first_input_factor_is_known_after_so_many_updates(ops):
    case = small(ops, rows=40)
    method, theta, state = start(case, "kfra", input_updates=3, factor_period=1)
    seen = []
    for k in range(1, 7):
        rows = np.random.default_rng(k).integers(0, 40, 12)
        method.update(theta, state, case.x[rows], case.y[rows], k)
        seen.append([A.copy() for A in dense_factors(case, state)[:2]])
    assert (seen[1][0] != seen[2][0]).any()
    same(seen[2][0], seen[5][0])
    assert (seen[4][1] != seen[5][1]).any()


def test_periods_bound_the_age_of_statistics_and_inverses(ops):
    case = small(ops, rows=12)
    method, theta, state = start(case, "kfra", factor_period=3, inverse_period=4)
    statistics, prepared = [], []
    for k in range(1, 41):
        method.update(theta, state, case.x, case.y, k)
        statistics.append(state.factors.statistics)
        prepared.append([id(b.inverse_A) for b in state.factors.blocks])
    assert statistics[0] == 1
    gaps = np.diff([0, *np.flatnonzero(np.diff([0, *statistics]))])
    assert gaps.max() <= 3
    assert statistics[-1] < 30
    for layer in range(3):
        changes = np.flatnonzero([a[layer] != b[layer] for a, b in itertools.pairwise(prepared)])
        assert np.diff(changes).max() <= 2 * 4
        assert len(changes) < 30
    assert max(ages(state)) < 4


# ---- the step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["relative", "lm"])
@pytest.mark.parametrize("name", DRIVEN)
def test_step_minimises_the_quadratic_model(ops, name, rule):
    """Against the dense q(δ) = ∇·δ + ½ δᵀ(GN + κ)δ: along the step, beside it, with fewer
    directions.
    """
    case = small(ops, "binary_cross_entropy")
    s = dict(
        damping_rule=rule, damping=0.5, damping_period=100, weight_decay=1e-3, model_damping=1e-3
    )
    method, theta, state = start(
        case, name, **(PLAIN | s | {"directions": ["previous", "decayed_sum"]})
    )
    for k in range(1, 6):
        before, previous, fewer = host(theta.copy()), copy.deepcopy(state.previous), []
        for directions in ([], ["previous"]):
            other, other_theta, other_state = start(
                case, name, **(PLAIN | s | {"directions": directions})
            )
            other_theta[...], other_state = theta, copy.deepcopy(state)
            other.update(other_theta, other_state, case.x, case.y, k)
            fewer.append(host(other_theta) - before)
        truth, stats = Truth(at(case, theta)), method.update(theta, state, case.x, case.y, k)
        delta = host(theta) - before
        g = truth.gradient() + decay(case.net, truth.gradient(), before, 1e-3)
        kappa = 1e-3 + (1e-3 if rule == "relative" else 0.5)
        Q = truth.gauss_newton() + kappa * np.eye(len(g))

        def q(d, g=g, Q=Q):
            return g @ d + 0.5 * d @ Q @ d

        best = q(delta)
        assert stats["predicted"] == pytest.approx(best, rel=1e-8)
        assert stats["grad_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-10)
        assert stats["step_norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-10)
        assert best < 0.0
        slack = 1e-4 * abs(best)
        assert all(best <= q(t * delta) + slack for t in np.linspace(-1.0, 3.0, 41))
        assert all(best <= q(d) + slack for d in fewer)
        if previous is not None:
            assert all(
                best <= q(delta + t * host(previous)) + slack for t in np.linspace(-1.0, 1.0, 21)
            )


def test_one_direction_is_rescaled_by_the_closed_form(ops):
    """α = −∇ᵀD / (Dᵀ GN D + κ ‖D‖²)."""
    case, truth = small(ops), Truth(small(ops))
    s = PLAIN | {"weight_decay": 1e-3, "model_damping": 1e-3}
    method, theta, state = start(case, "kfra", rescale=False, learning_rate=1.0, **s)
    method.update(theta, state, case.x, case.y, 1)
    D = host(theta - case.theta)
    method, theta, state = start(case, "kfra", **s)
    stats = method.update(theta, state, case.x, case.y, 1)
    g = truth.gradient() + decay(case.net, truth.gradient(), host(case.theta), 1e-3)
    alpha = -(g @ D) / (D @ truth.gauss_newton() @ D + 2e-3 * D @ D)
    assert stats["alpha"] == pytest.approx(alpha, rel=1e-5)  # up to the ridge
    close(theta - case.theta, alpha * D, 1e-5)


def test_learning_rate_is_the_step_size_without_rescaling(ops):
    case, steps = small(ops), []
    for rate in (1.0, 0.25):
        method, theta, state = start(case, "kfra", rescale=False, learning_rate=rate, **PLAIN)
        assert method.update(theta, state, case.x, case.y, 1)["alpha"] == rate
        steps.append(theta - case.theta)
    close(steps[1], 0.25 * steps[0], 1e-13)


@pytest.mark.parametrize("name", DRIVEN)
def test_step_limit(ops, name):
    case = small(ops)
    for limit in (1e-4, 0.01, 10.0):
        method, theta, state = start(case, name, step_limit=limit)
        for k in range(1, 8):
            before = theta.copy()
            stats = method.update(theta, state, case.x, case.y, k)
            weights = np.concatenate(
                [host(W[:, :-1]).ravel() for W in case.net.views(before)]
            )  # biases aside
            longest = limit * np.linalg.norm(weights)
            assert np.linalg.norm(host(theta - before)) <= longest * (1.0 + 1e-9)
            assert stats["step_norm"] <= longest * (1.0 + 1e-9)
            assert stats["predicted"] < 0.0
        if limit == 1e-4:
            assert stats["step_norm"] == pytest.approx(longest, rel=1e-9)


def test_previous_update_and_decayed_sum_are_what_they_say(ops):
    case = small(ops)
    method, theta, state = start(case, "kfra", direction_decay=0.6, rejection=0.0)
    weights, directions, decayed = [host(theta.copy())], [], 0.0
    for k in range(1, 7):
        stats = method.update(theta, state, case.x, case.y, k)
        weights.append(host(theta.copy()))
        close(state.previous, weights[-1] - weights[-2], 1e-9)
        delta = weights[-1] - weights[-2]
        if k >= 2:
            delta = delta - stats["mu"] * (weights[-2] - weights[-3])
        if not math.isnan(stats["nu"]):
            delta = delta - stats["nu"] * decayed
        directions.append(delta / stats["alpha"])
        decayed = sum(0.6 ** (k - 1 - i) * D for i, D in enumerate(directions))
        close(state.decayed_sum, decayed, 1e-7)
        assert math.isnan(stats["mu"]) == (k == 1)
        assert math.isnan(stats["nu"]) == (k <= 2)


# ---- the guard -----------------------------------------------------------------------------------


def test_bad_step_is_undone_bit_for_bit_and_damping_raised(ops):
    case = small(ops)
    method, theta, state = start(case, "kfra")
    for k in range(1, 4):
        method.update(theta, state, case.x, case.y, k)
    good, boost = state.anchor.copy(), state.boost
    theta *= 50.0  # as if the step had been a wild one
    stats = method.update(theta, state, case.x, case.y, 4)
    assert stats["rejected"] == 1
    same(state.anchor, good)  # where the new step starts from
    assert state.boost > boost
    assert stats["damping"] > boost
    assert math.isnan(stats["mu"])
    assert math.isnan(stats["nu"])
    assert stats["loss"] == pytest.approx(objective(case, good), rel=1e-12)
    stats = method.update(theta, state, case.x, case.y, 5)
    assert stats["rejected"] == 0
    assert state.rejected_in_row == 0
    assert state.boost < 4.0


@pytest.mark.parametrize("rule", ["relative", "fixed"])
def test_steps_get_shorter_while_they_are_rejected(ops, rule):
    """Damping alone would not do it: the quadratic model scales a shorter direction up again."""
    case = small(ops)
    method, theta, state = start(case, "kfra", rows=1000, damping_rule=rule)
    for k in range(1, 4):
        method.update(theta, state, case.x, case.y, k)
    lengths = []
    for k in range(4, 12):
        theta *= 50.0  # as if every step had been a wild one
        stats = method.update(theta, state, case.x, case.y, k)
        assert stats["rejected"] == 1
        lengths.append(stats["step_norm"])
    assert lengths[-1] < 1e-2 * lengths[0]


def test_where_steps_have_become_too_short_the_loss_may_rise_a_little(ops):
    """With all of the data in each batch; the lowest loss is kept and comes back at the end."""
    case = small(ops)
    method, theta, state = start(case, "kfra")
    for k in range(1, 4):
        method.update(theta, state, case.x, case.y, k)
    allowed = []
    for k in range(4, 60):
        anchor = theta.copy()
        theta *= 50.0  # a step that is turned down
        stats = method.update(theta, state, case.x, case.y, k)
        assert stats["rejected"] == 1
        assert stats["damping"] <= 256.0 * 4.0
        allowed.append(state.slack)
        ops.xp.copyto(theta, anchor)
    assert allowed[0] == 1e-6
    assert max(allowed) == 0.03
    lowest = state.lowest.loss
    method.update(theta, state, case.x, case.y, 60)
    theta *= 50.0
    if state.low is not None:
        closing = method.closing_weights(theta, state, case.x, case.y)
        assert objective(case, closing) == pytest.approx(min(lowest, state.lowest.loss), rel=1e-6)
    strict = []
    for k in range(61, 600):  # steps from here on fall on the same point: there is no lower loss
        ops.xp.copyto(theta, anchor)
        method.update(theta, state, case.x, case.y, k)
        strict.append(state.slack)
    assert min(strict) <= 0.003


@pytest.mark.parametrize("name", DRIVEN)
def test_long_runs_on_the_indefinite_loss_go_on(ops, name):
    """The Gauss-Newton matrix of the mixture says too little: steps are rejected, none of it is the
    end.
    """
    case = make_case((4, 5, 3), ("tanh",), "binary_mixture", 30, seed=1, ops=ops)
    method, theta, state = start(case, name)
    losses = [method.update(theta, state, case.x, case.y, k)["loss"] for k in range(1, 151)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_loss_that_is_not_finite_is_undone_until_it_is_hopeless(ops, bad):
    case = small(ops)
    method, theta, state = start(case, "kfra", rejection=0.0)
    method.update(theta, state, case.x, case.y, 1)
    boosts = [state.boost]
    with np.errstate(all="ignore"), pytest.raises(Diverged, match="in a row"):
        for k in range(2, 100):
            theta[-1] = bad
            stats = method.update(theta, state, case.x, case.y, k)
            assert stats["rejected"] == 1
            assert np.isfinite(theta).all()
            boosts.append(state.boost)
    assert all(b > a for a, b in itertools.pairwise(boosts))
    assert 5 < len(boosts) < 50


def test_batch_that_no_weights_can_take_is_an_error(ops):
    case = small(ops, "squared_error")
    method, theta, state = start(case, "kfra")
    method.update(theta, state, case.x, case.y, 1)
    with (
        np.errstate(all="ignore"),
        pytest.raises(Diverged, match=r"update 2.*before the last step"),
    ):
        method.update(theta, state, ops.xp.full_like(case.x, np.nan), case.y, 2)


def test_all_of_the_data_excuses_no_rise(ops):
    case = small(ops, "squared_error")
    for rows, rejected in ((None, 1), (1000, 0)):
        method, theta, state = start(case, "kfra", rows=rows)
        for k in range(1, 4):
            method.update(theta, state, case.x, case.y, k)
        state.last.loss = objective(case, theta) * 0.95  # as if the loss had risen by a twentieth
        state.anchor[...] = theta * 0.999
        gained = objective(case, theta) - objective(case, state.anchor)
        stats = method.update(theta, state, case.x, case.y, 4)
        assert stats["rejected"] == (rejected if gained > 0.0 else 0)


def test_hard_batch_is_not_held_against_the_step(ops):
    """The look at the weights before leaves nothing behind: the update is as if there had been
    none.
    """
    case = small(ops, "squared_error", rows=12)
    hard = case.y + 40.0
    results = []
    for rejection in (0.25, 0.0):
        method, theta, state = start(case, "kfra", rows=1000, rejection=rejection)
        for k in range(1, 4):
            method.update(theta, state, case.x, case.y, k)
        stats = method.update(theta, state, case.x, hard, 4)
        assert stats["rejected"] == 0
        results.append((theta, *dense_factors(case, state)))
    for looked, did_not in zip(*results, strict=True):
        same(looked, did_not)


# ---- Levenberg-Marquardt -------------------------------------------------------------------------

LM = {
    "damping_rule": "lm",
    "damping": 1.0,
    "damping_period": 1,
    "damping_decay": 0.9,
    "damping_min": 0.05,
    "damping_max": 30.0,
}


@given(st.floats(1e-3, 1e3), st.floats(allow_nan=True, allow_infinity=True))
def test_damping_moves_the_right_way_and_within_bounds(lam, rho):
    s = settings("kfra", **(LM | {"damping_period": 5}))
    after = adapt(s, lam, rho)
    assert 0.05 <= after <= 30.0
    omega = 0.9**5
    if rho > 0.75:
        expected = lam * omega
    elif rho < 0.25 or math.isnan(rho):
        expected = lam / omega
    else:
        expected = lam
    assert after == pytest.approx(min(max(expected, 0.05), 30.0))


def test_reduction_ratio_is_actual_over_predicted(ops):
    case = small(ops, "binary_cross_entropy")
    method, theta, state = start(case, "kflr", weight_decay=ETA, **LM)
    lam, moved = 1.0, set()
    for k in range(1, 13):
        before = theta.copy()
        stats = method.update(theta, state, case.x, case.y, k)
        if stats["rejected"]:
            continue
        change = objective(case, theta, ETA) - objective(case, before, ETA)
        assert stats["rho"] == pytest.approx(change / stats["predicted"], rel=1e-8)
        assert state.damping == pytest.approx(adapt(settings("kfra", **LM), lam, stats["rho"]))
        moved.add(np.sign(state.damping - lam))
        lam = state.damping
    assert moved


def test_a_model_that_is_exact_lets_damping_fall_to_its_minimum(ops):
    """Squared error on a linear net: ρ ≥ 1, as the model adds λ."""
    case = small(ops, "squared_error", sizes=(4, 2), names=())
    method, theta, state = start(case, "kfra", **(LM | PLAIN), weight_decay=0.0)
    ratios = [method.update(theta, state, case.x, case.y, k)["rho"] for k in range(1, 10)]
    assert min(ratios) > 0.999
    assert state.damping == pytest.approx(max(0.9**9, 0.05))
    for k in range(10, 60):
        method.update(theta, state, case.x, case.y, k)
    assert state.damping >= 0.05


def test_period_says_when_damping_adapts(ops):
    case = small(ops, "binary_cross_entropy")
    method, theta, state = start(case, "kfra", **(LM | {"damping_period": 4}))
    ratios = [method.update(theta, state, case.x, case.y, k)["rho"] for k in range(1, 13)]
    assert [k for k, rho in enumerate(ratios, start=1) if not math.isnan(rho)] == [4, 8, 12]


@pytest.mark.parametrize("spoiled", ["raised", "nan"])
def test_step_that_raises_the_objective_is_undone_by_lm(ops, spoiled, monkeypatch):
    """The loss after the step is made to look worse than it is."""
    from gnopt.optimizers import second_order

    case = small(ops)
    method, theta, state = start(case, "kfra", **LM)
    method.update(theta, state, case.x, case.y, 1)
    before, lam, boost = theta.copy(), state.damping, state.boost
    monkeypatch.setattr(
        second_order,
        "mean_loss",
        lambda *arguments: ops.asarray(1e3 if spoiled == "raised" else np.nan),
    )
    stats = method.update(theta, state, case.x, case.y, 2)
    assert stats["rejected"] == 1
    same(theta, before)
    assert state.damping > lam
    assert state.boost > boost
    assert state.previous is None
    assert math.isnan(stats["rho"]) == (spoiled == "nan")
    monkeypatch.undo()
    raised = state.damping * state.boost
    assert method.update(theta, state, case.x, case.y, 3)["damping"] == pytest.approx(raised)


@pytest.mark.parametrize("by", ["lm", "next batch"])
def test_raised_damping_is_in_the_inverses_at_once(ops, by, monkeypatch):
    """However far away the next inversion is."""
    from gnopt.optimizers import second_order

    case = small(ops)
    method, theta, state = start(case, "kfra", **(LM | {"inverse_period": 1000}))
    k = 0
    while k < 22 or max(ages(state)) > 0:  # all inverses are new, and would stay for some updates
        k += 1
        method.update(theta, state, case.x, case.y, k)
    if by == "lm":
        monkeypatch.setattr(second_order, "mean_loss", lambda *arguments: ops.asarray(1e3))
        k += 1
        assert method.update(theta, state, case.x, case.y, k)["rejected"] == 1
        monkeypatch.undo()
    else:
        theta *= 50.0
    kept = inverses(state)
    method.update(theta, state, case.x, case.y, k + 1)
    now = inverses(state)
    assert all(a is not b for a, b in zip(now, kept, strict=True))
    method.update(theta, state, case.x, case.y, k + 2)
    later = inverses(state)
    assert all(a is b for a, b in zip(later, now, strict=True))


@pytest.mark.parametrize("cause", ["a jump", "infinity", "not a number"])
def test_a_rejected_step_leaves_no_trace_in_the_factors(ops, cause):
    """Statistics, inverses and their ages come from the weights before the step, as if it had not
    been tried.
    """
    case = small(ops, rows=40)
    method, theta, state = start(case, "kfra", rows=1000, weight_decay=0.0)
    for k in range(1, 4):
        method.update(theta, state, case.x, case.y, k)
    other = start(case, "kfra", rows=1000, weight_decay=0.0)[0]
    other_theta, other_state = copy.deepcopy((theta, state))
    with np.errstate(all="ignore"):
        theta *= {"a jump": 50.0, "infinity": 1e308, "not a number": np.nan}[cause]
        assert method.update(theta, state, case.x, case.y, 4)["rejected"] == 1
    # The same update from the anchor, with what a rejection does to damping and memory done by
    # hand.
    other_theta[...] = other_state.anchor
    other_state.boost, other_state.last = 4.0, Height()
    other_state.previous, other_state.decayed_sum, other_state.terms = None, None, 0
    other.update(other_theta, other_state, case.x, case.y, 4)
    same(theta, other_theta)
    assert len(tree_of(state.factors)) == len(tree_of(other_state.factors))
    for a, b in zip(tree_of(state.factors), tree_of(other_state.factors), strict=True):
        same(a, b)
    assert state.factors.statistics == other_state.factors.statistics == 4
    assert ages(state) == ages(other_state)


# ---- the sketch of G -----------------------------------------------------------------------------


def test_only_wide_hard_damped_full_factors_are_sketched(ops):
    from gnopt.curvature.blocks import SKETCH_WIDTH

    wide = SKETCH_WIDTH
    case = make_case(
        (3, wide, wide - 1, wide), ("tanh", "tanh"), "binary_cross_entropy", 5, soft=True, ops=ops
    )

    def ranks(name="kfra", **changes):
        return ranks_of(start(case, name, **changes)[0])

    assert ranks() == [wide // 8, 0, 0]  # the output's is diagonal
    assert ranks(sketch_g=0.25) == [wide // 4, 0, 0]
    assert ranks("kfac") == [wide // 8, 0, wide // 8]
    assert ranks_of(start(small(ops, "squared_error"), "kfra")[0]) == [0, 0, 0]
    for changes in (
        {"sketch_g": 1.0},
        {"damping_g": 0.9},
        {"damping_rule": "fixed"},
        {"damping_split": "exact"},
        {"factor_width": wide - 1},
        {"curvature_decay": 0.0},
    ):
        assert ranks(**changes) == [0, 0, 0]
    assert ranks("ekfac") == [0, 0, 0]


def test_sketched_updates_are_those_of_the_exact_inverse_where_G_has_few_eigenvalues(ops):
    """Three classes give G of rank two at most, which any sketch holds: the same run to
    rounding.
    """
    case = make_case(
        (6, 256, 256, 3), ("tanh", "tanh"), "softmax_cross_entropy", 30, soft=True, ops=ops
    )
    seen = []
    for share in (0.05, 1.0):
        method, theta, state = start(case, "kflr", sketch_g=share, curvature_decay=0.5)
        assert any(ranks_of(method)) == (share < 1.0)
        for k in range(1, 13):
            method.update(theta, state, case.x[:1], case.y[:1], k)
        seen.append(theta)
    close(seen[0], seen[1], 1e-4)  # past statistics fade out of the sketch


# ---- layers whose curvature or gradient says little ----------------------------------------------


def proposal_of(case, method, theta):
    """The gradient and the direction of the first update at θ, on the host."""
    method.attempt(theta, method.init(theta), case.x, case.y, 1)
    size = (case.net.size,)
    return (
        host(method.workspace.take("gradient", size)),
        host(method.workspace.take("direction", size)),
    )


@pytest.mark.parametrize("name", DRIVEN)
@pytest.mark.parametrize("eta", [1e-4, 10.0])
def test_weight_decay_spares_layers_that_hardly_any_gradient_reaches(ops, name, eta):
    case = small(ops)
    case.net.views(case.theta)[1][:, :-1] *= 1e-5
    method, theta, _ = start(case, name, **PLAIN | {"weight_decay": eta})
    g, _ = proposal_of(case, method, theta)
    truth = Truth(case).gradient()
    close(g, truth + decay(case.net, truth, host(case.theta), eta), 1e-12)
    first, _, last = (
        np.linalg.norm(whole - plain) / np.linalg.norm(W_l[:, :-1])
        for whole, plain, W_l in zip(
            case.net.views(g), case.net.views(truth), case.net.views(host(case.theta)), strict=True
        )
    )
    assert first < 0.1 * eta
    assert last == pytest.approx(eta)


def test_model_damping_follows_the_curvature_of_recent_batches(ops):
    """κ is at most the highest curvature along the directions: of this batch where it is all of the
    data, else of recent batches too, so that one that is fitted already leads to no long step.
    """
    case = small(ops)

    def proposal(curvature):
        gram = np.diag([2.0, 3.0])
        return StepProposal(1.0, None, ["a", "b"], gram=gram, curvature=curvature * gram)

    whole, _, state = start(case, "kfra", model_damping=0.03)
    for curvature, expected in ((5.0, 0.03), (1e-9, 1e-9), (0.0, 0.03)):
        found = whole.model_damping(state, proposal(curvature), len(case.x))
        assert found == pytest.approx(expected)
    part, _, state = start(case, "kfra", rows=1000, model_damping=0.03)
    for curvature, expected in ((1e-3, 1e-3), (1e-9, 9e-4), (1e-9, 8.1e-4), (5.0, 0.03)):
        found = part.model_damping(state, proposal(curvature), len(case.x))
        assert found == pytest.approx(expected)
    state.boost = 4.0
    assert part.model_damping(state, proposal(5.0), len(case.x)) == pytest.approx(0.12)


@pytest.mark.parametrize("name", DRIVEN)
def test_no_layer_moves_far_beyond_its_weights(ops, name):
    """The first layer's gradient and curvature vanish with the second one's weights: without a
    bound its direction is g / TINY.
    """
    case = small(ops)
    W = case.net.views(case.theta)
    W[1][:, :-1] *= 1e-9
    method, theta, _ = start(case, name, **PLAIN)
    _, D = proposal_of(case, method, theta)
    for D_l, W_l in zip(case.net.views(D), case.net.views(host(theta)), strict=True):
        limit = 10.0 * max(np.linalg.norm(W_l[:, :-1]), 0.1 * math.sqrt(len(W_l)))
        assert 0.0 < np.linalg.norm(D_l) <= limit * (1 + 1e-9)


HOSTILE = {
    "inputs that are all zero": lambda x: x * 0.0,
    "inputs far too large": lambda x: x * 1e12,
    "one input far too large": lambda x: x * np.array([1e15] + [1.0] * (x.shape[1] - 1)),
    "a time stamp": lambda x: x + np.array([1.6e9] + [0.0] * (x.shape[1] - 1)),
    "inputs far too small": lambda x: x * 1e-12,
    "one and the same row": lambda x: x * 0.0 + x[:1],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus"])
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", DRIVEN)
def test_hostile_inputs_are_trained_on(name, hostile, activation, dtype):
    case = make_case((4, 6, 6, 3), (activation,) * 2, "softmax_cross_entropy", 30, dtype=dtype)
    x = HOSTILE[hostile](host(case.x).astype(np.float64)).astype(dtype)
    case = Case(case.net, case.names, case.loss_name, case.theta, x, case.y)
    method, theta, state = start(case, name)
    with np.errstate(all="ignore"):
        log = [method.update(theta, state, case.x, case.y, k) for k in range(1, 13)]
    assert all(np.isfinite([row["loss"], row["grad_norm"], row["step_norm"]]).all() for row in log)
    assert np.isfinite(theta).all()
    assert log[-1]["loss"] <= log[0]["loss"] * (1.0 + 1e-6)


@pytest.mark.parametrize("name", DRIVEN)
@pytest.mark.parametrize("value", [0.0, -3.0])
def test_layers_of_dead_units_do_not_stop_a_run(ops, name, value):
    case = small(ops, names=("relu", "relu"))
    W = case.net.views(case.theta)
    W[0][:, :-1], W[0][:, -1] = 0.0, value  # no unit ever gives more than 0
    method, theta, state = start(case, name)
    log = [method.update(theta, state, case.x, case.y, k) for k in range(1, 8)]
    assert all(math.isfinite(row["step_norm"]) for row in log)
    assert log[-1]["loss"] < log[0]["loss"]  # the output's biases still learn


@pytest.mark.parametrize("name", DRIVEN)
def test_gradients_whose_squares_overflow_are_followed(name):
    case = make_case((4, 5, 3), ("relu",), "squared_error", 20, dtype="float32")
    case = Case(case.net, case.names, case.loss_name, case.theta, case.x * 1e13, case.y)
    method, theta, state = start(case, name)
    with np.errstate(all="ignore"):
        log = [method.update(theta, state, case.x, case.y, k) for k in range(1, 25)]
    assert all(math.isfinite(row["grad_norm"]) for row in log)
    assert np.isfinite(theta).all()
    assert log[-1]["loss"] < 1e-3 * log[0]["loss"]


# ---- batch growth --------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=30),
    st.integers(1, 500),
    st.integers(1, 5000),
    st.floats(1.0, 8.0),
    st.floats(0.0, 0.5),
)
def test_batch_never_shrinks_and_stays_within_its_limits(slopes, base, available, limit, threshold):
    s = settings("kfra", growth_limit=limit, growth_noise=threshold, growth_rate=1.3)
    state, sizes = GrowthState(), []
    for slope in slopes:
        sizes.append(grown(min(base * state.multiple, base * limit), available))
        state.gain = 1.0
        state.observe(s, slope, available)
    assert sizes == sorted(sizes)
    assert sizes[0] == (available if 2 * base > available else base)
    assert max(sizes) <= available
    assert max(sizes) <= round(base * limit) or max(sizes) == available
    assert all(size == available or 2 * size <= available for size in sizes)


def test_batch_grows_with_noise_alone():
    s = settings("kfra", growth_limit=4.0, growth_noise=0.2, growth_rate=1.5)
    for slope, grows in ((0.9, True), (0.0, False), (-0.5, False), (0.1, False)):
        state = GrowthState()
        for _ in range(60):
            state.gain = 1.0
            state.observe(s, slope, 10_000)
        assert (state.multiple == 10_000.0) == grows
        assert (state.multiple == 1.0) != grows


@pytest.mark.parametrize("name", DRIVEN)
def test_batches_start_where_more_rows_are_nearly_free(ops, name):
    case = small(ops)
    method, _, state = start(case, name, rows=100_000)
    first = method.batch_size(state, 1)
    assert 1 < first <= 1000
    assert method.batch_size(state, 5000) == 5000
    assert method.batch_size(state, 60_000) == 100_000  # more than half of the data is all of it
    state.growth.multiple = 1e6
    assert method.batch_size(state, 1) == method.largest_batch(1) >= 4 * first
    fixed, _, state = start(case, name, rows=100_000, growth_limit=1.0)
    assert fixed.batch_size(state, 1) == fixed.largest_batch(1) == 1
    assert fixed.batch_size(state, 60_000) == 60_000


def test_growth_takes_the_slope_along_the_last_step(ops):
    case = small(ops, rows=60)
    method, theta, state = start(
        case, "kfra", directions=["previous"], rejection=0.0, weight_decay=ETA
    )
    noise = gain = delta = 0.0
    for k in range(1, 6):
        rows = np.random.default_rng(k).integers(0, 60, 20)
        batch = Case(case.net, case.names, case.loss_name, theta.copy(), case.x[rows], case.y[rows])
        g = Truth(batch).gradient()
        g += decay(case.net, g, host(theta), ETA)
        if k > 1:
            noise += 0.1 * (min(max(g @ delta / gain, -1.0), 2.0) - noise)
        before = host(theta.copy())
        stats = method.update(theta, state, case.x[rows], case.y[rows], k)
        delta = host(theta) - before
        gain = -(g @ delta)
        assert stats["batch_noise"] == pytest.approx(noise, rel=1e-7, abs=1e-12)
