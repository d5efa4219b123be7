"""Every loss: value, derivatives, Gauss-Newton matrix and root against jax; targets, sampling,
extremes.
"""

import warnings

import numpy as np
import pytest
from draws import accepted, targets, width
from reference import (
    EXACT,
    LOSSES,
    NUMERICAL,
    close,
    host,
    over_rows,
    point_loss,
    same,
)

from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import Loss, get_loss
from gnopt.errors import ConfigError, DataError

ROWS = 12


def batch(ops, loss_name, soft, seed=0, rows=ROWS, scale=1.5):
    """The loss, outputs with some large entries, targets."""
    rng, loss = np.random.default_rng(seed), get_loss(loss_name)
    K = width(loss, 4)
    h = scale * rng.standard_normal((rows, K))
    h[::4] *= 3.0
    return loss, ops.asarray(h), ops.asarray(targets(loss, rng, rows, K, soft))


def tolerance(loss_name):
    return EXACT if loss_name in LOSSES else NUMERICAL


@pytest.fixture(params=[False, True], ids=["drawn", "soft"])
def soft(request):
    return request.param


def test_value_and_gradient(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft)
    point, limit = point_loss(loss_name), tolerance(loss_name)
    kept = h.copy(), y.copy()
    values, gradients = over_rows(point.value, h, y), over_rows(point.gradient, h, y)
    close(loss.value(ops, h, y), values, limit)
    close(loss.gradient(ops, h, y), gradients, limit)
    both = loss.value_and_gradient(ops, h, y)
    close(both[0], values, limit)
    close(both[1], gradients, limit)
    both[1][...] = 0.0  # the gradient is an array of its own
    same(h, kept[0])
    same(y, kept[1])


def test_hessian(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft)
    H = over_rows(point_loss(loss_name).hessian, h, y)
    close(loss.hessian_matrix(ops, h, y), H, tolerance(loss_name))
    v = np.random.default_rng(1).standard_normal(h.shape)
    close(
        loss.hessian_product(ops, h, y, ops.asarray(v)),
        np.einsum("nij,nj->ni", H, v),
        tolerance(loss_name),
    )


def test_gauss_newton_matrix_and_what_follows_from_it(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft)
    GN, limit = over_rows(point_loss(loss_name).gauss_newton, h, y), tolerance(loss_name)
    rng, K, R = np.random.default_rng(1), h.shape[1], loss.rank(h.shape[1])
    kept = h.copy()
    close(loss.gn_matrix(ops, h, y), GN, limit)
    close(loss.gn_diagonal(ops, h, y), np.einsum("nkk->nk", GN), limit)
    mean = host(loss.gn_mean(ops, h, y))
    assert mean.shape == ((K,) if loss.diagonal else (K, K))
    close(np.diag(mean) if loss.diagonal else mean, GN.mean(axis=0), limit)
    v = rng.standard_normal((3, *h.shape))
    close(loss.gn_product(ops, h, y, ops.asarray(v)), np.einsum("nij,...nj->...ni", GN, v), limit)
    close(loss.gn_product(ops, h, y, ops.asarray(v[0])), np.einsum("nij,nj->ni", GN, v[0]), limit)
    C = host(loss.gn_root(ops, h, y))
    assert C.shape == (R, *h.shape)
    close(np.einsum("rni,rnj->nij", C, C), GN, limit)
    s = rng.standard_normal((len(h), R))
    close(loss.gn_root_product(ops, h, y, ops.asarray(s)), np.einsum("rni,nr->ni", C, s), limit)
    same(h, kept)


def test_gauss_newton_matrix_is_positive_semidefinite(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft, rows=200, scale=4.0)
    matrices = host(loss.gn_matrix(ops, h, y))
    np.testing.assert_array_equal(matrices, matrices.transpose(0, 2, 1))
    lowest = np.linalg.eigvalsh(matrices)[:, 0]
    assert (lowest >= -1e-13 * (1.0 + np.einsum("nkk->n", matrices))).all()
    if loss.diagonal:
        off = matrices * (1.0 - np.eye(h.shape[1]))
        np.testing.assert_array_equal(off, 0.0)


def test_convex_says_that_hessian_and_gauss_newton_agree(ops, loss_name):
    loss, h, y = batch(ops, loss_name, False, rows=200)
    H, GN = host(loss.hessian_matrix(ops, h, y)), host(loss.gn_matrix(ops, h, y))
    if loss.convex:
        np.testing.assert_array_equal(H, GN)
    else:
        assert np.abs(H - GN).max() > 1e-3
        assert np.linalg.eigvalsh(H)[:, 0].min() < -1e-3


def test_mixture_formula(ops):
    """𝒢_L = (y/p² + (1−y)/(1−p)²) u uᵀ and the Hessian's two parts, from p and ∇p written out by
    hand.
    """
    loss, h, y = batch(ops, "binary_mixture", False, rows=40)
    s = 1.0 / (1.0 + np.exp(-host(h)))
    p = s[:, 0] * s[:, 1] + (1.0 - s[:, 0]) * s[:, 2]
    d = s * (1.0 - s)
    u = np.stack(
        [d[:, 0] * (s[:, 1] - s[:, 2]), s[:, 0] * d[:, 1], (1.0 - s[:, 0]) * d[:, 2]], axis=1
    )
    t = host(y)[:, 0]
    scale = t / p**2 + (1.0 - t) / (1.0 - p) ** 2
    GN = scale[:, None, None] * u[:, :, None] * u[:, None, :]
    close(loss.gn_matrix(ops, h, y), GN)
    curve = d * (1.0 - 2.0 * s)
    Hp = np.zeros((40, 3, 3))
    Hp[:, 0, 0] = curve[:, 0] * (s[:, 1] - s[:, 2])
    Hp[:, 1, 1] = s[:, 0] * curve[:, 1]
    Hp[:, 2, 2] = (1.0 - s[:, 0]) * curve[:, 2]
    Hp[:, 0, 1] = Hp[:, 1, 0] = d[:, 0] * d[:, 1]
    Hp[:, 0, 2] = Hp[:, 2, 0] = -d[:, 0] * d[:, 2]
    close(loss.hessian_matrix(ops, h, y), GN - (t / p - (1.0 - t) / (1.0 - p))[:, None, None] * Hp)
    close(loss.prediction(ops, h)[:, 0], p)
    assert loss.rank(3) == 1
    assert np.linalg.matrix_rank(GN[0]) == 1


def test_mixture_gauss_newton_is_not_its_fisher(ops):
    loss, h, y = batch(ops, "binary_mixture", False)
    fisher = over_rows(lambda row: point_loss("binary_mixture").fisher(row), h)
    assert np.abs(fisher - host(loss.gn_matrix(ops, h, y))).max() > 1e-2


def test_step_sizes_are_chosen_by_the_mean_gauss_newton_matrix_over_targets(ops, loss_name):
    """E[𝒢_L] over targets that the model draws; a loss that is no likelihood keeps its 𝒢_L."""
    loss, h, y = batch(ops, loss_name, False)
    v = ops.asarray(np.random.default_rng(3).standard_normal((2, *h.shape)))
    found = host(loss.expected_gn_product(ops, h, y, v))
    if loss_name == "binary_mixture":
        p = host(loss.prediction(ops, h))
        one, zero = (host(loss.gn_product(ops, h, ops.xp.full_like(y, t), v)) for t in (1.0, 0.0))
        expected = p * one + (1.0 - p) * zero
    else:
        other = ops.asarray(np.roll(host(y), 1, axis=0)) if loss.likelihood else y
        expected = host(loss.gn_product(ops, h, other, v))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


# ---- sampling ------------------------------------------------------------------------------------


def test_sampled_gradients_have_mean_zero_and_the_fisher_matrix_as_second_moment(ops, loss_name):
    """Within 5 standard deviations, estimated from the sample itself."""
    loss = get_loss(loss_name)
    if not loss.likelihood:
        with pytest.raises(ConfigError, match="likelihood"):
            loss.sample(ops, ops.xp.zeros((1, 2)), np.random.default_rng(0))
        return
    count, K = 40_000, width(loss, 3)
    for seed in range(3):
        h = np.random.default_rng(seed).standard_normal(K)
        rows = ops.asarray(np.tile(h, (count, 1)))
        g = host(loss.sampled_gradient(ops, rows, np.random.default_rng(100 + seed)))
        assert g.shape == rows.shape
        assert (np.abs(g.mean(axis=0)) <= 5.0 * g.std(axis=0) / count**0.5 + 1e-12).all()
        products = g[:, :, None] * g[:, None, :]
        fisher = point_loss(loss_name).fisher(h)
        if fisher is None:  # the mean Hessian at targets drawn from the model
            y = loss.sample(ops, rows, np.random.default_rng(200 + seed))
            fisher = host(loss.hessian_matrix(ops, rows[:2000], y[:2000]).mean(axis=0))
        band = 5.0 * products.std(axis=0) / count**0.5
        assert (np.abs(products.mean(axis=0) - fisher) <= band + 1e-12).all()


def test_samples_are_valid_targets_and_repeat(ops, loss_name, dtype_name):
    loss = get_loss(loss_name)
    if not loss.likelihood:
        pytest.skip("not a likelihood")
    h = ops.asarray(
        np.random.default_rng(0).standard_normal((50, width(loss, 3))), dtype=dtype_name
    )
    y = loss.sample(ops, h, np.random.default_rng(1))
    same(loss.convert_targets(host(y)), y)
    same(y, loss.sample(ops, h, np.random.default_rng(1)))
    assert y.dtype.kind == "i" or y.dtype == h.dtype
    assert loss.sampled_gradient(ops, h, np.random.default_rng(1)).dtype == h.dtype


# ---- floor, bias, error --------------------------------------------------------------------------


def test_no_output_beats_the_floor(ops, loss_name, soft):
    for scale in (0.1, 1.5, 10.0):
        loss, h, y = batch(ops, loss_name, soft, rows=200, scale=scale)
        floor = loss.floor(host(y))
        assert floor.shape == (200,)
        assert (floor <= host(loss.value(ops, h, y)) + 1e-12 * (1.0 + np.abs(floor))).all()


LINKS = {  # targets in the inside of their range, and the output that predicts them
    "squared_error": lambda rng: (y := rng.standard_normal((9, 4)), y),
    "binary_cross_entropy": lambda rng: (
        y := rng.uniform(0.01, 0.99, (9, 4)),
        np.log(y / (1.0 - y)),
    ),
    "softmax_cross_entropy": lambda rng: (y := rng.dirichlet(np.full(4, 3.0), 9), np.log(y) + 2.0),
    "poisson": lambda rng: (y := rng.uniform(0.1, 30.0, (9, 4)), np.log(y)),
}


@pytest.mark.parametrize("loss_name", LINKS)
def test_floor_is_attained_where_the_targets_are_predicted(ops, loss_name):
    loss = get_loss(loss_name)
    y, h = LINKS[loss_name](np.random.default_rng(0))
    floor, h, y = loss.floor(y), ops.asarray(h), ops.asarray(loss.convert_targets(y))
    np.testing.assert_allclose(host(loss.value(ops, h, y)), floor, rtol=1e-11, atol=1e-11)
    close(loss.gradient(ops, h, y), ops.xp.zeros_like(h))
    close(loss.prediction(ops, h), y)


def test_floor_of_hard_targets_is_zero():
    for loss_name, hard in (
        ("binary_cross_entropy", np.array([[0.0, 1.0]])),
        ("softmax_cross_entropy", np.array([[0.0, 1.0]])),
        ("softmax_cross_entropy", np.array([3])),
        ("binary_mixture", np.array([[1.0]])),
    ):
        np.testing.assert_array_equal(get_loss(loss_name).floor(hard), np.zeros(1))


def test_initial_bias_predicts_the_mean_target(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft, rows=50)
    K = h.shape[1]
    total = loss.target_sum(host(y), K)
    assert total.dtype == np.float64
    mean = total / len(y)
    bias = loss.initial_bias(mean)
    assert bias.shape == (K,)
    predicted = loss.prediction(ops, ops.asarray(bias)[None])[0]
    assert predicted.shape == mean.shape
    close(predicted, mean)
    for low in (0.0 * mean, 0.0 * mean + 1.0):  # the ends of the range stay finite
        assert np.isfinite(loss.initial_bias(low)).all()


def test_target_sums_add_up(loss_name):
    loss, h, y = batch(NumpyBackend(), loss_name, False)
    K = h.shape[1]
    close(loss.target_sum(y[:5], K) + loss.target_sum(y[5:], K), loss.target_sum(y, K), 1e-14)


def test_error_of_a_perfect_and_of_a_poor_prediction(ops, loss_name):
    loss, h, y = batch(ops, loss_name, False)
    error = host(loss.error(ops, h, y))
    assert error.shape == (len(h),)
    assert (error >= 0.0).all()
    assert np.isfinite(error).all()
    if loss.error_name == "classification error":
        assert set(error) <= {0.0, 1.0}
    else:
        difference = host(loss.prediction(ops, h) - y)
        close(error, (difference**2).sum(axis=1))


def test_integer_and_one_hot_labels_are_the_same(ops):
    loss, h, y = batch(ops, "softmax_cross_entropy", False)
    hot = loss.convert_targets(np.eye(4)[host(y)])
    for quantity in (loss.value, loss.gradient, loss.gn_matrix, loss.error):
        close(quantity(ops, h, ops.asarray(hot)), quantity(ops, h, y), 1e-13)
    close(loss.target_sum(hot, 4), loss.target_sum(host(y), 4))
    assert loss.outputs(hot) == 4
    assert loss.outputs(host(y)) == host(y).max() + 1


# ---- ends of the range ---------------------------------------------------------------------------


def test_finite_without_warnings_far_out(ops, loss_name, dtype_name, soft):
    """|h| up to 1e4 in both precisions: everything is finite, of h's precision, and without a
    warning.
    """
    loss = get_loss(loss_name)
    rng, K = np.random.default_rng(0), width(loss, 3)
    ends = [-1e4, -800.0, -104.0, -88.0, -30.0, 0.0, 30.0, 88.0, 104.0, 800.0, 1e4]
    ends = np.array(ends, dtype=dtype_name)
    h = ends[rng.integers(0, len(ends), (400, K))]
    h[:11] = ends[:, None]
    y = targets(loss, rng, len(h), K, soft)
    y = ops.asarray(y if y.dtype.kind == "i" else y.astype(dtype_name))
    h, s = ops.asarray(h), ops.xp.ones((len(h), loss.rank(K)), dtype=dtype_name)
    v = ops.xp.ones_like(h)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = {
            "value": loss.value(ops, h, y),
            "gradient": loss.gradient(ops, h, y),
            "both, value": loss.value_and_gradient(ops, h, y)[0],
            "both, gradient": loss.value_and_gradient(ops, h, y)[1],
            "prediction": loss.prediction(ops, h),
            "error": loss.error(ops, h, y),
            "gn_diagonal": loss.gn_diagonal(ops, h, y),
            "gn_matrix": loss.gn_matrix(ops, h, y),
            "gn_mean": loss.gn_mean(ops, h, y),
            "gn_product": loss.gn_product(ops, h, y, v),
            "gn_root": loss.gn_root(ops, h, y),
            "gn_root_product": loss.gn_root_product(ops, h, y, s),
            "hessian_matrix": loss.hessian_matrix(ops, h, y),
            "hessian_product": loss.hessian_product(ops, h, y, v),
        }
        if loss.likelihood:
            results["sampled_gradient"] = loss.sampled_gradient(ops, h, rng)
    for name, array in results.items():
        assert np.isfinite(host(array)).all(), name
        assert array.dtype == h.dtype, name


def test_single_precision_follows_double(ops, loss_name, soft):
    loss, h, y = batch(ops, loss_name, soft)
    single = y if y.dtype.kind == "i" else y.astype(np.float32)
    for quantity in (loss.value, loss.gradient, loss.gn_matrix, loss.hessian_matrix):
        close(quantity(ops, h.astype(np.float32), single), quantity(ops, h, y), 1e-5)


def test_saturated_values_are_exact(ops):
    """Far out, the loss is linear to rounding, and a confident wrong answer has its full cost."""

    def value(loss_name, h, y, dtype="float32"):
        return host(
            get_loss(loss_name).value(
                ops, ops.asarray(h, dtype="float32"), ops.asarray(y, dtype=dtype)
            )
        )

    sure = [[1e4, -1e4]]
    np.testing.assert_allclose(value("binary_cross_entropy", sure, [[0.0, 1.0]]), [2e4])
    np.testing.assert_allclose(value("binary_cross_entropy", sure, [[1.0, 0.0]]), [0.0], atol=1e-3)
    np.testing.assert_allclose(value("softmax_cross_entropy", sure, [1], "int64"), [2e4])
    mixed = value("binary_mixture", [[0.0, 1e4, 1e4], [1e4, -1e4, 0.0]], [[0.0], [1.0]])
    np.testing.assert_allclose(mixed, [1e4, 1e4], rtol=1e-3)


# ---- targets that cannot be right ----------------------------------------------------------------

HOSTILE = {
    "binary_cross_entropy": (
        [[0.2, 1.5]],
        [[-0.1, 0.3]],
        [[np.nan, 0.0]],
        [[np.inf, 0.0]],
        [[-np.inf, 0.0]],
    ),
    "softmax_cross_entropy": (
        [[-1]],
        [[1.5]],
        [[np.nan]],
        [[np.inf]],
        [[1e300]],
        [[0.5, 0.6]],
        [[1.5, -0.5]],
        [[np.nan, 1.0]],
        [[0.0, 0.0]],
        [[1.0, 1.0]],
    ),
    "poisson": ([[1.0, -1.0]], [[np.nan, 0.0]], [[np.inf, 1.0]]),
    "binary_mixture": ([[2.0]], [[0.5]], [[-1.0]], [[np.nan]], [[np.inf]], [[0.0, 1.0]]),
}


@pytest.mark.parametrize(
    ("loss_name", "bad"), [(name, bad) for name in HOSTILE for bad in HOSTILE[name]]
)
def test_targets_out_of_range_are_refused(loss_name, bad):
    loss = get_loss(loss_name)
    fine = np.array([[1.0, 0.0][: len(bad[0])]] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=f"loss {loss_name}.*row"):
            loss.convert_targets(np.concatenate([fine, np.array(bad, dtype=float)]))


def test_targets_of_any_shape_become_rows(loss_name):
    loss, rng = get_loss(loss_name), np.random.default_rng(0)
    column = accepted(loss, rng, 5, 1)
    rows = loss.convert_targets(column)
    assert len(rows) == 5
    np.testing.assert_array_equal(rows, loss.convert_targets(column[:, 0]))
    wide = accepted(loss, rng, 5, 6)
    if wide.shape == (5, 6):
        np.testing.assert_array_equal(
            loss.convert_targets(wide), loss.convert_targets(wide.reshape(5, 2, 3))
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32, np.bool_])
def test_labels_of_any_type_become_integers(dtype):
    labels = get_loss("softmax_cross_entropy").convert_targets(np.array([0, 1, 1], dtype=dtype))
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, [0, 1, 1])


def test_targets_keep_their_precision(loss_name, soft, dtype_name):
    loss = get_loss(loss_name)
    y = targets(loss, np.random.default_rng(0), 6, width(loss, 3), soft)
    if y.dtype.kind != "i":
        assert loss.convert_targets(y.astype(dtype_name)).dtype == dtype_name


# ---- a loss of the user's own --------------------------------------------------------------------


class Cauchy(Loss):
    """E = Σ log(1 + (h − y)²): value, gradient and a Gauss-Newton diagonal, nothing else."""

    diagonal, convex, likelihood = True, False, False

    def value(self, ops, h, y):
        return ops.xp.log1p((h - y) ** 2).sum(axis=1)

    def gradient(self, ops, h, y):
        return 2.0 * (h - y) / (1.0 + (h - y) ** 2)

    def gn_diagonal(self, ops, h, y):
        return 2.0 / (1.0 + (h - y) ** 2)


class Coupled(Loss):
    """½ (h − y)ᵀ M (h − y) with a full matrix, given as ``gn_matrix`` alone."""

    M = np.array([[2.0, 0.5], [0.5, 1.0]])

    def value(self, ops, h, y):
        return 0.5 * ((h - y) * self.gradient(ops, h, y)).sum(axis=1)

    def gradient(self, ops, h, y):
        return (h - y) @ ops.asarray(self.M)

    def gn_matrix(self, ops, h, y):
        return ops.xp.tile(ops.asarray(self.M), (len(h), 1, 1))


def test_plug_in_needs_three_methods(ops):
    rng = np.random.default_rng(0)
    h, y, s = (ops.asarray(rng.standard_normal((5, 2))) for _ in range(3))
    for plug_in in (Cauchy(), Coupled()):
        GN, C = host(plug_in.gn_matrix(ops, h, y)), host(plug_in.gn_root(ops, h, y))
        close(np.einsum("rni,rnj->nij", C, C), GN)
        close(plug_in.gn_root_product(ops, h, y, s), np.einsum("rni,nr->ni", C, host(s)))
        close(plug_in.gn_product(ops, h, y, h), np.einsum("nij,nj->ni", GN, host(h)))
        mean = host(plug_in.gn_mean(ops, h, y))
        close(np.diag(mean) if plug_in.diagonal else mean, GN.mean(axis=0))
        assert plug_in.outputs(host(y)) == 2
        close(plug_in.value_and_gradient(ops, h, y)[1], plug_in.gradient(ops, h, y))
    close(Coupled().hessian_matrix(ops, h, y), Coupled().gn_matrix(ops, h, y))


def test_what_a_plug_in_lacks_is_named(ops):
    h = ops.xp.zeros((1, 2))
    for call, word in (
        (lambda: Loss().value(ops, h, h), "value"),
        (lambda: Loss().gradient(ops, h, h), "gradient"),
        (lambda: Loss().gn_matrix(ops, h, h), "gn_matrix"),
        (lambda: Cauchy().hessian_matrix(ops, h, h), "convex"),
        (lambda: Cauchy().sample(ops, h, None), "likelihood"),
    ):
        with pytest.raises(ConfigError, match=word):
            call()


def test_the_slope_of_the_prediction(ops, loss_name):
    loss, h, _ = batch(ops, loss_name, False)
    expected = over_rows(point_loss(loss_name).prediction_jacobian, h)
    v = np.random.default_rng(5).standard_normal((3, *h.shape))
    found = loss.prediction_product(ops, h, ops.asarray(v))
    close(found, np.einsum("npk,ink->inp", expected, v), tolerance(loss_name))
    close(loss.prediction_product(ops, h, ops.asarray(v[0])), host(found)[0], 1e-13)


def test_a_mixture_predicts_the_mean_of_the_predictions(ops, loss_name):
    parts = [batch(ops, loss_name, False, seed)[1] for seed in range(3)]
    loss, _, y = batch(ops, loss_name, False)
    mixed = loss.mixture(ops, parts)
    assert mixed.shape == parts[0].shape
    mean = sum(loss.prediction(ops, part) for part in parts) / 3
    close(loss.prediction(ops, mixed), mean, 1e-12)
    close(loss.value(ops, loss.mixture(ops, parts[:1]), y), loss.value(ops, parts[0], y), 1e-12)


def test_a_mixture_of_certain_networks_stays_finite(ops, loss_name):
    loss, h, y = batch(ops, loss_name, False)
    sure = [200.0 * h, 150.0 * h]
    values = host(loss.value(ops, loss.mixture(ops, sure), y))
    assert np.isfinite(values).all()


def test_a_loss_of_its_own_prediction_must_say_how_to_mix():
    class Cubed(Loss):
        name = "cubed"

        def prediction(self, ops, h):
            return h**3

    h = np.ones((2, 1))
    with pytest.raises(ConfigError, match="cubed does not define mixture"):
        Cubed().mixture(NumpyBackend(), [h, h])
