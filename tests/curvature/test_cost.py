"""The account of cost: formulas against counts by hand, and against the products really made."""

import numpy as np
import pytest
from counted_products import CountingBackend, Tally
from reference import (
    curvature,
    make_case,
    network,
    optimizer,
    sample_of,
    settings,
)

from gnopt.curvature import all_curvatures, cost
from gnopt.curvature.blocks import DiagonalBlock, EigenBlock, KroneckerBlock, LayerPlan, Refresh
from gnopt.curvature.damping import Damping, DampingSettings
from gnopt.curvature.factors import Diagonal, Forms, LowRank, pieces, second_moment
from gnopt.engine.arrays import Workspace
from gnopt.engine.losses import get_loss
from gnopt.engine.network import forward, gn_vector
from gnopt.optimizers import make
from gnopt.optimizers.base import Problem, loss_and_gradient
from gnopt.optimizers.quadratic import curvature_products
from gnopt.optimizers.timing import PHASES, Stopwatch
from peers.problems import FULL

DEEP = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
TINY = (3, 4, 2, 5)  # augmented inputs 4, 5, 3


# ---- by hand, product by product -----------------------------------------------------------------


def test_passes_by_hand():
    weights = 4 * 4 + 2 * 5 + 5 * 3
    assert cost.forward(TINY, 7) == 2 * 7 * weights
    through = 2 * 7 * (2 * 4 + 5 * 2)  # δ through the weights of layers 2 and 3, not of layer 1
    assert cost.backward(TINY, 7) == 2 * 7 * weights + through
    assert cost.quadratic_model(TINY, 7, 3) == 3 * cost.backward(TINY, 7) + 2 * 9 * 7 * 5
    assert cost.gn_vector(TINY, 7) == 2 * (2 * 7 * weights + through)


def test_second_derivative_of_the_outputs_by_hand():
    weights, upper = 4 * 4 + 2 * 5 + 5 * 3, 2 * 4 + 5 * 2
    assert cost.second_r_forward(TINY, 7) == 2 * 7 * weights + 3 * 2 * 7 * upper
    spared = 2 * 7 * 2 * 4  # no R²{a_1} goes through the weights of layer 2
    assert cost.second_r_forward(TINY, 7) - cost.second_r_forward(TINY, 7, linear=True) == spared
    assert cost.second_r_forward((3, 2), 7, linear=True) == 2 * 7 * 2 * 4


def test_factors_by_hand():
    assert cost.input_factors(TINY, 7) == 7 * (16 + 25 + 9)
    assert cost.input_factors(TINY, 7, first_known=True) == 7 * (25 + 9)
    assert cost.input_factors(TINY, 7, width=3) == 7 * (2 * 4 + (9 + 4) + 9)
    # Layer 2 from layer 3 (5 above 2): G W is 2·5·5·2, its product with Wᵀ 2·5·2·2; then 2 above 4.
    assert cost.recursion(TINY, diagonal=False) == (100 + 40) + (2 * 2 * 2 * 4 + 2 * 2 * 4 * 4)
    assert cost.recursion(TINY, diagonal=True) == 5 * 2 * 2 + (32 + 64)
    assert cost.kfra_factors(TINY, 7, diagonal=True) == 7 * (16 + 4) + 116
    assert cost.kfra_factors(TINY, 7, diagonal=False) == 7 * (16 + 4 + 25) + 236
    one = 2 * 7 * (8 + 10) + 7 * (16 + 4 + 25)
    assert cost.column_factors(TINY, 7, 3) == 3 * one
    assert cost.column_factors(TINY, 7, 3, output=False) == 3 * (one - 7 * 25)


def test_exact_kflr_by_hand():
    # 5 columns: moments in 5, 5·2 through layer 3, moments in 2; 2·2 < 5, so the small matrices'
    # roots; 2 columns on to layer 1.
    dense = (
        7 * 5 * 25
        + 2 * 7 * 5 * (5 * 2)
        + 7 * 5 * 4
        + 7 * (2 * 5 * 4 + 9 * 8)
        + 2 * 7 * 2 * (2 * 4)
        + 7 * 2 * 16
    )
    assert cost.kflr_factors(TINY, 7, 5, diagonal=False) == dense
    assert cost.kflr_factors(TINY, 7, 5, diagonal=True) == dense - 7 * 5 * 25 - 2 * 7 * 5 * 10


def test_one_factor_by_hand():
    assert cost.cholesky(6) == pytest.approx(6**3 / 3)
    assert (cost.inverse(6), cost.eigenbasis(6)) == (6**3, 9 * 6**3)
    assert (cost.multiply(6, 5), cost.numbers(6)) == (2 * 6 * 6 * 5, 6 * 6)
    # Width 4 makes blocks of 4, 4 and, padded, 4 of dimension 11; width 3 blocks of 3, 3, 3 and 3.
    assert (cost.inverse(11, 4), cost.inverse(11, 3)) == (3 * 4**3, 4 * 3**3)
    assert cost.cholesky(11, 4) == pytest.approx(3 * 4**3 / 3)
    assert cost.second_moment(7, 11, 4) == 7 * (16 + 16 + 9)
    assert (cost.multiply(11, 5, 4), cost.numbers(11, 4)) == (2 * 11 * 4 * 5, 3 * 16)
    assert cost.inverse(6, 6) == cost.inverse(6, 100) == cost.inverse(6)
    assert cost.sketch(30, 3) == pytest.approx(2 * 900 * 3 + 8 * 30 * 9 + 4 / 3 * 27)


def phases(method_name, sizes=DEEP, loss_name="binary_cross_entropy", rows=1000, **changes):
    """What an average update of a method costs by phase."""
    net = network(sizes, ["tanh"] * (len(sizes) - 2))
    problem = Problem(net, get_loss(loss_name), seed=0, rows=rows)
    return make(method_name, problem, settings(method_name, **changes)).cost(rows).phases


def test_an_update_of_the_deep_autoencoder():
    """KFRA with everything from all 1,000 rows in every update, in Gflop."""
    found = {name: flops * 1e-9 for name, flops in phases("kfra", **FULL).items()}
    expected = {
        "passes": 5.67 + 9.76,
        "statistics": 3.25 + 2.63 + 4.17,  # A, slopes, recursion
        "inverses": 1.69,
        "solve": 7.77,
        "model": 9.76,
    }
    assert found == pytest.approx(expected, rel=5e-3)


def test_cost_of_methods_follows_their_settings():
    full = phases("kfra", **FULL)
    half = phases("kfra", **(FULL | {"factor_period": 2, "model_rows": 0.5}))
    assert half["statistics"] == full["statistics"] / 2
    assert half["model"] == full["model"] / 2
    assert phases("adam") == {"passes": full["passes"]}
    explicit = phases("kfra", **(FULL | {"inverse_period": 3}))
    assert explicit["inverses"] == pytest.approx(full["inverses"])  # inverses are 3 of Cholesky
    judged = phases("kfra", **(FULL | {"damping_rule": "lm", "damping_period": 4}))
    assert judged["passes"] == full["passes"] + cost.forward(DEEP, 1000) / 4


# ---- against the products really made ------------------------------------------------------------

OPS = CountingBackend()
SIZES, ROWS = (40, 30, 20, 10), 200
NARROW = (40, 30, 4, 20, 12)  # below the layer of 4 exact KFLR goes on with fewer columns
LOSSES = ["squared_error", "softmax_cross_entropy"]  # of a diagonal and of a full 𝒢_L
RELATIVE = Damping(DampingSettings(), 0.0, 1.0)


def case_of_loss(loss_name, sizes=SIZES, rows=ROWS):
    return make_case(sizes, ["tanh"] * (len(sizes) - 2), loss_name, rows, ops=OPS)


@pytest.fixture(params=LOSSES)
def case(request):
    return case_of_loss(request.param)


def test_the_counting_backend_counts():
    a, b = OPS.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), OPS.xp.ones((3, 4))
    assert OPS.count(lambda: a @ b) == OPS.count(lambda: OPS.xp.matmul(a, b)) == 2 * 2 * 3 * 4
    assert OPS.count(lambda: (a @ b).T @ (2.0 * a)) == 2 * 2 * 3 * 4 + 2 * 4 * 2 * 3
    assert OPS.count(lambda: OPS.gram(a, 1.0)) == 2 * 3 * 3
    assert OPS.count(lambda: OPS.xp.zeros((5, 2, 3)) @ b) == 5 * 2 * 2 * 3 * 4
    assert OPS.count(lambda: a * a + OPS.xp.vdot(a, a)) == 0


def test_passes(case):
    net, W = case.net, case.W
    workspace, out = Workspace(OPS, net.dtype), OPS.xp.empty(net.size)
    problem = Problem(net, case.loss, seed=0, rows=ROWS)
    assert OPS.count(lambda: forward(net, W, case.x)) == cost.forward(SIZES, ROWS)
    both = OPS.count(lambda: loss_and_gradient(problem, W, case.x, case.y, out, workspace))
    assert both == cost.forward(SIZES, ROWS) + cost.backward(SIZES, ROWS)
    # In blocks the work is the same.
    problem.memory = 1
    again = OPS.count(lambda: loss_and_gradient(problem, W, case.x, case.y, out, workspace))
    assert again == both


@pytest.mark.parametrize("directions", [1, 3])
def test_products_with_the_gauss_newton_matrix(case, directions):
    net, W, tape = case.net, case.W, case.tape()
    V = [OPS.xp.ones(net.size) for _ in range(directions)]
    workspace, out = Workspace(OPS, net.dtype), OPS.xp.empty(net.size)

    def model():
        curvature_products(net, W, tape, case.loss, case.y, V, workspace)

    def product():
        gn_vector(net, W, tape, case.loss, case.y, net.views(V[0]), net.views(out), workspace)

    assert OPS.count(model) == cost.quadratic_model(SIZES, ROWS, directions)
    assert OPS.count(product) == cost.gn_vector(SIZES, ROWS)


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("sizes", [SIZES, NARROW, (40, 10)], ids=str)
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", ["diagonal_gn", "ekfac", "empirical_fisher", "kfac", "kflr"])
def test_estimates_of_columns(name, columns, sizes, loss_name):
    check_estimate(name, case_of_loss(loss_name, sizes), columns=columns, samples=columns)


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("sizes", [SIZES, NARROW, (40, 10)], ids=str)
@pytest.mark.parametrize("width", [0, 8])
def test_estimates_of_every_curvature(curvature_name, width, sizes, loss_name):
    check_estimate(curvature_name, case_of_loss(loss_name, sizes), width)


def check_estimate(name, case, width=0, **changes):
    """Hold ``flops`` against what factors and diagonals take."""
    kind, net = curvature(name, **changes), case.net
    sample = sample_of(case, forms=Forms(width))

    def basis(d):
        if not kind.block.factored:
            return None
        blocks = pieces(d, width)
        whole = OPS.xp.eye(blocks[0].stop)
        return whole if len(blocks) == 1 else OPS.xp.stack([whole] * len(blocks))

    def estimate():
        if kind.block.factored:
            kind.output_factors(sample)
        if kind.estimates_scales:
            kind.scales(sample, [(basis(o), basis(i)) for o, i in net.shapes])

    expected = kind.flops(net, case.loss, ROWS, width)
    assert OPS.count(estimate) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("width", [0, 8])
def test_input_factors(width):
    case = case_of_loss("squared_error")
    tape = case.tape()

    def moments():
        for abar in tape.abar:
            second_moment(OPS, abar, 1.0, Forms(width))

    # The last of several blocks may be narrower, which the formula leaves out.
    rel = 1e-12
    assert OPS.count(moments) == pytest.approx(
        cost.input_factors(SIZES, ROWS, width=width), rel=rel
    )


@pytest.mark.parametrize("kind", [KroneckerBlock, EigenBlock, DiagonalBlock])
@pytest.mark.parametrize(
    "facts",
    [
        {"period": 10},
        {"period": 1},
        {"period": 10, "diagonal_G": True},
        {"period": 10, "forms": Forms(width=8)},
        {"period": 10, "rank": 4},
    ],
    ids=["whole", "once", "diagonal", "blocks", "sketched"],
)
def test_blocks(kind, facts):
    if kind is not KroneckerBlock and "rank" in facts:
        pytest.skip("nothing else is sketched")
    o, i = 30, 41
    plan = LayerPlan(OPS, 2, (o, i), np.dtype("f8"), **({"forms": Forms()} | facts))
    block, g = kind.start(plan), OPS.xp.ones((o, i))
    abar, delta = (OPS.normal(np.random.default_rng(d), (60, d), "f8") for d in (i, o))
    G = Diagonal(OPS.xp.ones(o)) if plan.diagonal_G else second_moment(OPS, delta, 1.0, plan.forms)
    block.observe_input(plan, abar, 0.0, 1.0)
    block.observe_output(plan, G, 0.0, 1.0)
    expected = kind.cost(plan)
    refresh = OPS.count(lambda: block.prepare(plan, Refresh(1, plan.period), RELATIVE))
    assert refresh == pytest.approx(expected.refresh, rel=1e-12)
    if kind is DiagonalBlock:
        block.observe_scales(plan, OPS.xp.ones((o, i)), 0.0, 1.0, new=True)
    solve = OPS.count(lambda: block.solve(plan, RELATIVE, g, OPS.xp.empty((o, i)), OPS.xp.empty))
    # The last of several blocks is narrower, or padded to the others: a few per cent either way.
    assert solve == pytest.approx(expected.solve, rel=0.1 if plan.forms.width else 1e-12)


# ---- whole updates -------------------------------------------------------------------------------


def counted_phases(case, method, base):
    """Flops of an average update by phase, over a period of a run past its start."""
    theta = case.theta.copy()
    state, step = method.init(theta), 0
    for _ in range(3):  # until every direction of the quadratic model is there
        step += 1
        method.update(theta, state, case.x[:base], case.y[:base], step)
    method.skip_to(state, 1000)
    method.timer = watch = Stopwatch(lambda: None, read=lambda: Tally.flops)
    for _ in range(method.period()):
        step += 1
        stats = method.update(theta, state, case.x[:base], case.y[:base], step)
        assert not stats.get("rejected")
    return {name: flops / method.period() for name, flops in watch.seconds.items()}


def check_update(method_name, loss_name, sizes=SIZES, rows=400, **changes):
    """Hold ``cost`` against an average update; returns both, by phase."""
    case = case_of_loss(loss_name, sizes, rows)
    # No look back at a step, and every iteration of conjugate gradients used.
    values = {"rejection": 0.0, "iterations": 3, "tolerance": 1e-14} | changes
    method = optimizer(case, method_name, settings(method_name, **values), rows=10 * rows)
    found, expected = counted_phases(case, method, rows), method.cost(rows).phases
    assert set(expected) <= set(PHASES)
    assert found.pop("vector", 0.0) == 0.0
    found = {name: found.get(name, 0.0) for name in {**expected, **found}}
    if method_name == "hessian_free":  # the account has one point of the line search
        more = found.pop("passes") - expected.pop("passes")
        assert 0.0 <= more <= 6.0 * cost.forward(sizes, rows)
    if makes_low_rank(method_name, case):  # the account is of the full averages that they become
        becoming = sum(d * d for d in sizes[1:])
        assert all(found[phase] <= expected[phase] + becoming for phase in found)
    else:
        assert found == pytest.approx(expected, rel=1e-9)


def makes_low_rank(method_name, case):
    """Whether the output factors of a curvature are of low rank whatever the forms."""
    kind = all_curvatures().get(method_name)
    if kind is None or not kind.block.factored:
        return False
    return any(isinstance(G, LowRank) for G in kind().output_factors(sample_of(case)))


@pytest.mark.parametrize("loss_name", LOSSES)
def test_updates_of_every_method(method_name, loss_name):
    flops = optimizer(case_of_loss(loss_name, SIZES, 400), method_name).cost(400).flops
    check_update(method_name, loss_name, SIZES if flops < 1e10 else (8, 6, 5, 3))


VARIANTS = [
    ("kfra", {"damping_split": "exact"}),
    ("kfra", {"inverse_period": 1, "factor_period": 1}),
    ("kfra", {"sizes": (40, 300, 260, 10)}),  # sketches
    ("kfra", {"directions": [], "model_rows": 1.0}),
    ("kfac", {"samples": 3, "input_updates": 0, "damping_rule": "fixed"}),
    ("kfac", {"damping_rule": "lm", "damping": 100.0}),
    ("kflr", {"sizes": NARROW}),
    ("kflr", {"columns": 2, "rows": 2000}),
    ("diagonal_gn", {"columns": 2}),
    ("gauss_newton", {"preconditioner": "none"}),
    ("gauss_newton", {"preconditioner": "kfac", "product_rows": 0.25}),
]


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize(("method_name", "changes"), VARIANTS, ids=str)
def test_updates_under_other_settings(method_name, changes, loss_name):
    check_update(method_name, loss_name, **changes)
