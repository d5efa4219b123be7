"""Levenberg-Marquardt: the step against dense derivatives, λ, the rows, the end of a run."""

import itertools
from math import nan

import h5py
import numpy as np
import pytest
from reference import Case, Truth, close, host, make_case, network, optimizer, same, settings

from gnopt.aims import PREDICTION
from gnopt.config import load
from gnopt.curvature.exact import root_jacobian
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import get_loss
from gnopt.engine.weighted import Weighted
from gnopt.errors import ConfigError, Diverged
from gnopt.optimizers import USUAL, choose, levenberg_marquardt, make
from gnopt.optimizers.base import Problem
from gnopt.optimizers.dense import Batch
from gnopt.optimizers.timing import NullTimer
from gnopt.toml import to_toml
from gnopt.training.setup import build
from gnopt.weighting import WeightedTargets

NAME, ETA = "levenberg_marquardt", 0.02


def penalised(net, scale=1.0):
    """1 for weights, 0 for biases, 1 / scale² for the weights of the last layer."""
    diagonal = np.ones(net.size)
    diagonal[net.offsets[-2] :] = scale**-2
    for W in net.views(diagonal):
        W[:, -1] = 0.0
    return diagonal


def damped(truth, lam, eta=0.0, scale=1.0):
    """λ M = E + W, from the mean squares of columns and inputs."""
    net = truth.case.net
    s, a = (
        [np.sqrt(np.diag(matrix)) for matrix in matrices]
        for matrices in (truth.kflr(), [truth.input_factor(l + 1) for l in range(net.layers)])
    )
    floor = 1e-6 * max(part.max() for part in (*s, *a))
    mean = sum((x**2).sum() * (y**2).sum() for x, y in zip(s, a, strict=True)) / net.size
    M = np.zeros(net.size)
    for l, out in enumerate(net.views(M)):
        e, f = (mean**0.25 * (part[l] + floor) for part in (s, a))
        q = (eta / lam / (scale**2 if l == net.layers - 1 else 1.0)) ** 0.5
        c = (e.mean() / f.mean()) ** 0.5
        unit = np.append(np.ones(len(f) - 1), 0.0)
        out[...] = np.outer(e + q * c, f + q / c * unit)
    return lam * M


def dense_step(truth, theta, total, W):
    """d and a of (H + E + W), by dense derivatives; ``total`` is E + W."""
    C = truth.gauss_newton() + np.diag(total)
    d = -np.linalg.solve(C, truth.gradient() + W * theta)
    bend = np.einsum("nkpq,p,q->nk", truth.T, d, d)
    pulled = np.einsum("nkj,nj->nk", truth.output_gn, bend)
    return d, -np.linalg.solve(C, np.einsum("nkp,nk->p", truth.J, pulled) / len(bend))


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_the_step_is_that_of_the_dense_system(ops, loss_name, form):
    """(H + W + E) d = −∇, a from the second derivative, δ = d + a/2 where a is small."""
    case = make_case((4, 3, 3), ("tanh",), loss_name, 10, soft=True, ops=ops)
    case.theta[...] *= 0.5
    values = settings(NAME, damping=5.0, weight_decay=ETA, form=form)
    method = optimizer(case, NAME, values, output_scale=3.0)
    theta, truth = case.theta.copy(), Truth(case)
    stats = method.update(theta, method.init(theta), case.x, case.y, 1)
    assert stats["tries"] == 1
    before, after, W = host(case.theta), host(theta), ETA * penalised(case.net, 3.0)
    total = damped(truth, 5.0, ETA, 3.0)
    E = total - W
    assert (E > 0.0).all()
    d, a = dense_step(truth, before, total, W)
    bend = 2.0 * np.sqrt((a * E) @ a / ((d * E) @ d))
    assert bend < 0.75
    close(after - before, d + 0.5 * a, 1e-7)
    assert stats["bend"] == pytest.approx(bend, rel=1e-6, abs=1e-9)
    g = truth.gradient() + W * before
    assert stats["grad_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-8)
    B = truth.gauss_newton() + np.diag(W)
    assert stats["predicted"] == pytest.approx(g @ d + 0.5 * d @ B @ d, rel=1e-7)
    moved = Truth(Case(case.net, case.names, case.loss_name, theta, case.x, case.y))
    change = moved.values.mean() - truth.values.mean() + 0.5 * (after**2 - before**2) @ W
    assert stats["rho"] == pytest.approx(change / stats["predicted"], rel=1e-6)


def test_a_path_that_bends_too_much_is_left_at_d():
    case = make_case((4, 3, 3), ("tanh",), "squared_error", 10, soft=True)
    truth, followed = Truth(case), []
    W = np.zeros(case.net.size)
    for lam in (1e-3, 1e-1, 10.0):
        theta = case.theta.copy()
        method = optimizer(case, NAME, settings(NAME, damping=lam))
        stats = method.update(theta, method.init(theta), case.x, case.y, 1)
        if stats["tries"] == 1:
            d, a = dense_step(truth, case.theta, damped(truth, lam), W)
            followed.append(stats["bend"] <= 0.75)
            close(theta - case.theta, d + 0.5 * a * followed[-1], 1e-6)
    assert True in followed
    assert False in followed
    plain = optimizer(case, NAME, settings(NAME, damping=10.0, acceleration=False))
    theta = case.theta.copy()
    assert plain.update(theta, plain.init(theta), case.x, case.y, 1)["bend"] == 0.0
    close(theta - case.theta, d, 1e-6)


@pytest.mark.parametrize("eta", [0.0, ETA])
def test_both_forms_take_the_same_step(ops, loss_name, eta):
    """Also where the rows of J depend on one another; the Gram matrix needs no J."""
    case = make_case((3, 6, 5, 3), ("tanh", "softplus"), loss_name, 14, soft=True, ops=ops)
    if not case.loss.has_root_residual():
        with pytest.raises(ConfigError, match=r"optimizer.form = 'dual'.*expected primal"):
            optimizer(case, NAME, settings(NAME, form="dual"))
        return
    found = []
    for form in ("primal", "dual"):
        method = optimizer(case, NAME, settings(NAME, form=form, weight_decay=eta), memory=1 << 30)
        batch = Batch(method.problem, case.theta, case.x, case.y, method.workspace, NullTimer())
        loss, sizes = method.system.linearise(batch)
        excess = method.system.damp(1e-3, eta, sizes)
        d = method.system.direction()
        parts = [loss, sizes, excess, method.system.slope(), d, method.system.acceleration(d)]
        found.append([host(part) for part in parts])
    for one, other in zip(*found, strict=True):
        close(one, other, 1e-10)
    root = case.loss.gn_root(ops, batch.tape.output, case.y)
    J = host(root_jacobian(case.net, case.W, batch.tape, root)).T
    K = J / host(method.system.M) @ J.T / len(case.x)
    close(host(method.system.K), K + 1e-3 * np.eye(len(K)), 1e-13)


@pytest.mark.parametrize(
    ("sizes", "names"), [((3, 5, 3, 7), ("tanh", "relu")), ((3, 4, 2), ("gelu",))]
)
@pytest.mark.parametrize("eta", [0.0, ETA])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_system_of_the_hidden_weights_gives_the_same_step(ops, sizes, names, eta, weighted):
    """With more and with fewer outputs than units before them; γ of the evidence too."""
    case = make_case(sizes, names, "squared_error", 30, ops=ops)
    found = []
    for form in ("primal", "hidden"):
        loss, y = case.loss, case.y
        if weighted:
            own = np.random.default_rng(1).uniform(0.5, 2.0, len(case.x))
            loss = Weighted(loss, "float64")
            y = loss.convert_targets(WeightedTargets(host(y), own, own)).on_device(ops.asarray)
        problem = Problem(case.net, loss, 0, len(case.x), memory=1 << 30, output_scale=3.0)
        method = make(NAME, problem, settings(NAME, form=form, weight_decay=eta))
        batch = Batch(problem, case.theta, case.x, y, method.workspace, NullTimer())
        loss, sizes_of = method.system.linearise(batch)
        excess = method.system.damp(1e-3, eta, sizes_of)
        d = method.system.direction()
        a = method.system.acceleration(d)
        effective = method.system.effective(0.1, sizes_of)
        parts = [loss, sizes_of, excess, method.system.slope(), d, a, effective]
        found.append([host(part) for part in parts])
    for one, other in zip(*found, strict=True):
        close(other, one, 1e-8)


@pytest.mark.parametrize(
    ("form", "loss"),
    [
        ("primal", "binary_cross_entropy"),
        ("dual", "binary_cross_entropy"),
        ("hidden", "squared_error"),
    ],
)
def test_a_system_in_chunks_and_blocks_is_the_same(ops, form, loss):
    case = make_case((3, 5, 4, 2), ("tanh", "relu"), loss, 150, ops=ops)
    reached = []
    for memory in (1 << 30, 1):
        method = optimizer(case, NAME, settings(NAME, form=form, weight_decay=ETA), memory=memory)
        theta = case.theta.copy()
        state = method.init(theta)
        for k in (1, 2):
            method.update(theta, state, case.x, case.y, k)
        reached.append(host(theta))
    close(reached[1], reached[0], 1e-9)


# ---- λ -------------------------------------------------------------------------------------------


def test_the_objective_falls_with_every_update(ops, loss_name):
    case = make_case((4, 5, 3), ("tanh",), loss_name, 20, soft=True, ops=ops)
    method, theta = optimizer(case, NAME, settings(NAME, damping=1e-6)), case.theta.copy()
    state, rows = method.init(theta), []
    for k in range(1, 12):
        before, lam = theta.copy(), state.damping
        rows.append(method.update(theta, state, case.x, case.y, k))
        assert rows[-1]["damping"] >= lam
        if rows[-1]["rejected"]:
            same(theta, before)
        else:  # Nielsen's rule
            rho = min(rows[-1]["rho"], 1.0)
            factor = max(1.0 / 3.0, 1.0 - (2.0 * rho - 1.0) ** 3)
            assert state.damping == pytest.approx(max(rows[-1]["damping"] * factor, 1e-15))
            assert state.growth == 2.0
    losses = [row["loss"] for row in rows]
    assert all(b < a for a, b in itertools.pairwise(losses) if a > 1e-13)
    assert any(row["tries"] > 1 for row in rows) or losses[-1] < 0.5 * losses[0]


def test_damping_is_by_the_largest_sizes_so_far(ops):
    case = make_case((4, 3, 3), ("tanh",), "squared_error", 10, soft=True, ops=ops)
    method, theta = optimizer(case, NAME), case.theta.copy()
    state, largest = method.init(theta), 0.0
    for k in range(1, 6):
        truth = Truth(Case(case.net, case.names, case.loss_name, theta.copy(), case.x, case.y))
        parts = []
        for l, G in enumerate(truth.kflr(), start=1):
            parts += [np.diag(G), np.diag(truth.input_factor(l))]
        largest = np.maximum(largest, np.concatenate(parts))
        method.update(theta, state, case.x, case.y, k)
        close(state.largest, largest, 1e-9)


def test_where_no_step_helps_the_weights_stay_and_the_run_ends(ops, monkeypatch):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 20, ops=ops)
    method, theta = optimizer(case, NAME), case.theta.copy()
    state = method.init(theta)
    assert method.finished(state) == ""
    monkeypatch.setattr(levenberg_marquardt, "mean_loss", lambda *arguments: ops.asarray(nan))
    stats = method.update(theta, state, case.x, case.y, 1)
    same(theta, case.theta)
    assert (stats["rejected"], stats["step_norm"]) == (1.0, 0.0)
    assert 5 < stats["tries"] < 12  # ν doubles
    assert "no step lowers the objective" in method.finished(state)
    assert method.update(theta, state, case.x, case.y, 2)["tries"] == 1


def test_a_factorisation_that_fails_raises_the_damping(ops, monkeypatch):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 20, ops=ops)
    method, theta = optimizer(case, NAME, settings(NAME, damping=1e-15)), case.theta.copy()
    state, damp, seen = method.init(theta), method.system.damp, []

    def failing(lam, eta, largest):
        seen.append(lam)
        if lam < 1e-12:
            raise Diverged("not positive definite")
        return damp(lam, eta, largest)

    monkeypatch.setattr(method.system, "damp", failing)
    stats = method.update(theta, state, case.x, case.y, 1)
    np.testing.assert_allclose(seen[:4], [1e-15, 1e-14, 1e-13, 1e-12])
    assert stats["tries"] == len(seen) >= 4
    assert np.isfinite(host(theta)).all()


def test_a_problem_that_is_solved_is_converged(ops):
    """A linear fit of noisy targets: two updates solve it, ten more show that."""
    case = make_case((3, 2), (), "squared_error", 30, ops=ops)
    method, theta = optimizer(case, NAME, settings(NAME, damping=1e-9)), case.theta.copy()
    state, k = method.init(theta), 0
    while not method.finished(state):
        k += 1
        method.update(theta, state, case.x, case.y, k)
    assert 10 < k < 15
    assert "fallen by less than 1e-09" in method.finished(state)
    A = np.hstack([host(case.x), np.ones((30, 1))])
    expected = np.linalg.lstsq(A, host(case.y), rcond=None)[0].T
    close(case.net.views(theta)[0], expected, 1e-9)


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(sizes, available, **values):
    net = network(sizes, ("tanh",) * (len(sizes) - 2))
    problem = Problem(net, get_loss("squared_error"), seed=0, rows=available)
    return make(NAME, problem, settings(NAME, **values))


def test_all_rows_or_as_many_as_an_update_can_afford():
    assert rows_of((1, 20, 1), 20_000).largest_batch(1000) == 20_000
    assert rows_of((1, 20, 1), 20_000, rows=500).first_batch(1000) == 500
    assert rows_of((1, 20, 1), 300, rows=500).first_batch(1000) == 300
    large = rows_of((4, 60, 60, 1), 200_000, form="primal")
    P = large.problem.net.size
    assert large.cost(large.rows).flops == pytest.approx(large.cost(16 * P).flops)
    middle = rows_of((4, 20, 20, 1), 200_000)
    assert 16 * middle.problem.net.size < middle.rows < 200_000
    assert middle.cost(middle.rows).flops == pytest.approx(3e10, rel=0.01)
    assert (middle.place(5000), middle.keeps_rows) == (0, True)


def test_many_outputs_take_the_system_of_the_hidden_weights():
    """Its work and memory hardly grow with the outputs; a loss of another curvature has no such."""
    some, many = (rows_of((6, 16, 16, K), 200, acceleration=False) for K in (20, 2000))
    assert "384 weights of the hidden layers" in many.notes(200)[1]
    assert "see 16 combinations of the 2,000 outputs" in many.notes(200)[1]
    assert many.cost(200).temporaries == some.cost(200).temporaries < 8 * 10 * 384**2
    assert many.cost(200).phases["inverses"] == some.cost(200).phases["inverses"]
    with pytest.raises(ConfigError, match=r"'hidden': it needs hidden layers.*primal or dual"):
        rows_of((6, 16, 1), 200, form="hidden")


def test_notes_say_which_rows_and_which_precision():
    every, form = rows_of((1, 20, 1), 20_000).notes(1000)
    assert "all 20,000 training rows" in every
    assert "the system of all 61 weights" in form
    (some, _) = rows_of((1, 20, 1), 20_000, rows=500).notes(1000)
    assert "the same 500 of 20,000" in some
    net = network((1, 20, 1), ("tanh",), dtype="float32")
    single = make(NAME, Problem(net, get_loss("squared_error"), 0, 9), settings(NAME))
    assert 'training.dtype = "float64"' in single.notes(1000)[-1]


def test_its_precision_is_float64_unless_told(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[data]\nfile = "x.h5"\n[network]\nhidden = [3]\nloss = "squared_error"\n')
    asked = ["optimizer.method=levenberg_marquardt"]
    assert load(path).training.dtype == "float32"
    assert load(path, asked).training.dtype == "float64"
    assert load(path, [*asked, "training.dtype=float32"]).training.dtype == "float32"


# ---- how far it gets -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smooth_function_is_fitted_far_below_single_precision(seed):
    """sin(10πx)/(10πx) by 61 weights from a thousand rows."""
    draw = np.random.default_rng(5)
    x = draw.uniform(-1.0, 1.0, (1000, 1))
    net = network((1, 20, 1), ("tanh",))
    theta = initialize(net.sizes, "glorot", np.random.default_rng(seed), net.dtype)
    method = make(NAME, Problem(net, get_loss("squared_error"), 0, 1000), settings(NAME))
    state = method.init(theta)
    for k in range(1, 251):
        stats = method.update(theta, state, x, np.sinc(10.0 * x), k)
    assert 2.0 * stats["loss"] < 1e-6


# ---- evidence ------------------------------------------------------------------------------------


def test_weight_decay_follows_the_exact_evidence(ops, loss_name, monkeypatch):
    """MacKay's fixed point with γ and σ² of the dense system at the weights before the step."""
    monkeypatch.setattr(levenberg_marquardt, "EVIDENCE_FROM", 1)
    case = make_case((4, 3, 3), ("tanh",), loss_name, 10, soft=True, ops=ops)
    method = optimizer(case, NAME, settings(NAME, weight_decay="evidence", form="primal"))
    theta = case.theta.copy()
    state = method.init(theta)
    first = method.update(theta, state, case.x, case.y, 1)
    if not case.loss.likelihood:
        assert first["weight_decay"] == 0.0
        return
    before, eta = theta.copy(), state.eta
    assert eta == first["weight_decay"] == 1e-3
    row = method.update(theta, state, case.x, case.y, 2)
    truth = Truth(Case(case.net, case.names, case.loss_name, before, case.x, case.y))
    W, w = penalised(case.net), host(before)
    kept = np.linalg.inv(truth.gauss_newton() + np.diag(eta * W + damped(truth, 1e-9)))
    gamma = W.sum() - eta * W @ np.diag(kept)
    assert row["effective"] == pytest.approx(gamma, rel=1e-3)
    numbers, noise = 10.0 * case.net.sizes[-1], 1.0
    if case.loss.gaussian:
        noise = 20.0 * truth.values.mean() / max(numbers - gamma, 0.05 * numbers)
    assert row["noise"] == pytest.approx(noise**0.5, rel=2e-3)
    assert state.eta == pytest.approx(noise * gamma / (10.0 * (W * w) @ w), rel=3e-3)


def test_noiseless_targets_leave_next_to_no_weight_decay():
    """So that the default aim does not spoil them."""
    draw = np.random.default_rng(5)
    x = draw.uniform(-1.0, 1.0, (300, 1))
    net = network((1, 8, 1), ("tanh",))
    theta = initialize(net.sizes, "glorot", np.random.default_rng(0), net.dtype)
    problem = Problem(net, get_loss("squared_error"), 0, 300, aim=PREDICTION)
    method = make(NAME, problem, settings(NAME))
    state = method.init(theta)
    assert state.average is None
    for k in range(1, 121):
        stats = method.update(theta, state, x, np.sin(3.0 * x), k)
    assert stats["loss"] < 1e-9
    assert stats["weight_decay"] < 1e-9


def test_both_forms_see_the_same_evidence(ops):
    case = make_case((3, 4, 2), ("tanh",), "squared_error", 20, ops=ops)
    found = []
    for form in ("primal", "dual"):
        method = optimizer(case, NAME, settings(NAME, form=form))
        batch = Batch(method.problem, case.theta, case.x, case.y, method.workspace, NullTimer())
        _, sizes = method.system.linearise(batch)
        found.append([float(method.system.effective(eta, sizes)) for eta in (1e-1, 1e-2, 1e-3)])
    assert found[1] == pytest.approx(found[0], rel=1e-3)


# ---- method = "auto" -----------------------------------------------------------------------------


def choice(sizes, rows, seconds=0.0):
    net = network(sizes, ("tanh",) * (len(sizes) - 2))
    problem = Problem(net, get_loss("squared_error"), seed=0, rows=rows)
    return choose(problem, seconds)


def test_auto_takes_it_where_an_update_is_affordable():
    name, why = choice((4, 20, 1), 2000)
    assert name == NAME
    assert "121 weights on 2,000 rows" in why
    assert choice((4, 300, 300, 1), 1000)[0] == NAME  # 1,000 targets, whatever the weights
    name, why = choice((784, 100, 10), 10_000)
    assert name == USUAL
    assert f"not {NAME}" in why
    assert choice((4, 20, 20, 1), 50_000, seconds=600)[0] == NAME
    name, why = choice((4, 20, 20, 1), 50_000, seconds=1)
    assert (name, "do not fit into 1 s" in why) == (USUAL, True)


def test_a_configuration_may_leave_the_method_open(tmp_path):
    draw = np.random.default_rng(0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = draw.standard_normal((200, 3))
        file["y"] = np.sin(file["x"][:, :1])
    path = tmp_path / "c.toml"
    path.write_text(
        '[data]\nfile = "x.h5"\ntargets = "y"\n[network]\nhidden = [4]\nloss = "squared_error"\n'
        '[optimizer]\nmethod = "auto"\naveraging = 0.5\n'
    )
    experiment = build(load(path))
    with experiment.data:
        config = experiment.config
        assert (config.method, experiment.net.dtype) == (NAME, np.float64)
        assert config.optimizer.averaging == 0.5
        assert "21 weights on 180 rows" in experiment.why_method
        assert load_text(tmp_path, to_toml(config.values())).values() == config.values()
    other = build(load(path, ["training.dtype=float32", "network.hidden=[4000]"]))
    with other.data:
        assert (other.config.method, other.net.dtype) == (NAME, np.float32)
    with pytest.raises(ConfigError, match=r"damping.*not of auto"):
        load(path, ["optimizer.damping=1"])


def load_text(folder, text):
    (folder / "again.toml").write_text(text)
    return load(folder / "again.toml")
