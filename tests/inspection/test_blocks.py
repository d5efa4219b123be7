"""Blocks, spectra and agreement against dense matrices."""

import numpy as np
import pytest
from inspection_tools import factors_of, look_at
from reference import OPS, close, distance, make_case, settings, standard, vec

from gnopt.curvature.damping import Damping
from gnopt.inspection import agreement
from gnopt.inspection.spectrum import of_values, product_values, spectrum

NAMES = ("exact", "kflr", "kfra", "kfac", "ekfac", "empirical_fisher", "diagonal_gn")


def dense(block):
    """The block as a matrix, vec = columns stacked."""
    if block.factored:
        return np.kron(*(f.factor.dense(OPS) for f in block.factored))
    S = block.block.diagonal()
    bases = (
        np.eye(d) if Q is None else Q for Q, d in zip(block.block.bases(), S.shape, strict=True)
    )
    Q_G, Q_A = bases
    Q = np.kron(Q_A, Q_G)
    return Q @ np.diag(vec(S)) @ Q.T


@pytest.mark.parametrize("loss_name", ["squared_error", "softmax_cross_entropy"])
@pytest.mark.parametrize("name", NAMES)
def test_facts_of_a_block(name, loss_name):
    case, _truth = standard("tanh", loss_name, rows=20)
    at = look_at(case)
    rng = np.random.default_rng(0)
    for l, block in enumerate(factors_of(at, name).methods[name].blocks, start=1):
        D = dense(block)
        values = np.linalg.eigvalsh(D)
        close(block.trace(), np.trace(D), 1e-12)
        close(block.square(), (D**2).sum(), 1e-12)
        close(block.extremes(), (max(values[0], 0.0), values[-1]), 1e-10)
        g = rng.standard_normal(case.W[l - 1].shape)
        lam = 0.3
        if block.factored is None:
            damped = D + lam * np.eye(len(D))
            spectrum_ = block.spectrum.values
            close(spectrum_, values, 1e-10)
        else:
            A, G = (factor.factor.dense(OPS) for factor in block.factored)
            pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(G) / len(G)))
            damped = np.kron(
                A + pi * np.sqrt(lam) * np.eye(len(A)),
                G + np.sqrt(lam) / pi * np.eye(len(G)),
            )
            ends = np.linalg.eigvalsh(damped)[[0, -1]]
            apart = settings("kfra", damping_rule="fixed")
            rule = Damping(apart, 0.0, lam)
            close(block.damped(rule, apart.block), ends, 1e-10)
            together = apart.changed(damping_split="exact").block
            shifted = max(values[0], 0.0) + lam, values[-1] + lam
            close(block.damped(rule, together), shifted, 1e-10)
        close(vec(block.prepare(lam)(g)), np.linalg.solve(damped, vec(g)), 1e-9)


@pytest.mark.parametrize("loss_name", ["binary_cross_entropy", "binary_mixture"])
def test_distance_to_the_exact_block(loss_name):
    case, truth = standard("sigmoid", loss_name, rows=20)
    at = look_at(case)
    methods = factors_of(at, *NAMES).methods
    GN = truth.gauss_newton()
    found = agreement.products(at, [m.blocks for m in methods.values()])
    squares = np.zeros((len(methods), 2))
    for l in range(1, case.net.layers + 1):
        B = truth.block(GN, l)
        close(agreement.exact_norm(found[l - 1]), np.linalg.norm(B), 1e-10)
        for m, method in enumerate(methods.values()):
            K = dense(method.blocks[l - 1])
            one = agreement.agreement(found[l - 1], m)
            assert one.distance_error == one.cosine_error == 0.0
            close(one.distance, distance(K, B), 1e-7)
            close(one.cosine, (K * B).sum() / np.linalg.norm(K) / np.linalg.norm(B), 1e-10)
            squares[m] += np.linalg.norm(K - B) ** 2, np.linalg.norm(B) ** 2
    whole = agreement.together(found)
    for m, (apart, size) in enumerate(squares):
        close(agreement.agreement(whole, m).distance, np.sqrt(apart / size), 1e-7)


def test_sketches_agree_with_the_exact_way(monkeypatch):
    case = make_case((6, 8, 7, 5), ("tanh", "tanh"), "binary_cross_entropy", rows=400, seed=3)
    at = look_at(case)
    blocks = [
        m.blocks for m in factors_of(at, "kfra", "kfac", "ekfac", "diagonal_gn").methods.values()
    ]
    exact = agreement.products(at, blocks)
    monkeypatch.setattr(agreement, "affordable", lambda snapshot: False)
    sketched = agreement.products(at, blocks)
    for l in range(3):
        for m in range(4):
            true, estimate = agreement.agreement(exact[l], m), agreement.agreement(sketched[l], m)
            assert abs(true.distance - estimate.distance) < 6 * estimate.distance_error + 0.02
            assert abs(true.cosine - estimate.cosine) < 6 * estimate.cosine_error + 0.01
            assert 0.0 < estimate.distance_error < 0.2


def test_linear_net_with_squared_error_is_exact_in_the_summary():
    case, _ = standard("identity", "squared_error")
    at = look_at(case)
    found = agreement.products(
        at, [m.blocks for m in factors_of(at, "kfra", "kflr").methods.values()]
    )
    for layer in found:
        for m in (0, 1):
            assert agreement.agreement(layer, m).distance < 1e-7


# ---- spectra -------------------------------------------------------------------------------------


def test_rank_and_effective_rank():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3, 8))
    s = spectrum(look_at(standard("tanh", "squared_error")[0]).net.ops, X.T @ X)
    assert s.rank == 3
    assert 1.0 < s.effective_rank < 3.0
    assert s.condition == np.inf
    flat = of_values(np.full(7, 2.0))
    assert flat.rank == 7
    assert abs(flat.effective_rank - 7.0) < 1e-12
    assert flat.condition == 1.0
    assert of_values(np.zeros(4)).rank == 0
    assert of_values(np.zeros(4)).effective_rank == 0.0


def test_products_of_eigenvalues():
    rng = np.random.default_rng(1)
    a, g = rng.random(5), rng.random(4)
    places, values = product_values(a, g)
    np.testing.assert_allclose(values, np.sort(np.kron(a, g))[::-1])
    assert places.tolist() == list(range(1, 21))
    places, values = product_values(rng.random(100), rng.random(100), limit=200)
    assert len(values) < 300
    assert places[0] == 1
    assert places[-1] == 10000
    assert (np.diff(values) <= 0).all()
