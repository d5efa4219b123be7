"""Weight decay by the evidence, against dense linear algebra and against Bayesian linear
regression, whose evidence is known in closed form.
"""

from dataclasses import replace

import numpy as np
import pytest
from reference import host, make_case, optimizer, settings
from scipy.optimize import minimize_scalar

from gnopt.aims import PREDICTION
from gnopt.curvature import all_curvatures
from gnopt.curvature.factors import Blocks, Diagonal, Full, LowRank

SQUARED = "squared_error"


def second_moment(rows=40, inputs=5, seed=0):
    """The inputs with a 1 as the last one, and their mean square."""
    x = np.random.default_rng(seed).standard_normal((rows, inputs)) * 2.0 + 1.0
    abar = np.column_stack([x, np.ones(rows)])
    return x, abar, abar.T @ abar / rows


def test_inputs_without_their_bias_have_the_covariance(ops):
    x, abar, A = second_moment()
    expected = np.cov(x.T, bias=True)
    for factor in (Full(ops.asarray(A)), LowRank(ops.asarray(abar / len(abar) ** 0.5))):
        found = factor.without_bias(ops)
        np.testing.assert_allclose(host(found.dense(ops)), expected, atol=1e-12)
        values = host(found.eigenvalues(ops))
        np.testing.assert_allclose(np.sort(values)[-5:], np.linalg.eigvalsh(expected), atol=1e-12)
    diagonal = Diagonal(ops.asarray(np.diag(A).copy())).without_bias(ops)
    np.testing.assert_allclose(host(diagonal.diagonal), np.diag(A)[:-1])


def test_of_diagonal_blocks_the_last_knows_the_means(ops):
    x, _, A = second_moment(inputs=6)  # 7 with the bias: blocks of 4 and 3, the last one padded
    stacked = np.zeros((2, 4, 4))
    stacked[0], stacked[1, :3, :3] = A[:4, :4], A[4:, 4:]
    found = Blocks(ops.asarray(stacked), 7).without_bias(ops)
    expected = np.zeros((6, 6))
    expected[:4, :4], expected[4:, 4:] = A[:4, :4], np.cov(x[:, 4:].T, bias=True)
    np.testing.assert_allclose(host(found.dense(ops)), expected, atol=1e-12)
    values = np.sort(host(found.eigenvalues(ops)))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(expected), atol=1e-12)


@pytest.mark.parametrize("name", list(all_curvatures()))
def test_evidence_and_weights_in_use_against_dense_matrices(ops, name):
    """Σ log(1 + t/η) = log det(I + H/η) and γ = tr H (H + η)⁻¹, with H the layers' blocks."""
    case = make_case((4, 5, 3), ("tanh",), SQUARED, 30, ops=ops)
    method = optimizer(case, name, settings(name, weight_decay="evidence"), aim=PREDICTION)
    theta = case.theta.copy()
    state = method.init(theta)
    for k in range(1, 11):
        before = host(theta.copy())
        stats = method.update(theta, state, case.x, case.y, k)
    eta, noise = stats["weight_decay"], stats["noise"] ** 2
    gamma = volume = 0.0
    for plan, block in zip(method.preconditioner.plans, state.factors.blocks, strict=True):
        if block.pair() is None:
            t = host(block.diagonal())[:, :-1].ravel()
        else:
            A, G = (np.asarray(host(factor.dense(plan.ops))) for factor in block.pair())
            H = np.kron(A[:-1, :-1] - np.outer(A[:-1, -1], A[:-1, -1]), G)
            t = np.linalg.eigvalsh(H)
        gamma += (t / (t + eta)).sum()
        volume += np.log1p(t / eta).sum()
    assert stats["effective"] == pytest.approx(gamma, rel=1e-6)
    N, K = case.y.shape
    ww = sum(float((W[:, :-1] ** 2).sum()) for W in case.net.views(before))
    ell = -(stats["loss"] + 0.5 * eta * ww) / noise - 0.5 * volume / N
    ell -= 0.5 * K * np.log(2.0 * np.pi * noise)
    assert stats["log_evidence"] == pytest.approx(ell, rel=1e-6)
    assert state.eta != eta


def regression(rows=200, inputs=30, noise=1.0, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, inputs))
    x -= x.mean(axis=0)
    y = x @ (0.15 * rng.standard_normal(inputs)) + noise * rng.standard_normal(rows)
    return x, (y - y.mean())[:, None]


def best_decay(x, y):
    """The η at which the marginal likelihood of Bayesian linear regression is highest."""
    N, S = len(x), x.T @ x / len(x)

    def negative(log_eta):
        eta = np.exp(log_eta)
        w = np.linalg.solve(S + eta * np.eye(len(S)), x.T @ y / N)
        t = np.linalg.eigvalsh(S)
        fit = float(((y - x @ w) ** 2).mean() + eta * float((w**2).sum()))
        # With σ² at its best value, the fit counts as N/2 log of itself.
        return 0.5 * N * np.log(fit) + 0.5 * np.log1p(t / eta).sum()

    return float(np.exp(minimize_scalar(negative, bounds=(-12.0, 0.0), method="bounded").x))


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_decay_comes_near_the_highest_evidence_of_a_linear_regression(ops, noise):
    x, y = regression(noise=noise)
    case = make_case((30, 1), (), SQUARED, 200, ops=ops)
    case = replace(case, x=ops.asarray(x), y=ops.asarray(y))
    unit = 0.5 * float(y.var())
    facts = {"aim": PREDICTION, "unit": unit}
    method = optimizer(case, "kfra", settings("kfra", weight_decay="evidence"), **facts)
    theta = case.theta.copy()
    state = method.init(theta)
    etas = [method.update(theta, state, case.x, case.y, k)["weight_decay"] for k in range(1, 401)]
    assert np.median(etas[200:]) == pytest.approx(best_decay(x, y), rel=0.6)
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    unbiased = float((residuals**2).sum()) / (len(x) - x.shape[1])
    assert state.evidence.noise == pytest.approx(unbiased, rel=0.15)


def test_a_number_stays_and_is_in_units_of_the_loss(ops):
    case = make_case((4, 5, 3), ("tanh",), SQUARED, 30, ops=ops)
    facts = {"aim": PREDICTION, "unit": 50.0}
    method = optimizer(case, "kfra", settings("kfra", weight_decay=1e-3), **facts)
    theta = case.theta.copy()
    state = method.init(theta)
    rows = [method.update(theta, state, case.x, case.y, k) for k in range(1, 31)]
    assert {row["weight_decay"] for row in rows} == {0.05}
    seen = [row["log_evidence"] for row in rows if row["log_evidence"] == row["log_evidence"]]
    assert len(seen) >= 2
    assert method.log_evidence(theta, state, rows[-1]["loss"]) is None  # it chooses nothing


def test_the_last_layer_is_penalised_in_units_of_the_targets(ops):
    """∇ of ½ η (Σ_l ‖W_l‖² + ‖W_L‖² / s²), biases aside."""
    case = make_case((4, 5, 3), ("tanh",), SQUARED, 30, ops=ops)
    pieces = {}
    for scale in (1.0, 20.0):
        method = optimizer(case, "kfra", settings("kfra", weight_decay=0.01), output_scale=scale)
        g = ops.xp.ones_like(case.theta)
        norms = ops.squared_norms(case.theta, case.net.offsets)
        method.decay(case.theta, norms, g, 1.0, 0.01)
        pieces[scale] = [host(p) - 1.0 for p in case.net.views(g)]
    for l, W in enumerate(case.net.views(host(case.theta))):
        share = 1.0 if l == 0 else 20.0**-2
        np.testing.assert_allclose(pieces[1.0][l][:, :-1], 0.01 * W[:, :-1], rtol=1e-6)
        np.testing.assert_allclose(pieces[20.0][l][:, :-1], share * 0.01 * W[:, :-1], rtol=1e-6)
        assert not pieces[20.0][l][:, -1].any()


def test_a_loss_that_is_no_likelihood_has_no_evidence(ops):
    case = make_case((4, 5, 3), ("tanh",), "siblings.losses.log_cosh:LogCosh", 30, ops=ops)
    method = optimizer(case, "kfra", settings("kfra", weight_decay="evidence"), aim=PREDICTION)
    theta = case.theta.copy()
    state = method.init(theta)
    assert state.evidence is None
    assert method.update(theta, state, case.x, case.y, 1)["weight_decay"] == 1e-3
