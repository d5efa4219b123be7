"""The pair (A, G): moving averages, damping, inverses and solves against dense Kronecker
products.
"""

import numpy as np
import pytest
from reference import close, host, same

from gnopt.curvature.kron import (
    apply_inverses,
    damped_inverse,
    dense,
    eigenbasis,
    join,
    left,
    mean_diagonal,
    mix,
    pi,
    pieces,
    right,
    rotate,
    second_moment,
    sketched_inverse,
    trace,
)
from gnopt.errors import Diverged


def pair(ops, o=3, i=4, diagonal=False, seed=0):
    """G (o, o) or (o,), A (i, i) and a gradient (o, i)."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((o + 2, o)), rng.standard_normal((i + 2, i))
    G = X.T @ X / o
    G = np.diag(G).copy() if diagonal else G
    return tuple(map(ops.asarray, (G, Y.T @ Y / i, rng.standard_normal((o, i)))))


def vec(M):
    """Columns stacked, on the host."""
    return host(M).ravel(order="F")


def full_of(ops, M, d=None):
    """A factor as a full matrix of the host."""
    return host(dense(ops, M, d))


@pytest.fixture(params=[False, True], ids=["full", "diagonal"])
def diagonal(request):
    return request.param


def test_convention(ops):
    """(A ⊗ B) vec(V) = vec(B V Aᵀ)."""
    G, A, V = pair(ops)
    close(np.kron(host(A), host(G)) @ vec(V), vec(G @ V @ A.T), 1e-14)


@pytest.mark.parametrize("n", [1, 2, 5, 129])
def test_damped_inverse(ops, n, diagonal):
    M, _, _ = pair(ops, o=n, diagonal=diagonal)
    kept = M.copy()
    inverse = damped_inverse(ops, M, 0.3, "M")
    close(full_of(ops, inverse), np.linalg.inv(full_of(ops, M) + 0.3 * np.eye(n)), 1e-11)
    same(damped_inverse(ops, M, 0.3, "M"), inverse)
    inverse[...] = 0.0  # which is an array of its own
    same(M, kept)


def test_factored_damping_solves_the_damped_system(ops, diagonal):
    G, A, g = pair(ops, diagonal=diagonal)
    a, b = 0.2, 0.7
    out, kept = ops.xp.empty_like(g), g.copy()
    inverses = damped_inverse(ops, G, b, "G"), damped_inverse(ops, A, a, "A")
    apply_inverses(ops, inverses[0], g, inverses[1], out, ops.xp.empty)
    system = np.kron(host(A) + a * np.eye(4), full_of(ops, G) + b * np.eye(3))
    close(vec(out), np.linalg.solve(system, vec(g)), 1e-12)
    same(g, kept)
    again = ops.xp.empty_like(g)
    apply_inverses(ops, inverses[0], g, inverses[1], again, ops.xp.empty)
    same(again, out)


def test_exact_damping_solves_the_undivided_system(ops, diagonal):
    G, A, g = pair(ops, diagonal=diagonal)
    (values_G, Q_G), (values_A, Q_A) = eigenbasis(ops, G, "G"), eigenbasis(ops, A, "A")
    inner = rotate(ops, Q_G, g, Q_A) / (values_G[:, None] * values_A[None, :] + 0.4)
    out = rotate(ops, Q_G, inner, Q_A, back=True)
    system = np.kron(host(A), full_of(ops, G)) + 0.4 * np.eye(12)
    close(vec(out), np.linalg.solve(system, vec(g)), 1e-12)
    close(rotate(ops, Q_G, rotate(ops, Q_G, g, Q_A), Q_A, back=True), g, 1e-14)


def test_the_two_ways_of_damping_differ_but_agree_as_damping_vanishes(ops):
    G, A, g = pair(ops)
    system = np.kron(host(A), host(G))
    for damping, alike in ((1.0, False), (1e-9, True)):
        out = ops.xp.empty_like(g)
        root = damping**0.5
        inverses = damped_inverse(ops, G, root, "G"), damped_inverse(ops, A, root, "A")
        apply_inverses(ops, inverses[0], g, inverses[1], out, ops.xp.empty)
        exact = np.linalg.solve(system + damping * np.eye(12), vec(g))
        assert (np.linalg.norm(vec(out) - exact) < 1e-2 * np.linalg.norm(exact)) == alike


def test_eigenvalues_below_zero_are_floored(ops, diagonal):
    M = ops.asarray([-1e-9, 1.0])
    values, vectors = eigenbasis(ops, M if diagonal else ops.xp.diag(M), "M")
    same(np.sort(host(values)), [0.0, 1.0])
    assert (vectors is None) == diagonal


def test_factors_beyond_repair_are_named(ops):
    for entry, words in ((np.nan, "not finite"), (-5.0, "not positive definite")):
        with pytest.raises(Diverged, match=f"factor A of layer 3.*{words}"):
            damped_inverse(ops, ops.asarray(np.diag([1.0, entry])), 0.1, "factor A of layer 3")


def test_balance_of_the_two_factors(ops, diagonal):
    G, A, _ = pair(ops, diagonal=diagonal)
    full = full_of(ops, G)
    expected = np.sqrt((np.trace(host(A)) / 4) / (np.trace(full) / 3))
    assert float(pi(ops, A, G)) == pytest.approx(expected, rel=1e-14)
    assert float(pi(ops, 9.0 * A, G)) == pytest.approx(3.0 * expected)
    assert float(trace(ops, G)) == pytest.approx(np.trace(full))
    assert float(mean_diagonal(ops, G)) == pytest.approx(np.trace(full) / 3)


def test_dead_layer_keeps_finite_damping(ops, diagonal, dtype_name):
    dead = ops.xp.zeros(3 if diagonal else (3, 3), dtype=dtype_name)
    _, A, _ = pair(ops)
    ratio = float(pi(ops, A.astype(dtype_name), dead))
    assert np.isfinite(ratio)
    assert ratio > 0.0
    assert mean_diagonal(ops, dead) > 0.0
    inverse = damped_inverse(ops, dead, 0.5, "G")
    np.testing.assert_allclose(full_of(ops, inverse), 2.0 * np.eye(3))


def test_mixing_leaves_the_old_average_alone(ops, dtype_name):
    first = mix(ops, None, ops.xp.full((2, 2), 4.0, dtype=dtype_name), 0.0, 1.0)
    same(first, 4.0)
    second = mix(ops, first, ops.xp.full((2, 2), 2.0, dtype=dtype_name), 0.5, 0.5)
    same(first, 4.0)
    same(second, 3.0)
    turned = mix(
        ops, first, ops.xp.arange(4.0).astype(dtype_name).reshape(2, 2).T, 0.5, 1.0
    )  # not contiguous
    same(turned, [[2.0, 4.0], [3.0, 5.0]])
    assert second.dtype == dtype_name
    constant, average = ops.asarray(np.diag([1.0, 2.0])), None
    for k in range(1, 8):  # the moving average of a constant is the constant
        beta = min(1.0 - 1.0 / k, 0.7)
        average = mix(ops, average, constant.copy(), beta, 1.0 - beta)
        close(average, constant, 1e-15)


def test_left_product_with_a_full_or_diagonal_factor(ops, diagonal):
    G, _, g = pair(ops, diagonal=diagonal)
    out = ops.xp.empty_like(g)
    left(ops, G, g, out)
    close(out, full_of(ops, G) @ host(g), 1e-14)


# ---- forms for wide layers -----------------------------------------------------------------------

FORMS = {
    "full": {},
    "blocks": {"factor_width": 3},
    "even blocks": {"factor_width": 4},
    "one wide": {"factor_width": 1},
    "low rank": {"curvature_decay": 0.0},
}


def moment(ops, form, d=8, n=3, seed=0):
    """A factor in a form, and the full matrix it stands for."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    full = X.T @ X / n
    if form not in ("full", "low rank"):
        label = np.zeros(d)
        for i, r in enumerate(pieces(d, FORMS[form]["factor_width"])):
            label[r] = i
        full = full * (label[:, None] == label[None, :])
    return second_moment(ops, ops.asarray(X), 1.0 / n, FORMS[form]), full


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.mark.parametrize("d", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 8, 100])
def test_pieces_cover_a_range_nearly_equally(d, width):
    found = pieces(d, width)
    same(np.concatenate([np.arange(d)[r] for r in found]), np.arange(d))
    sizes = [r.stop - r.start for r in found]
    assert max(sizes) <= (width or d)
    assert sizes[:-1] == [sizes[0]] * (len(sizes) - 1)
    assert len(found) == (1 if width == 0 else -(-d // width)) or sizes[0] * (len(found) + 1) >= d


@pytest.mark.parametrize("d", [7, 8, 11])
def test_forms_are_what_they_stand_for(ops, form, d):
    M, full = moment(ops, form, d)
    close(full_of(ops, M, d), full, 1e-14)
    assert float(trace(ops, M)) == pytest.approx(np.trace(full), rel=1e-13)
    B = np.random.default_rng(1).standard_normal((5, d))
    if not isinstance(M, dict):  # a low-rank form is only ever multiplied by its inverse
        close(right(ops, ops.asarray(B), M, ops.xp.empty((5, d))), B @ full, 1e-13)
        close(left(ops, M, ops.asarray(B.T.copy()), ops.xp.empty((d, 5))), full @ B.T, 1e-13)


@pytest.mark.parametrize("d", [7, 8, 11])
def test_damped_inverses_of_every_form(ops, form, d):
    M, full = moment(ops, form, d)
    G, A = damped_inverse(ops, M, 0.3, "M"), damped_inverse(ops, M, 0.3, "M")
    inverse, B = (
        np.linalg.inv(full + 0.3 * np.eye(d)),
        np.random.default_rng(1).standard_normal((d, d)),
    )
    out = ops.xp.empty((d, d))
    apply_inverses(ops, G, ops.asarray(B), A, out, ops.xp.empty)
    close(out, inverse @ B @ inverse, 1e-11)
    close(full_of(ops, M, d), full, 1e-14)


@pytest.mark.parametrize("d", [7, 8, 11])
def test_eigenbases_of_every_form(ops, form, d):
    M, full = moment(ops, form, d)
    values, Q = eigenbasis(ops, M, "M")
    B = np.random.default_rng(1).standard_normal((d, d))
    inner = rotate(ops, Q, ops.asarray(B), Q) / (values[:, None] * values[None, :] + 0.4)
    out = rotate(ops, Q, inner, Q, back=True)[:d, :d]
    close(
        out,
        np.linalg.solve(np.kron(full, full) + 0.4 * np.eye(d * d), vec(B)).reshape(d, d, order="F"),
        1e-11,
    )


def test_joining_every_form_is_the_weighted_sum(ops, form):
    first, full_1 = moment(ops, form, seed=0)
    second, full_2 = moment(ops, form, seed=1)
    total = join(ops, None, first, 0.0, 0.25)
    total = join(ops, total, second, 1.0, 0.75)
    close(full_of(ops, total, 8), 0.25 * full_1 + 0.75 * full_2, 1e-14)
    replaced = join(ops, total, moment(ops, form, seed=2)[0], 0.0, 1.0)
    close(full_of(ops, replaced, 8), moment(ops, form, seed=2)[1], 1e-14)


# ---- the sketched inverse ------------------------------------------------------------------------


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
    return host(left(ops, prepared, ops.xp.eye(d), ops.xp.empty((d, d))))


def test_a_sketch_of_full_rank_is_exact(ops):
    values = np.concatenate([[9.0, 4.0, 1.0, 0.5], np.zeros(8)])
    M, _, start = spectrum(ops, values)
    prepared, _ = sketched_inverse(ops, ops.asarray(M), start(4), 0.3, "G")
    close(inverse_of(ops, prepared, 12), np.linalg.inv(M + 0.3 * np.eye(12)), 1e-9)


def test_sketches_follow_the_largest_eigenvalues(ops):
    values = np.concatenate([[30.0, 20.0, 10.0], np.linspace(1.0, 0.1, 17)])
    M, Q, start = spectrum(ops, values)
    basis, damping = start(3), 1.5 * values.mean()
    for _ in range(20):
        prepared, basis = sketched_inverse(ops, ops.asarray(M), basis, damping, "G")
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
    prepared, basis = sketched_inverse(
        ops, ops.asarray(M, dtype=dtype_name), start(10).astype(dtype_name), 2.0, "G"
    )
    F = host(prepared["rows"]).T.astype(float)
    assert np.linalg.eigvalsh(M - F @ F.T)[0] > -1e-4
    assert prepared["rows"].dtype == basis.dtype == dtype_name
    np.testing.assert_allclose(host(basis.T @ basis), np.eye(10), atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_sketch_wider_than_the_rank_of_the_matrix(ops, rank, dtype_name):
    values = np.where(np.arange(16) < rank, 5.0, 0.0)
    M, _, start = spectrum(ops, values)
    basis = start(6).astype(dtype_name)
    for _ in range(3):
        prepared, basis = sketched_inverse(ops, ops.asarray(M, dtype=dtype_name), basis, 0.5, "G")
    found = inverse_of(ops, prepared, 16)
    tolerance = 2e-3 if dtype_name == "float32" else 1e-9
    np.testing.assert_allclose(found, np.linalg.inv(M + 0.5 * np.eye(16)), atol=tolerance)
    np.testing.assert_allclose(host(basis.T @ basis), np.eye(6), atol=1e-4)
