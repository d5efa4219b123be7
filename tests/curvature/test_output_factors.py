"""Every curvature against dense truth: where its Kronecker product is exact, and where it is
not.
"""

import warnings

import numpy as np
import pytest
from draws import least_width
from reference import (
    EXACT,
    Truth,
    close,
    curvature,
    distance,
    host,
    make_case,
    network,
    over_rows,
    point_loss,
    same,
    sample_of,
    standard,
)

from gnopt.curvature import all_curvatures, get_curvature
from gnopt.curvature.factors import Blocks, Forms, Full, LowRank
from gnopt.engine.arrays import Workspace
from gnopt.engine.losses import get_loss
from gnopt.errors import ConfigError

BOTEV = ["kflr", "kfra"]
EXACT_FOR_ONE_POINT = [name for name, c in all_curvatures().items() if c.exact_at_one_point]
NOT_CONSTANT = [
    "binary_cross_entropy",
    "softmax_cross_entropy",
    "poisson",
    "binary_mixture",
]  # 𝒢_L varies


SAMPLE = ("seed", "memory", "workspace", "rows", "forms")


def factors(case, name, **arguments):
    """G_1..G_L as full matrices of the host, copied."""
    given = {k: v for k, v in arguments.items() if k in SAMPLE}
    options = {k: v for k, v in arguments.items() if k not in SAMPLE}
    found = curvature(name, **options).output_factors(sample_of(case, **given))
    return [host(G.dense(case.ops)).copy() for G in found]


def inputs(case, rows=slice(None)):
    """A_0..A_{L-1} as full matrices of the host."""
    sample = sample_of(case, rows=rows)
    layers = range(1, case.net.layers + 1)
    return [host(sample.input_factor(l).dense(case.ops)) for l in layers]


def deterministic(name):
    """Whether the factors do not depend on the random stream."""
    case, _ = standard("tanh", "binary_cross_entropy")
    first, second = factors(case, name, seed=1), factors(case, name, seed=2)
    return all((a == b).all() for a, b in zip(first, second, strict=True))


WITH_FACTORS = [name for name, kind in all_curvatures().items() if kind.block.factored]
DETERMINISTIC = list(filter(deterministic, WITH_FACTORS))


def truth_of(name, truth, seed=0):
    """The factors a sibling should find, from per-point derivatives; None for one not known
    here.
    """
    if name == "kflr":
        return truth.kflr()
    if name == "kfra":
        return truth.kfra()
    if name == "empirical_fisher":
        return truth.moments(truth.slope)
    if name in ("kfac", "ekfac"):
        drawn = truth.sampled_gradient(np.random.default_rng(seed))
        return truth.moments(drawn)
    return None


# ---- the factors themselves ----------------------------------------------------------------------


def test_factors(ops, curvature_name, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    expected = truth_of(curvature_name, truth)
    if expected is None:
        pytest.skip("no truth by this name")
    for actual, G in zip(factors(case, curvature_name), expected, strict=True):
        case.check(actual, G)


def test_factors_are_symmetric_and_positive_semidefinite(
    ops, curvature_name, loss_name, dtype_name
):
    case = make_case(
        (5, 4, 1, 6, 3), ("tanh", "relu", "silu"), loss_name, 9, dtype=dtype_name, ops=ops
    )
    eps = np.finfo(dtype_name).eps
    raw = curvature(curvature_name).output_factors(sample_of(case))
    for factor, d in zip(raw, case.net.sizes[1:], strict=True):
        assert factor.dimension == d
        G = host(factor.dense(ops))
        assert G.dtype == dtype_name
        close(G, G.T, 20 * eps)
        assert np.linalg.eigvalsh(G.astype(float))[0] >= -50 * eps * np.trace(G)


def test_looking_changes_nothing(ops, curvature_name, loss_name):
    """Tape and weights are as before; a workspace does not show; the same seed gives the same
    bits.
    """
    case, _ = standard("softplus", loss_name, ops=ops)
    workspace = Workspace(ops, np.float64)
    sample, kind = sample_of(case, workspace=workspace), curvature(curvature_name)
    before = [a.copy() for a in (*sample.tape.abar, sample.tape.output, *sample.W)]
    first = [host(G.dense(ops)).copy() for G in kind.output_factors(sample)]
    for a, b in zip((*sample.tape.abar, sample.tape.output, *sample.W), before, strict=True):
        same(a, b)
    sample.rng = np.random.default_rng(0)
    second = kind.output_factors(sample)
    for a, b, c in zip(first, second, factors(case, curvature_name), strict=True):
        same(b.dense(ops), a)
        same(a, c)


def test_input_factors(ops, activation_name):
    case, truth = standard(activation_name, "squared_error", ops=ops)
    for layer, A in enumerate(inputs(case), start=1):
        case.check(A, truth.input_factor(layer))
        close(A, A.T, 0.0 if ops.on_host else 1e-15)  # NumPy mirrors a triangle
        close(A[-1, -1], 1.0, 1e-15)


# ---- where the Kronecker product is the Gauss-Newton block, and where it is not ------------------


def distances(case, truth, name, rows=slice(None)):
    """Relative distance of A ⊗ G to the dense Gauss-Newton block, by layer."""
    GN = truth.gauss_newton()
    return [
        distance(np.kron(a, g), truth.block(GN, layer + 1))
        for layer, (a, g) in enumerate(
            zip(inputs(case, rows), factors(case, name, rows=rows), strict=True)
        )
    ]


@pytest.mark.parametrize("curvature_name", EXACT_FOR_ONE_POINT)
def test_one_data_point_is_exact(ops, curvature_name, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, rows=1, ops=ops)
    limit = 1e-12 if case.tolerance == EXACT else case.tolerance
    assert max(distances(case, truth, curvature_name)) < limit


def test_which_curvatures_are_exact_at_one_data_point():
    assert set(EXACT_FOR_ONE_POINT) >= set(BOTEV)


@pytest.mark.parametrize("curvature_name", BOTEV)
def test_linear_net_with_squared_error_is_exact(ops, curvature_name):
    case, truth = standard("identity", "squared_error", ops=ops)
    assert max(distances(case, truth, curvature_name)) < 1e-12


@pytest.mark.parametrize("curvature_name", BOTEV)
@pytest.mark.parametrize("loss_name", NOT_CONSTANT)
def test_linear_net_with_another_loss_is_not(ops, curvature_name, loss_name):
    """Proves that the comparison can fail: the output matrix differs between data points."""
    case, truth = standard("identity", loss_name, ops=ops)
    assert max(distances(case, truth, curvature_name)) > 1e-2


@pytest.mark.parametrize("curvature_name", BOTEV)
def test_curved_net_with_several_points_is_not(ops, curvature_name):
    case, truth = standard("tanh", "squared_error", ops=ops)
    assert max(distances(case, truth, curvature_name)) > 1e-2


def test_kflr_is_the_exact_mean_and_kfra_is_not(ops):
    case, truth = standard("tanh", "softmax_cross_entropy", ops=ops)
    for exact, recursive in zip(truth.kflr()[:-1], factors(case, "kfra")[:-1], strict=True):
        assert distance(recursive, exact) > 1e-3
    case, truth = standard(
        "identity", "softmax_cross_entropy"
    )  # a linear net lets the mean through
    for exact, recursive in zip(truth.kflr(), factors(case, "kfra"), strict=True):
        case.check(recursive, exact)


# ---- invariances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature_name", DETERMINISTIC)
def test_copies_of_a_data_point_are_the_data_point(ops, curvature_name, loss_name):
    case, _ = standard("tanh", loss_name, ops=ops)
    once, often = (
        factors(case, curvature_name, rows=slice(2, 3)),
        factors(case, curvature_name, rows=[2] * 5),
    )
    for a, b in zip(once, often, strict=True):
        close(b, a, 1e-13)


@pytest.mark.parametrize("curvature_name", DETERMINISTIC)
def test_order_of_the_batch_does_not_matter(ops, curvature_name, loss_name):
    case, _ = standard("tanh", loss_name, ops=ops)
    for a, b in zip(
        factors(case, curvature_name),
        factors(case, curvature_name, rows=[3, 1, 5, 0, 4, 2]),
        strict=True,
    ):
        close(b, a, 1e-13)


@pytest.mark.parametrize("curvature_name", DETERMINISTIC)
def test_memory_bounds_temporaries_and_changes_nothing(ops, curvature_name, loss_name):
    case = make_case((4, 3, 5, 6), ("tanh", "gelu"), loss_name, 11, ops=ops)
    plenty = factors(case, curvature_name)
    for memory in (1, 700, 2000):
        for a, b in zip(plenty, factors(case, curvature_name, memory=memory), strict=True):
            close(b, a, 1e-13)


def test_means_of_halves_are_the_mean(ops, loss_name):
    """KFLR and the empirical Fisher are means over data points; KFRA is not, once past the output
    layer.
    """
    case, _ = standard("tanh", loss_name, ops=ops)
    for name in ("kflr", "empirical_fisher"):
        whole, first, second = (
            factors(case, name, rows=r) for r in (slice(None), slice(0, 3), slice(3, 6))
        )
        for a, b, c in zip(whole, first, second, strict=True):
            close(0.5 * (b + c), a, 1e-13)
    whole, first, second = (
        factors(case, "kfra", rows=r) for r in (slice(None), slice(0, 3), slice(3, 6))
    )
    assert distance(0.5 * (first[0] + second[0]), whole[0]) > 1e-4


def test_sample_takes_rows_as_views(ops):
    case, _ = standard("gelu", "softmax_cross_entropy", ops=ops)
    sample = sample_of(case)
    part = sample.take(slice(2, 5))
    assert part.tape.rows == 3
    same(part.y, case.y[2:5])
    same(part.tape.h[0], sample.tape.h[0][2:5])
    part.tape.output[...] = 7.0
    assert (sample.tape.output[2:5] == 7.0).all()


# ---- low rank ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [(3, 4, 2, 5, 9), (3, 6, 1, 7), (2, 5, 3, 1, 4, 12), (3, 2, 2, 2, 8)]
)
def test_recompressed_columns_are_exact(ops, sizes, loss_name):
    """Layers narrower than half the columns of the root: what lies before them still gets the exact
    mean.
    """
    case = make_case(
        sizes,
        ["tanh", "sigmoid", "elu", "softplus"][: len(sizes) - 2],
        loss_name,
        4,
        soft=True,
        ops=ops,
    )
    for actual, G in zip(factors(case, "kflr"), Truth(case).kflr(), strict=True):
        case.check(actual, G)


def test_rank_of_the_factors_is_bounded_by_rank_times_points(ops, loss_name):
    """rank(GN over N points) ≤ N rank(𝒢_L)."""
    case = make_case((3, 12, 3), ("tanh",), loss_name, 2, ops=ops)
    bound = 2 * case.loss.rank(case.net.sizes[-1])
    assert np.linalg.matrix_rank(factors(case, "kflr")[0], tol=1e-10) <= bound


def test_as_many_columns_as_the_rank_means_exact(ops, loss_name):
    case, _ = standard("tanh", loss_name, ops=ops)
    exact = factors(case, "kflr")
    for columns in (case.loss.rank(case.net.sizes[-1]), 50):
        for a, b in zip(factors(case, "kflr", columns=columns), exact, strict=True):
            same(a, b)


# Layers whose blocks are those of the whole factor: KFRA passes back what it kept, so that only its
# two upper layers show them. Of other methods nothing is known.
SAME_BLOCKS = dict.fromkeys(("kflr", "kfac", "ekfac", "empirical_fisher"), (0, 1, 2)) | {
    "kfra": (1, 2)
}


def test_narrow_forms_keep_the_blocks_of_the_factors(ops, curvature_name, loss_name):
    """With ``factor_width`` a factor is the diagonal blocks of the whole one."""
    case = make_case((4, 5, 6, 3), ("tanh", "gelu"), loss_name, 9, ops=ops)
    whole = factors(case, curvature_name)
    if case.net.sizes[-1] > 3:  # the loss has widened the output layer
        pytest.skip("the output factor would be cut as well")
    found = curvature(curvature_name).output_factors(sample_of(case, forms=Forms(3)))
    for G in found:
        if isinstance(G, (Full, Blocks)):
            assert max(len(block) for _, block in G.pieces()) <= 3
    narrow = factors(case, curvature_name, forms=Forms(3))
    for l in SAME_BLOCKS.get(curvature_name, ()):
        d = len(whole[l])
        label = np.arange(d) // 3
        close(narrow[l], whole[l] * (label[:, None] == label[None, :]), 1e-13)


KEPT_AS_ROWS = {"kfac": True, "ekfac": True, "empirical_fisher": True, "kflr": False, "kfra": False}


def test_few_rows_stay_rows(ops, curvature_name, loss_name):
    """Fewer rows than half a layer's width are kept as they are where nothing is averaged."""
    case = make_case((4, 9, 8, 3), ("tanh", "gelu"), loss_name, 3, ops=ops)
    found = curvature(curvature_name).output_factors(sample_of(case, forms=Forms(low_rank=True)))
    if curvature_name in KEPT_AS_ROWS:
        kept = KEPT_AS_ROWS[curvature_name]
        assert [isinstance(G, LowRank) for G in found[:2]] == [kept, kept]
    for G, whole in zip(found, factors(case, curvature_name), strict=True):
        close(G.dense(ops), whole, 1e-13)


# ---- Monte Carlo ---------------------------------------------------------------------------------


def mean_and_band(case, name, draws, **changes):
    """Mean of independent factors and five standard deviations of that mean, by layer."""
    drawn = [factors(case, name, seed=seed, **changes) for seed in range(draws)]
    stacks = [np.stack(layer) for layer in zip(*drawn, strict=True)]
    return [(s.mean(axis=0), 5.0 * s.std(axis=0) / draws**0.5 + 1e-12) for s in stacks]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("loss_name", ["squared_error", *NOT_CONSTANT[:-1]])
def test_sketch_is_unbiased(ops, loss_name, columns):
    case, truth = standard("tanh", loss_name, ops=ops)
    for (mean, band), G in zip(
        mean_and_band(case, "kflr", 300, columns=columns), truth.kflr(), strict=True
    ):
        assert (np.abs(mean - G) <= band).all()


def test_sampled_fisher_tends_to_the_fisher(ops, loss_name):
    """Which is KFLR's matrix where the Fisher is 𝒢_L, and is not for the mixture."""
    if not get_loss(loss_name).likelihood:
        pytest.skip("needs a likelihood")
    case, truth = standard("sigmoid", loss_name, ops=ops)
    if point_loss(loss_name).fisher(truth.output[0]) is None:
        pytest.skip("no truth by this name")
    fisher = over_rows(point_loss(loss_name).fisher, truth.output)
    estimates = mean_and_band(case, "kfac", 400, samples=1)
    for (mean, band), S, G in zip(estimates, truth.S, truth.kflr(), strict=True):
        expected = np.einsum("nki,nkj,njm->im", S, fisher, S) / len(S)
        assert (np.abs(mean - expected) <= band).all()
        if loss_name == "binary_mixture":
            assert (np.abs(mean - G) > band).any()
        else:
            close(expected, G, 1e-12)


def test_samples_average(ops, loss_name):
    if not get_loss(loss_name).likelihood:
        pytest.skip("needs a likelihood")
    case, truth = standard("tanh", loss_name, ops=ops)
    rng, total = np.random.default_rng(3), 0.0
    for _ in range(4):
        total = total + truth.moments(truth.sampled_gradient(rng))[0] / 4
    close(factors(case, "kfac", seed=3, samples=4)[0], total)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3), (1, 1), (2, 1, 1), (1, 1, 1, 2)])
@pytest.mark.parametrize("rows", [1, 2])
def test_smallest_nets(ops, curvature_name, loss_name, sizes, rows):
    sizes = (*sizes[:-1], max(sizes[-1], least_width(get_loss(loss_name))))
    case = make_case(sizes, ["tanh"] * (len(sizes) - 2), loss_name, rows, ops=ops)
    found = factors(case, curvature_name)
    expected = truth_of(curvature_name, Truth(case)) or found
    for G, E in zip(found, expected, strict=True):
        case.check(G, E)


def test_far_outputs_stay_finite(ops, curvature_name, loss_name, dtype_name):
    """Outputs of ±1e4: the factors may vanish, they may not be NaN, and NumPy has nothing to warn
    of.
    """
    case = make_case((4, 5, 3), ("tanh",), loss_name, 8, dtype=dtype_name, ops=ops)
    case.W[-1][:, -1] = ops.asarray(np.resize([1e4, -1e4], len(case.W[-1])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for G in factors(case, curvature_name):
            assert np.isfinite(G).all()
            assert G.dtype == dtype_name


def test_flops_do_not_fall_with_the_rows(curvature_name, loss_name):
    net, loss = network((30, 20, 10, 40), ("tanh", "tanh")), get_loss(loss_name)
    few, many = (curvature(curvature_name).flops(net, loss, rows) for rows in (100, 1000))
    assert many >= few >= 0.0


def test_sampling_needs_a_likelihood(ops, curvature_name):
    class NoModel(type(get_loss("squared_error"))):
        name, likelihood = "no_model", False

        def sample(self, ops, h, rng):
            raise ConfigError("not a likelihood")

    case, _ = standard("tanh", "squared_error", ops=ops)
    sample = sample_of(case)
    sample.loss = NoModel()
    if get_curvature(curvature_name).needs_likelihood:
        with pytest.raises(ConfigError, match="likelihood"):
            curvature(curvature_name).output_factors(sample)
    else:
        assert len(curvature(curvature_name).output_factors(sample)) == 3
