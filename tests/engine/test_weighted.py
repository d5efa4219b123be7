"""Weights of rows: a weight of 2 is the row twice and a weight of 0 is no row, everywhere.

Both sides of a comparison draw the same numbers for the same row: draws are functions of the row's
outputs here.
"""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import OPS, close, curvature, host, make_case, same, settings

from gnopt.curvature import CurvatureSample, exact
from gnopt.engine.arrays import Workspace
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import forward, gn_vector, hessian_vector
from gnopt.engine.weighted import Weighted, labels_of
from gnopt.errors import ConfigError, DataError
from gnopt.optimizers import make
from gnopt.optimizers.base import Problem, loss_and_gradient, mean_loss
from gnopt.optimizers.quadratic import curvature_products
from gnopt.weighting import WeightedTargets

COUNTS = [1, 3, 0, 2, 1, 0, 5, 1, 2, 1]
LAYERS = (4, 5, 3, 3)
ACTIVATIONS = ("tanh", "relu")


class Side:
    """One side of a comparison: a problem with its batch."""

    def __init__(self, case, loss, x, y, memory=1 << 30):
        self.case, self.x, self.y = case, x, y
        self.problem = Problem(case.net, loss, 0, len(x), memory)

    @property
    def loss(self):
        return self.problem.loss

    def sample(self):
        case = self.case
        tape = forward(case.net, case.W, self.x)
        rng = np.random.default_rng(0)
        return CurvatureSample(case.net, case.W, tape, self.loss, self.y, rng, 1 << 30)

    def gradient(self, function=loss_and_gradient):
        net = self.case.net
        g = net.ops.xp.empty_like(self.case.theta)
        batch = function(
            self.problem, self.case.W, self.x, self.y, g, Workspace(net.ops, net.dtype)
        )
        return batch.loss, batch.g

    def product(self, function, v):
        net = self.case.net
        out = net.ops.xp.empty_like(v)
        tape = forward(net, self.case.W, self.x)
        function(net, self.case.W, tape, self.loss, self.y, net.views(v), net.views(out))
        return out


def sides(loss_name, counts=COUNTS, ops=OPS, memory=1 << 30, soft=True):
    """The rows with weights, and the rows so many times."""
    case = make_case(LAYERS, ACTIVATIONS, loss_name, len(counts), seed=2, soft=soft, ops=ops)
    counts = np.asarray(counts)
    own = counts.astype(np.float64)
    weights = WeightedTargets(case.y, ops.asarray(own), ops.asarray(own / own.mean()))
    rows = ops.asarray(np.repeat(np.arange(len(counts)), counts))
    weighted = Side(case, Weighted(case.loss, "float64"), case.x, weights, memory)
    return weighted, Side(case, case.loss, case.x[rows], case.y[rows], memory)


@pytest.fixture(autouse=True)
def draws_of_rows(monkeypatch):
    """Let the gradient at a drawn target, and random signs, be functions of the row."""
    from gnopt.curvature import diagonal_gn, kflr

    monkeypatch.setattr(
        Loss, "sampled_gradient", lambda self, ops, h, rng: ops.xp.sin(3.0 * h) + 0.1 * h
    )

    def columns(sample, count):
        ops, h, rank = sample.net.ops, sample.tape.output, sample.loss.rank(sample.net.sizes[-1])
        for k in range(count):
            signs = ops.xp.cos((k + 2.0) * h[:, :1] + ops.asarray(np.arange(rank, dtype=h.dtype)))
            yield sample.loss.gn_root_product(ops, h, sample.y, signs)

    monkeypatch.setattr(kflr, "sketch_columns", columns)
    monkeypatch.setattr(diagonal_gn, "sketch_columns", columns)


# ---- the loss ------------------------------------------------------------------------------------


def test_every_method_of_a_loss_counts_weights_or_passes_on():
    inherited = {
        name
        for name, _ in inspect.getmembers(Loss, inspect.isfunction)
        if name not in vars(Weighted)
    }
    assert not inherited


def test_facts_are_those_of_the_loss(loss_name):
    loss = get_loss(loss_name)
    weighted = Weighted(loss, "float64")
    for fact in Loss.__annotations__:
        assert getattr(weighted, fact) == getattr(loss, fact)
    assert weighted.rank(4) == loss.rank(4)
    assert weighted.predicts(4) == loss.predicts(4)


ROWS = {
    "value": 1.0,
    "gradient": 1.0,
    "error": 1.0,
    "gn_diagonal": 1.0,
    "gn_matrix": 1.0,
    "hessian_matrix": 1.0,
    "own_column": 0.5,
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_multiplied_by_their_weights(ops, loss_name, name):
    weighted, _ = sides(loss_name, ops=ops)
    case, h = weighted.case, weighted.sample().tape.output
    found = host(getattr(weighted.loss, name)(ops, h, weighted.y))
    expected = host(getattr(case.loss, name)(ops, h, case.y))
    weight = host(weighted.y.own if name == "error" else weighted.y.weight) ** ROWS[name]
    close(found, expected * weight.reshape(-1, *[1] * (expected.ndim - 1)), 1e-14)


def test_the_mean_of_output_curvature(ops, loss_name):
    weighted, repeated = sides(loss_name, ops=ops)
    means = [s.loss.gn_mean(ops, s.sample().tape.output, s.y) for s in (weighted, repeated)]
    close(means[0], means[1], 1e-13)
    matrices = host(weighted.loss.gn_matrix(ops, weighted.sample().tape.output, weighted.y))
    mean = host(means[0])
    close(np.diag(mean) if mean.ndim == 1 else mean, matrices.mean(axis=0), 1e-13)


def test_targets_are_converted_with_their_weights(loss_name):
    loss = get_loss(loss_name)
    case = make_case(LAYERS, ACTIVATIONS, loss_name, 6)
    own = np.array([0.0, 2.0, 1.0, 0.5, 1.0, 1.5])
    y = Weighted(loss, "float64", scale=2.0).convert_targets(WeightedTargets(case.y, own, own))
    same(y.values, loss.convert_targets(case.y))
    same(y.own, own)
    same(y.weight, 2.0 * own)
    weighted = Weighted(loss, "float64")
    assert weighted.totals(y) == (12.0, 6.0)
    assert weighted.outputs(y) == loss.outputs(y.values)
    same(weighted.floor(y), 2.0 * own * loss.floor(y.values))
    outputs = case.net.sizes[-1]
    one_by_one = [w * loss.target_sum(y.values[n : n + 1], outputs) for n, w in enumerate(y.weight)]
    close(weighted.target_sum(y, outputs), np.sum(one_by_one, axis=0), 1e-14)


def test_class_weights_multiply_those_of_rows():
    loss = get_loss("softmax_cross_entropy")
    classes = np.array([1.0, 10.0, 0.5])
    y = np.array([2, 0, 1, 1])
    own = np.array([1.0, 2.0, 1.0, 3.0])
    found = Weighted(loss, "float64", classes).convert_targets(WeightedTargets(y, own, own))
    same(found.weight, [0.5, 2.0, 10.0, 30.0])
    same(found.own, own)
    hot = np.eye(3)[y]
    same(Weighted(loss, "float64", classes).convert_targets(hot).weight, [0.5, 1.0, 10.0, 10.0])
    with pytest.raises(DataError, match=r"label 3 in row 1 .* expected 0 to 2"):
        Weighted(loss, "float64", classes).convert_targets(np.array([0, 3]))
    with pytest.raises(DataError, match="not of one class each"):
        Weighted(loss, "float64", classes).convert_targets(np.full((2, 3), 1.0 / 3.0))


@pytest.mark.parametrize(
    ("name", "y", "labels"),
    [
        ("softmax_cross_entropy", [1, 0], [1, 0]),
        ("softmax_cross_entropy", [[0.0, 1.0], [1.0, 0.0]], [1, 0]),
        ("softmax_cross_entropy", [[0.5, 0.5]], None),
        ("binary_cross_entropy", [[1.0], [0.0]], [1, 0]),
        ("binary_cross_entropy", [[0.3]], None),
        ("binary_mixture", [[0.0], [1.0]], [0, 1]),
    ],
)
def test_labels(name, y, labels):
    found = labels_of(get_loss(name), np.array(y))
    assert (None if found is None else found.tolist()) == labels


def test_parts_stand_for_the_whole(ops):
    weighted, repeated = sides("poisson", ops=ops)
    y, loss = weighted.y, weighted.loss
    part = loss.part(ops, y, slice(0, 4))
    close(host(part.weight), np.array([1.0, 3.0, 0.0, 2.0]) / 1.5, 1e-15)
    close(host(loss.even(ops, y[:2]).weight), np.array([0.5, 1.5]), 1e-15)
    same(loss.part(ops, y, slice(0, len(y))).weight, y.weight)
    same(loss.even(ops, y[2:3]).weight, np.zeros(1))
    same(repeated.loss.part(ops, repeated.y, slice(0, 4)), repeated.y[:4])


# ---- passes and curvatures -----------------------------------------------------------------------


@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_loss_and_gradient(ops, loss_name, memory):
    weighted, repeated = sides(loss_name, ops=ops, memory=memory)
    for found, expected in zip(weighted.gradient(), repeated.gradient(), strict=True):
        close(found, expected, 1e-13)
    workspace = Workspace(ops, np.dtype("float64"))
    losses = [mean_loss(s.problem, s.case.W, s.x, s.y, workspace) for s in (weighted, repeated)]
    close(losses[0], losses[1], 1e-13)


def test_gradients_of_batches_average_to_that_of_the_objective(ops, loss_name):
    """Weights are in units of their mean over all rows, not over those of a batch."""
    weighted, _ = sides(loss_name, ops=ops)
    whole = host(weighted.gradient()[1])
    parts = []
    for rows in (slice(0, 5), slice(5, 10)):
        part = Side(weighted.case, weighted.loss, weighted.x[rows], weighted.y[rows])
        parts.append(host(part.gradient()[1]))
    close(np.mean(parts, axis=0), whole, 1e-13)


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=12).filter(any))
def test_any_whole_weights(counts):
    weighted, repeated = sides("softmax_cross_entropy", counts)
    for found, expected in zip(weighted.gradient(), repeated.gradient(), strict=True):
        close(found, expected, 1e-13)
    for name in ("kfra", "kflr"):
        kind = curvature(name)
        both = [kind.output_factors(side.sample()) for side in (weighted, repeated)]
        for found, expected in zip(*both, strict=True):
            close(found.dense(OPS), expected.dense(OPS), 1e-12)


@pytest.mark.parametrize("product", [gn_vector, hessian_vector])
def test_products(ops, loss_name, product):
    if product is hessian_vector and not get_loss(loss_name).likelihood:
        pytest.skip("the test's own loss has no Hessian")
    weighted, repeated = sides(loss_name, ops=ops)
    v = ops.asarray(np.random.default_rng(5).standard_normal(weighted.case.net.size))
    close(weighted.product(product, v), repeated.product(product, v), 1e-12)


def test_the_quadratic_model(ops, loss_name):
    both = []
    for side in sides(loss_name, ops=ops):
        case, net = side.case, side.case.net
        V = [ops.asarray(np.random.default_rng(k).standard_normal(net.size)) for k in range(3)]
        tape = forward(net, case.W, side.x)
        workspace = Workspace(ops, net.dtype)
        both.append(host(curvature_products(net, case.W, tape, side.loss, side.y, V, workspace)))
    close(both[0], both[1], 1e-12)


def test_input_factors(ops):
    both = [side.sample() for side in sides("squared_error", ops=ops)]
    for l in (1, 2, 3):
        found, expected = (sample.input_factor(l).dense(ops) for sample in both)
        close(found, expected, 1e-13)


@pytest.mark.parametrize("changes", [{}, {"columns": 2}, {"samples": 3}], ids=str)
def test_output_factors(ops, curvature_name, loss_name, changes):
    kind = curvature(curvature_name, **changes)
    weighted, repeated = (kind.output_factors(s.sample()) for s in sides(loss_name, ops=ops))
    for found, expected in zip(weighted, repeated, strict=True):
        close(found.dense(ops), expected.dense(ops), 1e-12)


def test_scales(ops, scaled_name, loss_name):
    kind = curvature(scaled_name)
    bases = [(None, None)] * 3
    weighted, repeated = (kind.scales(s.sample(), bases) for s in sides(loss_name, ops=ops))
    for found, expected in zip(weighted, repeated, strict=True):
        close(found, expected, 1e-12)


@pytest.mark.parametrize("hessian", [False, True])
def test_exact_blocks(loss_name, hessian):
    if hessian and not get_loss(loss_name).likelihood:
        pytest.skip("the test's own loss has no Hessian")
    weighted, repeated = (side.sample() for side in sides(loss_name))
    pairs = [
        (exact.mean_pre_activation(s, hessian), exact.mean_blocks(s, hessian))
        for s in (weighted, repeated)
    ]
    for l in (1, 2, 3):
        close(pairs[0][0][l - 1], pairs[1][0][l - 1], 1e-12)
        close(pairs[0][1][l], pairs[1][1][l], 1e-12)
    if not hessian:
        close(exact.full_gauss_newton(weighted), exact.full_gauss_newton(repeated), 1e-12)


def test_factors_of_a_light_batch_are_those_of_the_same_rows_at_any_weight(curvature_name):
    """Statistics are weighted averages: only the gradient of a batch is larger for heavier rows."""
    states = []
    for factor in (1.0, 1e-3):
        side, _ = sides("binary_cross_entropy")
        y = WeightedTargets(side.y.values, side.y.own, side.y.weight * factor)
        method = make(curvature_name, side.problem, settings(curvature_name))
        state = method.init(side.case.theta)
        method.update(side.case.theta.copy(), state, side.x, y, 1)
        states.append(state)
    for a, b in zip(*(state.factors.blocks for state in states), strict=True):
        for found, expected in zip(a.pair(), b.pair(), strict=True):
            close(found.dense(OPS), expected.dense(OPS), 1e-12)


# ---- methods -------------------------------------------------------------------------------------


def test_updates_of_every_method(ops, method_name, loss_name):
    loss, thetas = get_loss(loss_name), []
    # Many iterations of conjugate gradients would let rounding grow.
    values = settings(method_name, learning_rate=0.01, iterations=5)
    for side in sides(loss_name, ops=ops):
        try:
            method = make(method_name, side.problem, values)
        except ConfigError:
            assert not loss.likelihood
            pytest.skip("the method samples targets")
        theta = side.case.theta.copy()
        state = method.init(theta)
        rows = [method.update(theta, state, side.x, side.y, k) for k in range(1, 4)]
        thetas.append((host(theta), rows))
    close(thetas[0][0], thetas[1][0], 1e-10)
    for found, expected in zip(thetas[0][1], thetas[1][1], strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-10)


def test_weights_of_one_change_nothing(method_name):
    """Weights that are all the same are no weights, up to the rounding of products by one."""
    case = make_case(LAYERS, ACTIVATIONS, "softmax_cross_entropy", 9, seed=3)
    thetas = []
    for loss, y in (
        (case.loss, case.y),
        (Weighted(case.loss, "float64"), WeightedTargets.of(case.y, "float64")),
    ):
        method = make(method_name, Problem(case.net, loss, 0, 9), settings(method_name))
        theta = case.theta.copy()
        state = method.init(theta)
        for k in range(1, 4):
            method.update(theta, state, case.x, y, k)
        thetas.append(theta)
    close(thetas[0], thetas[1], 1e-10)


def test_single_precision_stays_single(ops, method_name, loss_name):
    """No factor of float64 gets into an update in float32."""
    case = make_case(LAYERS, ACTIVATIONS, loss_name, 10, seed=2, dtype="float32", ops=ops)
    own = np.array(COUNTS, dtype=np.float32)
    loss = Weighted(case.loss, "float32", scale=10.0 / float(own.sum()))
    y = loss.convert_targets(WeightedTargets(host(case.y), own, own))
    y = loss.on_device(y, ops.asarray)
    try:
        method = make(method_name, Problem(case.net, loss, 0, 10), settings(method_name))
    except ConfigError:
        pytest.skip("the method samples targets")
    theta = case.theta.copy()
    state = method.init(theta)
    rows = [method.update(theta, state, case.x, y, k) for k in range(1, 4)]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert {array.dtype.name for array in (theta, *arrays(ops, state))} == {"float32"}


def arrays(ops, state):
    """All arrays of a nested state."""
    if isinstance(state, ops.xp.ndarray):
        yield state
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from arrays(ops, value)
    elif hasattr(state, "__dict__"):
        for value in vars(state).values():
            yield from arrays(ops, value)
