"""Every class of block against the dense matrix of its layer: statistics, damping and solves, and
the questions that inspection asks.
"""

from dataclasses import replace

import numpy as np
import pytest
from reference import close, host, same, vec

from gnopt.curvature.blocks import (
    Block,
    DiagonalBlock,
    EigenBlock,
    FactoredSettings,
    KroneckerBlock,
    KroneckerSettings,
    LayerPlan,
    Refresh,
)
from gnopt.curvature.damping import Damping, DampingSettings, fixed
from gnopt.curvature.factors import Diagonal, Factor, Forms, Full, LowRank, second_moment, to_basis

O, I, N = 7, 5, 6  # outputs, inputs with the bias, data points
KINDS = [KroneckerBlock, EigenBlock, DiagonalBlock]
RELATIVE = Damping(DampingSettings(), 0.0, 1.0)
DAMPINGS = {"fixed": fixed(0.4), "relative": RELATIVE, "boosted": replace(RELATIVE, boost=3.0)}


def plan(ops, shape=(O, I), layer=2, dtype="float64", **facts) -> LayerPlan:
    return LayerPlan(ops, layer, shape, np.dtype(dtype), facts.pop("forms", Forms()), **facts)


def random(ops, seed, *shape):
    return ops.asarray(np.random.default_rng(seed).standard_normal(shape))


def diagonal_output(ops) -> Factor:
    return Diagonal(ops.asarray(np.random.default_rng(3).random(O) + 0.1))


# How the output factor of a layer is stored.
OUTPUTS = {
    "full": lambda ops: second_moment(ops, random(ops, 3, 9, O), 1.0, Forms()),
    "diagonal": diagonal_output,
    "blocks": lambda ops: second_moment(ops, random(ops, 3, 9, O), 1.0, Forms(3)),
    "low rank": lambda ops: LowRank(random(ops, 3, 2, O)),
}


def block_of(ops, kind, output="full", scales=True, **facts) -> tuple[Block, LayerPlan]:
    """A block with one set of statistics, prepared, and its plan."""
    layer = plan(ops, **({"forms": Forms(3 if output == "blocks" else 0)} | facts))
    block = kind.start(layer)
    block.observe_input(layer, random(ops, 1, N, I), 0.0, 1.0)
    block.observe_output(layer, OUTPUTS[output](ops), 0.0, 1.0)
    block.prepare(layer, Refresh(1, layer.period), RELATIVE)
    if scales and block.bases() is not None:
        block.observe_scales(layer, squares(ops, block, 4), 0.7, 1.0, new=True)
    return block, layer


def squares(ops, block, seed):
    """A diagonal as a curvature estimates it in the bases of a block; zero in their padding."""
    Q_G, Q_A = block.bases()
    delta, abar = random(ops, seed, N, O), random(ops, seed + 100, N, I)
    left = delta if Q_G is None else to_basis(ops, delta, Q_G)
    right = abar if Q_A is None else to_basis(ops, abar, Q_A)
    return (left * left).T @ (right * right) / N


def lists(block) -> dict[str, object]:
    """The fields of a block, to see that nothing has changed them."""
    return dict(vars(block))


def expected_dense(ops, block) -> np.ndarray:
    """The matrix that a block stands for, from its fields alone."""
    if isinstance(block, KroneckerBlock):
        return np.kron(host(block.A.dense(ops)), host(block.G.dense(ops)))
    if isinstance(block, DiagonalBlock):
        return np.diag(vec(block.scales))
    Q = np.kron(
        columns(block.basis_A.vectors, I),
        columns(block.basis_G.vectors, O),
    )
    values = block.scales if block.scale_terms else None
    if values is None:
        values = host(block.basis_G.values)[:, None] * host(block.basis_A.values)[None, :]
    return (Q * vec(values)) @ Q.T


def columns(Q, d: int) -> np.ndarray:
    """A basis as a matrix (d, d or more): its padding has columns, and no rows."""
    if Q is None:
        return np.eye(d)
    Q = host(Q)
    if Q.ndim == 2:
        return Q
    m, b, _ = Q.shape
    full = np.zeros((m * b, m * b))
    for i in range(m):
        full[i * b : (i + 1) * b, i * b : (i + 1) * b] = Q[i]
    return full[:d]


def damped_dense(ops, block, damping: Damping) -> np.ndarray:
    """The matrix that a block is to solve with."""
    if isinstance(block, KroneckerBlock):
        A, G = block.pair()
        a, g = (float(v) for v in damping.of_factors(ops, A, G))
        dense_A, dense_G = host(A.dense(ops)), host(G.dense(ops))
        return np.kron(dense_A + a * np.eye(I), dense_G + g * np.eye(O))
    if block.scale_terms:
        shift = damping.of_diagonal(ops, block.scales)
    else:
        shift = damping.of_product(ops, *block.pair())
    return expected_dense(ops, block) + float(shift) * np.eye(O * I)


def solve(ops, block, layer, damping, g):
    out = ops.xp.full(g.shape, np.nan)
    block.solve(layer, damping, g, out, ops.xp.empty)
    return out


CASES = [
    *[(kind, "full", True) for kind in KINDS],
    (EigenBlock, "full", False),
    *[(KroneckerBlock, output, True) for output in ("diagonal", "blocks", "low rank")],
    *[(EigenBlock, o, s) for o in ("diagonal", "blocks", "low rank") for s in (True, False)],
]


@pytest.fixture(
    params=CASES,
    ids=[f"{k.__name__}-{o}{'' if s else '-eigenvalues'}" for k, o, s in CASES],
)
def case(request):
    return request.param


# ---- solves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", DAMPINGS.values(), ids=DAMPINGS)
@pytest.mark.parametrize("period", [1, 10])
def test_solves_with_the_damped_block(ops, case, damping, period):
    kind, output, scales = case
    block, layer = block_of(ops, kind, output, scales, period=period)
    if isinstance(block, KroneckerBlock):  # an eigenbasis knows nothing of damping
        block.prepare(layer, Refresh(2, layer.period), damping)
    g = random(ops, 5, O, I)
    kept, before = g.copy(), lists(block)
    out = solve(ops, block, layer, damping, g)
    close(vec(out), np.linalg.solve(damped_dense(ops, block, damping), vec(g)))
    same(g, kept)
    same(solve(ops, block, layer, damping, g), out)
    assert all(value is before[name] for name, value in lists(block).items())


@pytest.mark.parametrize(("number", "noise"), [(1, 1e-4), (2, 1e-3)])
def test_the_relative_rule_damps_inputs_in_their_own_units(ops, number, noise):
    layer = plan(ops, layer=number)
    block = KroneckerBlock.start(layer)
    x = np.random.default_rng(0).standard_normal((50, I)) * [1e-3, 1.0, 1e3, 1.0, 1.0]
    x[:, -1] = 1.0
    block.observe_input(layer, ops.asarray(x), 0.0, 1.0)
    block.observe_output(layer, OUTPUTS["full"](ops), 0.0, 1.0)
    block.prepare(layer, Refresh(1, layer.period), RELATIVE)
    A, G = block.pair()
    a, g = RELATIVE.of_factors(ops, A, G)
    raised, rest = A.in_own_units(ops, a, RELATIVE.share_of_inputs, noise)
    system = np.kron(
        host(raised.dense(ops)) + float(rest) * np.eye(I),
        host(G.dense(ops)) + float(g) * np.eye(O),
    )
    right = random(ops, 5, O, I)
    close(vec(solve(ops, block, layer, RELATIVE, right)), np.linalg.solve(system, vec(right)), 1e-8)


def test_a_sketch_of_the_output_factor(ops):
    """The inverse is that of M̂, which the factor itself makes from the same basis."""
    layer = plan(ops, rank=2, period=10)
    block = KroneckerBlock.start(layer)
    first = block.sketch
    block.observe_input(layer, random(ops, 1, N, I), 0.0, 1.0)
    block.observe_output(layer, OUTPUTS["full"](ops), 0.0, 1.0)
    block.prepare(layer, Refresh(1, layer.period), RELATIVE)
    assert block.sketch is not first  # the next refresh goes on from there
    A, G = block.pair()
    a, g = RELATIVE.of_factors(ops, A, G)
    inverse, basis = G.sketched_inverse(ops, first, g, "G")
    same(block.sketch, basis)
    right = random(ops, 5, O, I)
    half = inverse.left(ops, right, ops.xp.empty((O, I)))
    expected = A.damped_inverse(ops, a, "A").right(ops, half, ops.xp.empty((O, I)))
    close(solve(ops, block, layer, RELATIVE, right), expected)


@pytest.mark.parametrize("output", ["diagonal", "blocks", "low rank"])
def test_a_planned_sketch_of_a_factor_that_is_not_full(ops, output):
    """A curvature may hand over a G of another form than the plan expects."""
    block, layer = block_of(ops, KroneckerBlock, output, rank=2, period=10)
    g = random(ops, 5, O, I)
    expected = np.linalg.solve(damped_dense(ops, block, RELATIVE), vec(g))
    close(vec(solve(ops, block, layer, RELATIVE, g)), expected)
    assert block.sketch.shape == (O, 2)


def test_sketches_of_layers_start_from_the_seed(ops):
    def first(**facts):
        return KroneckerBlock.start(plan(ops, rank=2, **facts)).sketch

    same(first(seed=3), first(seed=3))
    assert not (first(seed=3) == first(seed=4)).all()
    assert not (first(layer=1) == first(layer=2)).all()
    close(first().T @ first(), np.eye(2))
    assert KroneckerBlock.start(plan(ops)).sketch is None


# ---- the calendar --------------------------------------------------------------------------------


def due(k, side=0, age=100, force=False, period=10, slots=(3, 7)) -> bool:
    fake = LayerPlan(None, 1, (1, 1), np.dtype("float64"), Forms(), period, slots)
    return Refresh(k, fake.period, force).due(fake, side, age)


def test_refreshes_are_made_at_once_at_first_and_at_their_slot_later():
    assert all(due(k, age=1) for k in (1, 2, 3))
    assert [age for age in range(1, 6) if due(16, age=age)] == [4, 5]  # after k // 4
    assert [k for k in range(40, 60) if due(k, side=0)] == [43, 53]
    assert [k for k in range(40, 60) if due(k, side=1)] == [47, 57]
    assert all(due(k, force=True) for k in range(40, 60))
    assert all(due(k, period=1, slots=(0, 0)) for k in range(1, 60))


@pytest.mark.parametrize("kind", [KroneckerBlock, EigenBlock])
def test_prepare_follows_the_calendar(ops, kind):
    block, layer = block_of(ops, kind, period=10, slots=(3, 7))

    def held():
        if kind is KroneckerBlock:
            return block.inverse_A, block.inverse_G
        return block.basis_A, block.basis_G

    for k, new in ((41, (False, False)), (43, (True, False)), (47, (False, True))):
        before = held()
        block.prepare(layer, Refresh(k, layer.period), RELATIVE)
        assert tuple(a is not b for a, b in zip(before, held(), strict=True)) == new
    before = held()
    block.prepare(layer, Refresh(48, layer.period, force=True), RELATIVE)
    assert all(a is not b for a, b in zip(before, held(), strict=True))
    assert (block.age_A, block.age_G) == (0, 0)


def test_a_new_basis_forgets_the_diagonal_in_the_old_one(ops):
    block, layer = block_of(ops, EigenBlock, period=10, slots=(3, 7))
    assert block.scale_terms == 1
    block.prepare(layer, Refresh(41, layer.period), RELATIVE)
    assert block.scale_terms == 1
    block.prepare(layer, Refresh(43, layer.period), RELATIVE)
    assert block.scale_terms == 0
    close(block.diagonal(), block.basis_G.values[:, None] * block.basis_A.values[None, :])


# ---- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KroneckerBlock, EigenBlock])
def test_averages_of_the_factors(ops, kind):
    layer, block = plan(ops), kind.start(plan(ops))
    A = G = 0.0
    for seed, keep in enumerate((0.0, 0.5, 0.7)):
        abar, delta = random(ops, seed, N, I), random(ops, 10 + seed, N, O)
        block.observe_input(layer, abar, keep, 1.0 - keep)
        block.observe_output(layer, Full(delta.T @ delta), keep, 1.0 - keep)
        A = keep * A + (1.0 - keep) * (abar.T @ abar) / N
        G = keep * G + (1.0 - keep) * delta.T @ delta
    close(block.A.dense(ops), A)
    close(block.G.dense(ops), G)
    assert block.pair() == (block.A, block.G)


@pytest.mark.parametrize("kind", [EigenBlock, DiagonalBlock])
def test_averages_of_the_diagonal(ops, kind):
    """Parts of a batch add up by their shares; batches average with bias correction."""
    block, layer = block_of(ops, kind, scales=False)
    S = [ops.xp.abs(random(ops, seed, O, I)) for seed in range(4)]
    first = 0.25 * S[0] + 0.75 * S[1]
    for i, share in enumerate((0.25, 0.75)):
        block.observe_scales(layer, S[i].copy(), 0.9, share, new=i == 0)
    close(block.diagonal(), first)
    held = block.diagonal()
    kept = held.copy()
    block.observe_scales(layer, S[2].copy(), 0.9, 1.0, new=True)
    close(block.diagonal(), 0.5 * first + 0.5 * S[2])  # β₂ = 1 − 1/2
    same(held, kept)
    block.observe_scales(layer, S[3].copy(), 0.2, 1.0, new=True)
    close(block.diagonal(), 0.2 * (0.5 * first + 0.5 * S[2]) + 0.8 * S[3])


def test_a_copy_of_a_block_is_a_state_to_go_back_to(ops, case):
    kind, output, scales = case
    block, layer = block_of(ops, kind, output, scales)
    mark = replace(block)
    before = host(mark.to_dense(layer)).copy()
    block.observe_input(layer, random(ops, 11, N, I), 0.5, 0.5)
    block.observe_output(layer, OUTPUTS[output](ops), 0.5, 0.25)
    block.prepare(layer, Refresh(1, layer.period), RELATIVE)
    if block.bases() is not None:
        block.observe_scales(layer, squares(ops, block, 12), 0.7, 1.0, new=True)
    assert not np.allclose(host(block.to_dense(layer)), before)
    same(mark.to_dense(layer), before)


# ---- questions -----------------------------------------------------------------------------------


def test_questions_about_the_block(ops, case):
    kind, output, scales = case
    block, layer = block_of(ops, kind, output, scales)
    dense = expected_dense(ops, block)
    close(block.to_dense(layer), dense)
    assert block.trace(ops) == pytest.approx(np.trace(dense), rel=1e-10)
    assert block.square(ops) == pytest.approx((dense * dense).sum(), rel=1e-10)
    assert block.nbytes > 0
    assert (block.pair() is None) == (kind is DiagonalBlock)
    assert (block.diagonal() is None) == (kind is KroneckerBlock)
    assert kind.factored == (kind is not DiagonalBlock)


def test_quadratic_forms_of_the_block(ops, case):
    kind, output, scales = case
    block, _ = block_of(ops, kind, output, scales)
    dense = expected_dense(ops, block)
    abar, c = random(ops, 6, N, I), random(ops, 7, 3, N, O)
    V = np.einsum("ni,snk->snik", host(abar), host(c)).reshape(3, N, I * O)
    close(block.quadratic(ops, abar, c), np.einsum("snp,pq,snq->s", V, dense, V) / N)


def test_inner_products_with_the_block(ops, case):
    kind, output, scales = case
    block, _ = block_of(ops, kind, output, scales)
    dense = expected_dense(ops, block)
    abar, M = random(ops, 6, N, I), random(ops, 7, N, O, O)
    M = M + M.transpose(0, 2, 1)
    a = host(abar)
    exact = sum(np.kron(np.outer(a[n], a[n]), host(M)[n]) for n in range(N)) / N
    assert block.inner(ops, abar, M) == pytest.approx(float((dense * exact).sum()), rel=1e-9)


@pytest.mark.parametrize("kind", [KroneckerBlock, EigenBlock])
def test_a_block_of_given_factors(ops, kind):
    A = second_moment(ops, random(ops, 1, N, I), 1.0, Forms())
    G = OUTPUTS["full"](ops)
    block = kind.of_factors(plan(ops), A, G)
    expected = np.kron(host(A.dense(ops)), host(G.dense(ops)))
    close(block.to_dense(plan(ops)), expected)
    assert DiagonalBlock.of_factors(plan(ops), A, None).diagonal() is None


# ---- settings and cost ---------------------------------------------------------------------------


def test_exact_damping_takes_eigenbases():
    assert KroneckerBlock.chosen(KroneckerSettings()) is KroneckerBlock
    assert KroneckerBlock.chosen(KroneckerSettings(damping_split="exact")) is EigenBlock
    assert EigenBlock.chosen(FactoredSettings()) is EigenBlock


def test_the_rank_of_a_sketch():
    damping, settings = DampingSettings(), KroneckerSettings()
    assert settings.sketch_rank(512, damping) == 64
    assert settings.sketch_rank(255, damping) == 0  # as fast whole
    assert settings.sketch_rank(4096, damping) == 0  # in blocks
    assert settings.changed(sketch_g=1.0).sketch_rank(512, damping) == 0
    assert settings.changed(damping_split="exact").sketch_rank(512, damping) == 0
    for rule in ({"damping_rule": "fixed"}, {"damping_g": 0.5}):
        assert settings.sketch_rank(512, DampingSettings(**rule)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0, 3])
def test_cost_is_positive_and_less_where_less_is_done(ops, kind, width):
    whole = kind.cost(plan(ops, period=10, forms=Forms(width)))
    diagonal = kind.cost(plan(ops, period=10, forms=Forms(width), diagonal_G=True))
    assert whole.bytes > 0.0
    if kind is DiagonalBlock:
        assert (whole.refresh, whole.solve) == (0.0, 0.0)
        return
    assert whole.refresh > diagonal.refresh > 0.0
    assert whole.solve > diagonal.solve > 0.0
    assert whole.bytes > diagonal.bytes
    if width:
        assert whole.refresh < kind.cost(plan(ops, period=10)).refresh
    if kind is KroneckerBlock:
        assert kind.cost(plan(ops, period=1, forms=Forms(width))).refresh < whole.refresh


@pytest.mark.parametrize("kind", [KroneckerBlock, EigenBlock])
@pytest.mark.parametrize("side", ["A", "G"])
def test_a_factor_that_cannot_be_inverted_counts_by_its_diagonal(ops, kind, side):
    """Rounding can leave a factor that is not positive definite, and overflow one that is not
    finite; the next statistics start anew then.
    """
    if kind is EigenBlock and ops.queued:
        pytest.skip("an eigendecomposition exists of every symmetric matrix")
    for value in (-5.0, np.inf):
        layer = plan(ops)
        block = kind.start(layer)
        block.observe_input(layer, random(ops, 1, N, I), 0.0, 1.0)
        block.observe_output(layer, OUTPUTS["full"](ops), 0.0, 1.0)
        M = getattr(block, side).dense(ops).copy()
        M[0, 1] = M[1, 0] = value if np.isfinite(value) else 0.0
        M[2, 2] = abs(value)
        setattr(block, side, Full(M))
        with np.errstate(all="ignore"):
            block.prepare(layer, Refresh(1, layer.period), RELATIVE)
            out = host(solve(ops, block, layer, RELATIVE, random(ops, 5, O, I)))
        kept = host(getattr(block, side).dense(ops))
        if np.isfinite(value):
            same(kept, host(M))
            assert np.isfinite(out).all()
        else:
            same(kept, np.zeros_like(kept))


def test_a_dead_input_has_a_unit_where_its_factor_counts_by_the_diagonal(ops):
    """In own units nothing is added for all inputs alike, so that 1 / 0 would be left."""
    layer = plan(ops)
    A = np.diag([1e-6, 1e-6, 0.0, 1e-6, 1.0])
    A[0, 1] = A[1, 0] = -1.0  # not positive definite
    block = KroneckerBlock.of_factors(layer, Full(ops.asarray(A)), OUTPUTS["full"](ops))
    block.prepare(layer, Refresh(1, layer.period), RELATIVE)
    assert np.isfinite(host(solve(ops, block, layer, RELATIVE, random(ops, 5, O, I)))).all()
