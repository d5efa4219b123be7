"""Exact block Hessian and Gauss-Newton matrices against automatic differentiation; diagonals in a
basis.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import (
    Truth,
    close,
    curvature,
    distance,
    host,
    make_case,
    over_rows,
    point_loss,
    sample_of,
    standard,
)

from gnopt.curvature import exact, get_curvature
from gnopt.engine.activations import all_activations
from gnopt.engine.losses import all_losses
from gnopt.errors import GnoptError


def check_blocks(case, truth, memory=1 << 30):
    for hessian, dense in ((True, truth.hessian()), (False, truth.gauss_newton())):
        blocks = exact.mean_blocks(sample_of(case, memory=memory), hessian)
        assert list(blocks) == list(range(1, case.net.layers + 1))
        for layer, block in blocks.items():
            case.check(block, truth.block(dense, layer))


def test_blocks(ops, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    check_blocks(case, truth)
    check_blocks(case, truth, memory=1)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_blocks_of_random_nets(ops, data):
    hidden = data.draw(st.lists(st.integers(1, 4), max_size=3))
    names = [data.draw(st.sampled_from(sorted(all_activations()))) for _ in hidden]
    sizes = (data.draw(st.integers(1, 4)), *hidden, data.draw(st.integers(1, 4)))
    loss_name, rows = data.draw(st.sampled_from(sorted(all_losses()))), data.draw(st.integers(1, 5))
    case = make_case(
        sizes,
        names,
        loss_name,
        rows,
        seed=data.draw(st.integers(0, 2**32)),
        soft=data.draw(st.booleans()),
        ops=ops,
    )
    check_blocks(case, Truth(case))


def test_output_factors(ops, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    for memory in (1 << 30, 1):
        for found, G in zip(
            exact.mean_pre_activation(sample_of(case, memory=memory), False),
            truth.kflr(),
            strict=True,
        ):
            case.check(found, G)
    # One data point's Hessian block is (ā āᵀ) ⊗ 𝓗.
    case, truth = standard(activation_name, loss_name, rows=1, ops=ops)
    for layer, H in enumerate(exact.mean_pre_activation(sample_of(case), True), start=1):
        case.check(np.kron(truth.input_factor(layer), host(H)), truth.block(truth.hessian(), layer))


def test_whole_gauss_newton_matrix(ops, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    order = np.concatenate(
        [
            start + np.arange(o * i).reshape(o, i).ravel(order="F")
            for start, (o, i) in zip(case.net.offsets[:-1], case.net.shapes, strict=True)
        ]
    )
    for memory in (1 << 30, 1):
        GN = exact.full_gauss_newton(sample_of(case, memory=memory))
        case.check(GN, truth.gauss_newton()[np.ix_(order, order)])
    bound = len(case.x) * case.loss.rank(case.net.sizes[-1])
    assert np.linalg.matrix_rank(host(GN), tol=1e-10 * float(GN.trace())) <= bound


def test_piecewise_linear_nets_have_semidefinite_blocks_and_others_need_not(ops):
    for names in (("relu", "leaky_relu"), ("identity", "relu"), ("tanh", "sigmoid")):
        case = make_case((4, 3, 5, 3), names, "softmax_cross_entropy", 6, soft=True, ops=ops)
        H, GN = (exact.mean_blocks(sample_of(case), hessian) for hessian in (True, False))
        lowest = min(
            np.linalg.eigvalsh(block)[0] / np.trace(block) for block in map(host, H.values())
        )
        assert (lowest >= -1e-14) == ("tanh" not in names)
        assert all((distance(H[l], GN[l]) < 1e-14) == ("tanh" not in names) for l in (1, 2))


def test_some_layers_alone(ops):
    case, truth = standard("tanh", "poisson", ops=ops)
    blocks = exact.mean_blocks(sample_of(case), True, layers=[3, 1])
    assert sorted(blocks) == [1, 3]
    case.check(blocks[1], truth.block(truth.hessian(), 1))


def test_what_cannot_fit_is_refused_with_the_bytes():
    case, _ = standard("tanh", "poisson")
    need = 15**2 * 8
    assert exact.block_bytes(case.net, 1) == need
    exact.refuse_large_blocks(case.net, [1], kinds=2, available=3 * need)
    with pytest.raises(GnoptError, match=f"{3 * need:,} bytes.*{3 * need - 1:,} are free"):
        exact.refuse_large_blocks(case.net, [1], kinds=2, available=3 * need - 1)


# ---- diagonals in a basis ------------------------------------------------------------------------


def random_bases(case, identity):
    def basis(n, seed):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
        return None if identity else case.ops.asarray(Q)

    return [(basis(o, 2 * l), basis(i, 2 * l + 1)) for l, (o, i) in enumerate(case.net.shapes)]


@pytest.mark.on_double(identity=[False])
@pytest.mark.parametrize("identity", [True, False], ids=["identity", "rotated"])
def test_scales_are_unbiased_for_the_diagonal_of_the_block(ops, scaled_name, loss_name, identity):
    """The Fisher block for ekfac, the Gauss-Newton block for diagonal_gn, within 5 standard
    deviations.
    """
    case, truth = standard("tanh", loss_name, ops=ops)
    kind = curvature(scaled_name)
    weight = truth.output_gn
    if kind.needs_likelihood:
        weight = over_rows(point_loss(loss_name).fisher, truth.output)
    full = np.einsum("nkp,nkj,njq->pq", truth.J, weight, truth.J) / len(truth.J)
    bases, draws = random_bases(case, identity), 400
    drawn = [kind.scales(sample_of(case, seed=seed), bases) for seed in range(draws)]
    for l, (Q_G, Q_A) in enumerate(bases):
        o, i = case.net.shapes[l]
        Q = np.eye(i * o) if identity else np.kron(host(Q_A), host(Q_G))
        expected = np.diag(Q.T @ truth.block(full, l + 1) @ Q).reshape(i, o).T
        stack = np.stack([host(scales[l]) for scales in drawn])
        band = 5.0 * stack.std(axis=0) / draws**0.5 + case.tolerance * expected.max()
        assert (np.abs(stack.mean(axis=0) - expected) <= band).all()


def test_scales_by_hand(ops, scaled_name, loss_name):
    """The very draws: mean (Q_Gᵀ δ)² ((Q_Aᵀ ā)²)ᵀ with δ passed back by automatic
    differentiation.
    """
    case, truth = standard("gelu", loss_name, ops=ops)
    bases, rng = random_bases(case, False), np.random.default_rng(0)
    output = ops.asarray(truth.output)
    if get_curvature(scaled_name).needs_likelihood:
        delta = case.loss.sampled_gradient(ops, output, rng)
    else:
        signs = ops.rademacher(rng, (len(case.x), case.loss.rank(output.shape[1])), np.float64)
        delta = case.loss.gn_root_product(ops, output, case.y, signs)
    found = curvature(scaled_name).scales(sample_of(case), bases)
    for l, (Q_G, Q_A) in enumerate(bases):
        back = np.einsum("nk,nki->ni", host(delta), truth.S[l])
        case.check(
            found[l], ((back @ host(Q_G)) ** 2).T @ ((truth.abar[l] @ host(Q_A)) ** 2) / len(back)
        )


def test_averages_of_draws(ops, scaled_name):
    case, _ = standard("tanh", "squared_error", ops=ops)
    bases = random_bases(case, False)
    (option,) = get_curvature(scaled_name).Settings.options()
    many = curvature(scaled_name, **{option.name: 3}).scales(sample_of(case, seed=1), bases)
    one_by_one = sample_of(case, seed=1)
    singles = [
        curvature(scaled_name, **{option.name: 1}).scales(one_by_one, bases) for _ in range(3)
    ]
    for l in range(3):
        close(many[l], sum(s[l] for s in singles) / 3)


def test_eigenbases_make_the_best_diagonal(ops):
    """EKFAC's block is nearer to the Fisher's than KFAC's, in the Frobenius norm (George et al.
    2018).
    """
    case, truth = standard("tanh", "squared_error", ops=ops)
    full = truth.gauss_newton()  # which is the Fisher of squared error
    sample, G = sample_of(case), truth.kflr()
    A = [host(sample.input_factor(l).dense(ops)) for l in (1, 2, 3)]
    for l in range(3):
        block = truth.block(full, l + 1)
        Q = np.kron(np.linalg.eigh(A[l])[1], np.linalg.eigh(G[l])[1])
        corrected = Q @ np.diag(np.diag(Q.T @ block @ Q)) @ Q.T
        assert (
            np.linalg.norm(corrected - block) <= np.linalg.norm(np.kron(A[l], G[l]) - block) + 1e-12
        )
