"""Every form of a factor against the dense matrix that it stands for: sums, products, damped
inverses, eigenbases; and the pair (A, G) against dense Kronecker products.
"""

import numpy as np
import pytest
from reference import close, host, same, vec

from gnopt.curvature.damping import pi
from gnopt.curvature.factors import (
    Blocks,
    CholeskyInverse,
    Diagonal,
    Forms,
    Full,
    LowRank,
    LowRankInverse,
    from_blocks,
    mix,
    of_array,
    pieces,
    rotate,
    second_moment,
    to_basis,
)
from gnopt.errors import Diverged


def full(ops, d, seed, dtype):
    X = np.random.default_rng(seed).standard_normal((d + 2, d))
    return Full(ops.asarray(X.T @ X / d, dtype=dtype))


def diagonal(ops, d, seed, dtype):
    return Diagonal(ops.asarray(np.random.default_rng(seed).random(d) + 0.1, dtype=dtype))


def blocks(width):
    def make(ops, d, seed, dtype):
        X = ops.asarray(np.random.default_rng(seed).standard_normal((5, d)), dtype=dtype)
        return second_moment(ops, X, 1.0 / 5.0, Forms(width))

    return make


def low_rank(ops, d, seed, dtype):
    return LowRank(ops.asarray(np.random.default_rng(seed).standard_normal((3, d)), dtype=dtype))


FORMS = {
    "full": full,
    "diagonal": diagonal,
    "blocks": blocks(3),
    "even blocks": blocks(4),
    "one wide": blocks(1),
    "low rank": low_rank,
}


def make(ops, form, d=8, seed=0, dtype="float64"):
    """A factor of a form, and a copy of the matrix that it stands for, on the host."""
    M = FORMS[form](ops, d, seed, dtype)
    return M, host(M.dense(ops)).copy()


def product(ops, operator, d):
    """An operator as a matrix of the host, by multiplying the identity from both sides alike."""
    eye = ops.xp.eye(d)
    left = host(operator.left(ops, eye, ops.xp.empty((d, d))))
    close(operator.right(ops, eye, ops.xp.empty((d, d))), left, 1e-12)
    return left


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture(params=FORMS)
def other_form(request):
    return request.param


@pytest.fixture(params=[7, 8, 11])
def d(request):
    return request.param


# ---- the contract of every form ------------------------------------------------------------------


def test_dense_by_hand(ops):
    same(Full(ops.asarray([[2.0, 1.0], [1.0, 3.0]])).dense(ops), [[2.0, 1.0], [1.0, 3.0]])
    same(Diagonal(ops.asarray([2.0, 3.0])).dense(ops), [[2.0, 0.0], [0.0, 3.0]])
    same(LowRank(ops.asarray([[1.0, 2.0]])).dense(ops), [[1.0, 2.0], [2.0, 4.0]])
    M = from_blocks(ops, [ops.asarray([[2.0, 1.0], [1.0, 3.0]]), ops.asarray([[5.0]])], 3)
    assert isinstance(M, Blocks)
    same(M.dense(ops), [[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 5.0]])


def test_numbers_of_a_factor(ops, form, d):
    M, dense = make(ops, form, d)
    assert M.dimension == d
    close(M.trace(ops), np.trace(dense))
    close(M.square(ops), (dense * dense).sum())
    padded = M.blocks.shape[0] * M.blocks.shape[1] if isinstance(M, Blocks) else d
    close(M.mean_diagonal(ops), np.trace(dense) / padded)
    kept = {"full": d * d, "diagonal": d, "low rank": 3 * d}.get(form)
    assert M.nbytes == 8 * (M.blocks.size if kept is None else kept)


def test_products_with_a_factor(ops, form, d):
    M, dense = make(ops, form, d)
    B = ops.asarray(np.random.default_rng(1).standard_normal((5, d)))
    turned = ops.xp.ascontiguousarray(B.T)
    for actual, expected in (
        (M.right(ops, B, ops.xp.empty((5, d))), host(B) @ dense),
        (M.left(ops, turned, ops.xp.empty((d, 5))), dense @ host(turned)),
    ):
        close(actual, expected)
    close(M.congruence(ops, turned), host(B) @ dense @ host(turned))
    out = ops.xp.empty((5, d))
    assert M.right(ops, B, out) is out


@pytest.mark.parametrize("way", ["damped_inverse", "damped_cholesky"])
def test_damped_inverses(ops, form, d, way):
    M, dense = make(ops, form, d)
    expected = np.linalg.inv(dense + 0.3 * np.eye(d))
    prepared = getattr(M, way)(ops, 0.3, "M")
    close(product(ops, prepared, d), expected)
    close(M.dense(ops), dense, 1e-15)  # damping leaves the factor as it was
    amount = ops.xp.full((), 0.3)  # as damping comes from the device
    close(product(ops, getattr(M, way)(ops, amount, "M"), d), expected)


def test_the_cheapest_inverse_of_a_full_factor_is_its_cholesky_factor(ops):
    M, _ = make(ops, "full")
    assert isinstance(M.damped_cholesky(ops, 0.3, "M"), CholeskyInverse)
    assert isinstance(M.damped_inverse(ops, 0.3, "M"), Full)


def test_inverses_stay_inverses_where_they_are_used_twice(ops, form):
    M, dense = make(ops, form)
    prepared = M.damped_cholesky(ops, 0.3, "M")
    for seed in (1, 2):
        B = ops.asarray(np.random.default_rng(seed).standard_normal((8, 5)))
        kept = B.copy()
        close(
            prepared.left(ops, B, ops.xp.empty((8, 5))),
            np.linalg.solve(dense + 0.3 * np.eye(8), host(B)),
        )
        same(B, kept)


def test_eigenbases(ops, form, d):
    """Q (Qᵀ B Q / (values + c)) Qᵀ solves with the Kronecker product of the factor with itself."""
    M, dense = make(ops, form, d)
    basis = M.eigenbasis(ops, "M")
    values, Q = basis.values, basis.vectors
    assert (Q is None) == (form == "diagonal")
    assert float(values.min()) >= 0.0
    B = np.random.default_rng(1).standard_normal((d, d))
    inner = rotate(ops, Q, ops.asarray(B), Q)
    inner = inner / (values[:, None] * values[None, :] + 0.4)
    out = rotate(ops, Q, inner, Q, back=True)[:d, :d]
    system = np.kron(dense, dense) + 0.4 * np.eye(d * d)
    close(out, np.linalg.solve(system, vec(B)).reshape(d, d, order="F"))


def test_a_basis_of_blocks_turns_there_and_back(ops):
    M, _ = make(ops, "blocks", 7)
    Q = M.eigenbasis(ops, "M").vectors
    B = ops.asarray(np.random.default_rng(1).standard_normal((4, 7)))
    close(to_basis(ops, to_basis(ops, B, Q), Q, back=True)[:, :7], B)


def test_sketches_of_forms_that_need_none(ops, form, d):
    """Forms other than a full matrix are inverted exactly, and keep the basis."""
    if form == "full":
        pytest.skip("the one form that is sketched: see below")
    M, dense = make(ops, form, d)
    basis = ops.xp.ones((d, 2))
    prepared, after = M.sketched_inverse(ops, basis, 0.3, "G")
    assert after is basis
    close(product(ops, prepared, d), np.linalg.inv(dense + 0.3 * np.eye(d)))


def test_eigenvalues_below_zero_are_floored(ops):
    for M in (Diagonal(ops.asarray([-1e-9, 1.0])), Full(ops.xp.diag(ops.asarray([-1e-9, 1.0])))):
        same(np.sort(host(M.eigenbasis(ops, "M").values)), [0.0, 1.0])


def test_factors_beyond_repair_are_named(ops):
    for entry, words in ((np.nan, "not finite"), (-5.0, "not positive definite")):
        M = ops.asarray(np.diag([1.0, entry]))
        for way in ("damped_inverse", "damped_cholesky"):
            with pytest.raises(Diverged, match=f"factor A of layer 3.*{words}"):
                getattr(Full(M), way)(ops, 0.1, "factor A of layer 3")
        stacked = Blocks(ops.xp.stack([ops.xp.eye(2), M]), 4)
        with pytest.raises(Diverged, match=f"factor A of layer 3, block 2.*{words}"):
            stacked.damped_inverse(ops, 0.1, "factor A of layer 3")
    with pytest.raises(Diverged, match=r"factor G of layer 1.*not finite"):
        LowRank(ops.xp.full((2, 8), np.nan)).damped_inverse(ops, 0.1, "factor G of layer 1")


@pytest.mark.parametrize("n", [1, 2, 5, 129])
def test_inverses_of_any_size(ops, n):
    M, dense = make(ops, "full", n)
    close(product(ops, M.damped_inverse(ops, 0.3, "M"), n), np.linalg.inv(dense + 0.3 * np.eye(n)))


# ---- averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(0.4, 0.6), (1.0, 1.0), (0.0, 0.7), (0.25, 0.0)])
@pytest.mark.parametrize("how", ["added", "mix"])
def test_sums_of_every_two_forms(ops, form, other_form, weights, how):
    old, dense_old = make(ops, form, seed=1)
    new, dense_new = make(ops, other_form, seed=2)
    if how == "added":
        total = new.added(ops, old, *weights)
    else:
        total = mix(ops, old, new, *weights)
    close(total.dense(ops), weights[0] * dense_old + weights[1] * dense_new)
    same(old.dense(ops), dense_old)  # whoever holds the old average can go back to it
    assert total.dimension == 8


def test_the_first_sum_has_no_old_factor(ops, form, d):
    new, dense = make(ops, form, d)
    total = mix(ops, None, new, 0.0, 0.25)
    assert type(total) is type(new)
    close(total.dense(ops), 0.25 * dense)


def test_an_old_factor_that_weighs_nothing_does_not_change_the_form(ops, form, other_form):
    old, _ = make(ops, form, seed=1)
    new, dense = make(ops, other_form, seed=2)
    if type(old) is type(new) and form != other_form:
        pytest.skip("blocks of two widths are one form")
    total = mix(ops, old, new, 0.0, 1.0)
    assert type(total) is type(new)
    close(total.dense(ops), dense)


def test_rows_that_become_many_turn_into_a_matrix(ops):
    average, expected, types = None, np.zeros((16, 16)), []
    for seed in range(4):
        new, dense = make(ops, "low rank", 16, seed)
        average = mix(ops, average, new, 0.5, 0.5)
        expected = 0.5 * expected + 0.5 * dense
        close(average.dense(ops), expected)
        types.append(type(average))
    assert types == [LowRank, LowRank, Full, Full]  # 3, 6, 9 rows: fewer than half of 16 stay rows


def test_mixing_leaves_the_old_average_alone(ops, dtype_name):
    def constant(value):
        return Full(ops.xp.full((2, 2), value, dtype=dtype_name))

    first = mix(ops, None, constant(4.0), 0.0, 1.0)
    same(first.matrix, 4.0)
    second = mix(ops, first, constant(2.0), 0.5, 0.5)
    same(first.matrix, 4.0)
    same(second.matrix, 3.0)
    turned = ops.xp.arange(4.0).astype(dtype_name).reshape(2, 2).T  # not contiguous
    same(mix(ops, first, Full(turned), 0.5, 1.0).matrix, [[2.0, 4.0], [3.0, 5.0]])
    assert second.matrix.dtype == dtype_name


def test_the_average_of_a_constant_is_the_constant(ops, form):
    average = None
    for k in range(1, 5):
        beta = min(1.0 - 1.0 / k, 0.7)
        new, dense = make(ops, form)
        average = mix(ops, average, new, beta, 1.0 - beta)
        close(average.dense(ops), dense, 1e-14)


# ---- making factors ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 8, 100])
def test_pieces_cover_a_range_nearly_equally(d, width):
    found = pieces(d, width)
    same(np.concatenate([np.arange(d)[r] for r in found]), np.arange(d))
    sizes = [r.stop - r.start for r in found]
    assert max(sizes) <= (width or d)
    assert sizes[:-1] == [sizes[0]] * (len(sizes) - 1)
    assert len(found) == (1 if width == 0 else -(-d // width)) or sizes[0] * (len(found) + 1) >= d


@pytest.mark.parametrize(
    ("forms", "kind"),
    [(Forms(), Full), (Forms(3), Blocks), (Forms(8), Full), (Forms(11), Full), (Forms(1), Blocks)],
)
def test_second_moments(ops, forms, kind):
    X = np.random.default_rng(0).standard_normal((5, 8))
    M = second_moment(ops, ops.asarray(X), 0.5, forms)
    assert type(M) is kind
    label = np.zeros(8)
    for i, r in enumerate(pieces(8, forms.width)):
        label[r] = i
    close(M.dense(ops), 0.5 * X.T @ X * (label[:, None] == label[None, :]))


@pytest.mark.parametrize("width", [0, 3])
def test_second_moments_of_few_rows_stay_rows(ops, width):
    X = np.random.default_rng(0).standard_normal((4, 9))
    for rows, few in ((4, True), (5, False)):  # 2 · 4 < 9 ≤ 2 · 5
        data = ops.asarray(np.resize(X, (rows, 9)))
        kept = data.copy()
        M = second_moment(ops, data, 0.5, Forms(width, low_rank=True))
        assert isinstance(M, LowRank) == few
        same(data, kept)
    M = second_moment(ops, ops.asarray(X), 0.5, Forms(width, low_rank=True))
    close(M.dense(ops), 0.5 * X.T @ X)


def test_factors_of_arrays(ops):
    assert isinstance(of_array(ops.xp.ones(3)), Diagonal)
    assert isinstance(of_array(ops.xp.ones((3, 3))), Full)


# ---- the pair (A, G) -----------------------------------------------------------------------------


def pair(ops, form="full", o=8, i=4):
    """Factors G of a form and A, a gradient (o, i), and the dense A and G."""
    G, dense_G = make(ops, form, o)
    A, dense_A = make(ops, "full", i, seed=1)
    return G, A, ops.asarray(np.random.default_rng(2).standard_normal((o, i))), dense_A, dense_G


def damped_solve(ops, G, A, g, b, a):
    half = G.damped_inverse(ops, b, "G").left(ops, g, ops.xp.empty(g.shape))
    return A.damped_inverse(ops, a, "A").right(ops, half, ops.xp.empty(g.shape))


def test_convention(ops):
    """(A ⊗ G) vec(V) = vec(G V Aᵀ)."""
    _, _, V, A, G = pair(ops)
    close(np.kron(A, G) @ vec(V), vec(G @ host(V) @ A.T), 1e-14)


def test_factored_damping_solves_the_damped_system(ops, form):
    G, A, g, dense_A, dense_G = pair(ops, form)
    system = np.kron(dense_A + 0.2 * np.eye(4), dense_G + 0.7 * np.eye(8))
    close(vec(damped_solve(ops, G, A, g, 0.7, 0.2)), np.linalg.solve(system, vec(g)))


def test_the_two_ways_of_damping_differ_but_agree_as_damping_vanishes(ops):
    G, A, g, dense_A, dense_G = pair(ops)
    for damping, alike in ((1.0, False), (1e-9, True)):
        found = vec(damped_solve(ops, G, A, g, damping**0.5, damping**0.5))
        exact = np.linalg.solve(np.kron(dense_A, dense_G) + damping * np.eye(32), vec(g))
        assert (np.linalg.norm(found - exact) < 1e-2 * np.linalg.norm(exact)) == alike


def test_balance_of_the_two_factors(ops, form):
    G, A, _, dense_A, _ = pair(ops, form)
    expected = np.sqrt(np.trace(dense_A) / 4 / float(G.mean_diagonal(ops)))
    close(pi(ops, A, G), expected, 1e-14)
    close(pi(ops, Full(9.0 * A.matrix), G), 3.0 * expected)


def test_dead_layer_keeps_finite_damping(ops, dtype_name):
    _, A, *_ = pair(ops)
    A = Full(A.matrix.astype(dtype_name))
    zeros = ops.xp.zeros
    for dead in (
        Full(zeros((8, 8), dtype=dtype_name)),
        Diagonal(zeros(8, dtype=dtype_name)),
        Blocks(zeros((3, 3, 3), dtype=dtype_name), 8),
        LowRank(zeros((2, 8), dtype=dtype_name)),
    ):
        ratio = float(pi(ops, A, dead))
        assert np.isfinite(ratio)
        assert ratio > 0.0
        assert dead.mean_diagonal(ops) > 0.0
        inverse = dead.damped_inverse(ops, 0.5, "G")
        eye = ops.xp.eye(8, dtype=dtype_name)
        np.testing.assert_allclose(host(inverse.left(ops, eye, eye.copy())), 2.0 * np.eye(8))


# ---- the sketched inverse of a full factor -------------------------------------------------------


def spectrum(ops, values, seed=0):
    """A symmetric matrix of the host with these eigenvalues, its eigenvectors, and a random start
    for a sketch.
    """
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return (
        (Q * values) @ Q.T,
        Q,
        lambda r: ops.orthonormal(ops.normal(rng, (len(values), r), np.float64)),
    )


def inverse_of(ops, prepared, d):
    return host(prepared.left(ops, ops.xp.eye(d), ops.xp.empty((d, d))))


def test_a_sketch_of_full_rank_is_exact(ops):
    values = np.concatenate([[9.0, 4.0, 1.0, 0.5], np.zeros(8)])
    M, _, start = spectrum(ops, values)
    prepared, _ = Full(ops.asarray(M)).sketched_inverse(ops, start(4), 0.3, "G")
    close(product(ops, prepared, 12), np.linalg.inv(M + 0.3 * np.eye(12)), 1e-9)


def test_sketches_follow_the_largest_eigenvalues(ops):
    values = np.concatenate([[30.0, 20.0, 10.0], np.linspace(1.0, 0.1, 17)])
    M, Q, start = spectrum(ops, values)
    basis, damping = start(3), 1.5 * values.mean()
    for _ in range(20):
        prepared, basis = Full(ops.asarray(M)).sketched_inverse(ops, basis, damping, "G")
    rest = values[3:].sum() / 20
    shrunk = np.where(np.arange(20) < 3, values, 0.0) + rest  # the trace is that of M
    close(inverse_of(ops, prepared, 20), (Q / (shrunk + damping)) @ Q.T, 1e-9)
    error = np.linalg.norm(
        inverse_of(ops, prepared, 20) @ (M + damping * np.eye(20)) - np.eye(20), 2
    )
    assert error < 0.2  # the eigenvalues left out lie within `damping` of their mean


def test_a_sketch_never_exceeds_the_matrix(ops, dtype_name):
    """M − F Fᵀ is positive semidefinite for any basis, also the first, random one."""
    values = np.geomspace(10.0, 1e-3, 40)
    M, _, start = spectrum(ops, values)
    prepared, basis = Full(ops.asarray(M, dtype=dtype_name)).sketched_inverse(
        ops, start(10).astype(dtype_name), 2.0, "G"
    )
    assert isinstance(prepared, LowRankInverse)
    F = host(prepared.rows).T.astype(float)
    assert np.linalg.eigvalsh(M - F @ F.T)[0] > -1e-4
    assert prepared.rows.dtype == basis.dtype == dtype_name
    np.testing.assert_allclose(host(basis.T @ basis), np.eye(10), atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_sketch_wider_than_the_rank_of_the_matrix(ops, rank, dtype_name):
    values = np.where(np.arange(16) < rank, 5.0, 0.0)
    M, _, start = spectrum(ops, values)
    basis = start(6).astype(dtype_name)
    for _ in range(3):
        prepared, basis = Full(ops.asarray(M, dtype=dtype_name)).sketched_inverse(
            ops, basis, 0.5, "G"
        )
    found = inverse_of(ops, prepared, 16)
    tolerance = 2e-3 if dtype_name == "float32" else 1e-9
    np.testing.assert_allclose(found, np.linalg.inv(M + 0.5 * np.eye(16)), atol=tolerance)
    np.testing.assert_allclose(host(basis.T @ basis), np.eye(6), atol=1e-4)
