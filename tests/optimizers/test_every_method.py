"""What every method owes: progress, both precisions, the smallest problems, one state, all options
read.
"""

import copy
import dataclasses
import warnings

import numpy as np
import pytest
from draws import least_width
from reference import OPS, host, make_case, optimizer, same, settings

from gnopt.curvature import all_curvatures
from gnopt.curvature.factors import Full, LowRank
from gnopt.engine.losses import get_loss
from gnopt.errors import ConfigError, Diverged
from gnopt.optimizers import make, methods
from gnopt.optimizers.base import Problem, loss_and_gradient, mean_loss, row_blocks
from gnopt.options import Settings

# What their authors promise of methods with their default options; others may do either.
RANDOM = ("kfac", "ekfac", "diagonal_gn")
WITHOUT_RANDOM_NUMBERS = (
    *("sgd", "momentum", "nesterov", "adam", "hessian_free", "gauss_newton"),
    *("kfra", "kflr", "empirical_fisher"),
)
BETTER_THAN_SGD = ("kfra", "kflr", "kfac", "ekfac", "diagonal_gn", "gauss_newton", "hessian_free")


def run(case, method_name, updates, values=None, rows=None, **problem):
    """Log rows, weights and state after a run on the case's batch, or on rows drawn anew for each
    update.
    """
    method = optimizer(case, method_name, values, **problem)
    theta = case.theta.copy()
    state = method.init(theta)
    log = []
    for k in range(1, updates + 1):
        chosen = (
            slice(None) if rows is None else np.random.default_rng(k).integers(0, len(case.x), rows)
        )
        log.append(method.update(theta, state, case.x[chosen], case.y[chosen], k))
    return log, theta, state


def total(case, theta, eta=0.0):
    """The objective, penalty included."""
    output = type(case)(case.net, case.names, case.loss_name, theta, case.x, case.y).tape().output
    return float(case.loss.value(case.ops, output, case.y).mean() + 0.5 * eta * theta @ theta)


# ---- progress ------------------------------------------------------------------------------------


@pytest.mark.on_double(names=[("relu", "gelu")])
@pytest.mark.parametrize(
    "names", [("tanh", "sigmoid"), ("relu", "gelu"), ("softplus", "identity")], ids=str
)
def test_fifteen_updates_reduce_the_objective(ops, method_name, loss_name, names):
    case = make_case((4, 5, 3, 3), names, loss_name, 30, seed=1, soft=True, ops=ops)
    log, _, _ = run(case, method_name, 16, settings(method_name, learning_rate=0.01))
    assert (
        log[15]["loss"] < log[0]["loss"]
    )  # with the fifteenth step judged by the sixteenth update
    assert total(case, case.theta) == pytest.approx(log[0]["loss"], rel=1e-12)


def test_second_order_methods_beat_gradient_descent(ops):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 30, soft=True, ops=ops)
    sgd = min(
        run(case, "sgd", 15, settings("sgd", learning_rate=2.0**-e))[0][-1]["loss"]
        for e in range(6)
    )
    for name in BETTER_THAN_SGD:
        assert run(case, name, 15, settings(name, step_limit=0.5))[0][-1]["loss"] < sgd


def test_log_row(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 12, ops=ops)
    log, _, _ = run(case, method_name, 3)
    for row in log:
        assert {"loss", "grad_norm", "step_norm", "batch"} <= set(row)
        assert all(type(value) in (int, float) for value in row.values())
        assert row["batch"] == 12
        assert row["step_norm"] > 0.0


# ---- precision, sizes ----------------------------------------------------------------------------

SIZES = [(4, 5, 3, 2), (3, 1, 2), (1, 1, 1, 1), (3, 2), (5, 1)]


@pytest.mark.on_double(dtype_name=["float32"], rows=[1, 10])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 10])
def test_small_problems_in_both_precisions(ops, method_name, loss_name, dtype_name, sizes, rows):
    sizes = (*sizes[:-1], max(sizes[-1], least_width(get_loss(loss_name))))
    case = make_case(sizes, ["tanh"] * (len(sizes) - 2), loss_name, rows, dtype=dtype_name, ops=ops)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log, theta, state = run(case, method_name, 4)
    assert theta.dtype == dtype_name
    assert np.isfinite(theta).all()
    assert all(np.isfinite(row["loss"]) for row in log)
    for array in arrays(ops, state):
        assert array.dtype == dtype_name
        assert np.isfinite(array).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"curvature_decay": 0.0},
        {"factor_width": 3},
        {"damping_split": "exact"},
        {"curvature_decay": 0.0, "damping_rule": "fixed"},
    ],
    ids=str,
)
def test_wide_layers_stay_in_single_precision(ops, method_name, changes):
    case = make_case((30, 20, 4), ("tanh",), "binary_cross_entropy", 6, dtype="float32", ops=ops)
    log, theta, state = run(case, method_name, 5, settings(method_name, **changes))
    assert {array.dtype.name for array in (theta, *arrays(ops, state))} == {"float32"}
    assert all(np.isfinite(array).all() for array in arrays(ops, state))
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("rule", ["relative", "fixed"])
@pytest.mark.parametrize("method_name", ["kfra", "kflr", "kfac", "empirical_fisher"])
def test_low_rank_factors_change_nothing(ops, method_name, rule):
    """A factor of few rows is solved by Woodbury's identity, a full one by Cholesky: the same
    steps.
    """
    case = make_case((30, 20, 4), ("tanh",), "binary_cross_entropy", 6, ops=ops)
    values = settings(method_name, damping_rule=rule, curvature_decay=0.0)
    low = run(case, method_name, 4, values)
    # A decay that is not zero, and of no weight.
    full = run(case, method_name, 4, values.changed(curvature_decay=1e-300))
    assert isinstance(low[2].factors.blocks[0].A, LowRank)
    assert isinstance(full[2].factors.blocks[0].A, Full)
    np.testing.assert_allclose(host(low[1]), host(full[1]), rtol=1e-7, atol=1e-9)


def arrays(ops, state):
    """All arrays of a nested state."""
    if isinstance(state, ops.xp.ndarray):
        yield state
    elif dataclasses.is_dataclass(state):
        for value in vars(state).values():
            yield from arrays(ops, value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from arrays(ops, value)


def test_state_is_arrays_and_plain_values(ops, method_name):
    """What a checkpoint can hold: nothing else."""

    def check(value):
        if dataclasses.is_dataclass(value):
            [check(v) for v in vars(value).values()]
        elif isinstance(value, list):
            [check(v) for v in value]
        else:
            assert isinstance(value, ops.xp.ndarray) or type(value) in (
                int,
                float,
                str,
                bool,
                type(None),
            )

    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 12, ops=ops)
    for changes in (
        {},
        {"damping_split": "exact", "averaging": 0.5, "damping_rule": "lm"},
        {"curvature_decay": 0.0, "factor_width": 3},
    ):
        check(run(case, method_name, 6, settings(method_name, **changes))[2])


# ---- the state is all there is -------------------------------------------------------------------

VARIATIONS = [
    {},
    {"averaging": 0.9},
    {"damping_rule": "lm", "damping_period": 2},
    {"damping_split": "exact"},
    {"damping_rule": "fixed", "rescale": False, "learning_rate": 0.01},
    {"factor_width": 4},
    {"curvature_decay": 0.0},
    {"sketch_g": 0.3},
]


@pytest.mark.on_double(changes=[{}, {"averaging": 0.9}, {"sketch_g": 0.3}])
@pytest.mark.parametrize("changes", VARIATIONS, ids=str)
def test_a_copied_state_goes_on_bit_for_bit(ops, method_name, changes, monkeypatch):
    if "sketch_g" in changes:
        monkeypatch.setattr("gnopt.curvature.blocks.SKETCH_WIDTH", 3)
    case = make_case(
        (4, 5, 3, 6), ("tanh", "relu"), "binary_cross_entropy", 200, soft=True, ops=ops
    )
    values = settings(method_name, **changes)

    def continue_to(method, theta, state, start, stop):
        log = []
        for k in range(start, stop):
            rows = np.random.default_rng(k).integers(0, 200, method.batch_size(state, 20))
            log.append(method.update(theta, state, case.x[rows], case.y[rows], k))
        return log

    first, theta = optimizer(case, method_name, values), case.theta.copy()
    state = first.init(theta)
    continue_to(first, theta, state, 1, 14)
    saved = copy.deepcopy((theta, state))
    rest = continue_to(first, theta, state, 14, 30)

    second = optimizer(case, method_name, values)  # knows nothing but the settings
    other_theta, other_state = saved
    other_rest = continue_to(second, other_theta, other_state, 14, 30)
    same(theta, other_theta)
    same(first.candidates(theta, state)[-1], second.candidates(other_theta, other_state)[-1])
    for row, other in zip(rest, other_rest, strict=True):
        np.testing.assert_equal(row, other)
    for a, b in zip(arrays(ops, state), arrays(ops, other_state), strict=True):
        same(a, b)


def is_random(method_name, ops=OPS):
    """Whether another seed gives other weights."""
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 12, ops=ops)
    first, other = (run(case, method_name, 4, seed=seed)[1] for seed in (3, 4))
    return bool((other != first).any())


def test_the_same_seed_gives_the_same_bits(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 12, ops=ops)
    first, again = (run(case, method_name, 4, seed=3)[1] for _ in range(2))
    same(again, first)


def test_which_methods_draw_random_numbers(ops):
    assert all(is_random(name, ops) for name in RANDOM)
    assert not any(is_random(name, ops) for name in WITHOUT_RANDOM_NUMBERS)
    sampling = [name for name, method in methods().items() if method.needs_likelihood]
    assert all(is_random(name, ops) for name in sampling)


def test_the_batch_is_left_alone(ops, method_name, loss_name):
    case = make_case((4, 5, 3), ("tanh",), loss_name, 12, ops=ops)
    x, y = case.x.copy(), case.y.copy()
    run(case, method_name, 3)
    same(case.x, x)
    same(case.y, y)


def test_averaged_weights_follow_the_iterates(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 12, ops=ops)
    method = optimizer(case, method_name, settings(method_name, averaging=0.7))
    theta, average = case.theta.copy(), None
    state = method.init(theta)
    same(method.candidates(theta, state)[-1], theta)
    for k in range(1, 9):
        method.update(theta, state, case.x, case.y, k)
        share = min(0.7, 1.0 - 1.0 / k)
        average = theta.copy() if average is None else share * average + (1.0 - share) * theta
        np.testing.assert_allclose(
            host(method.candidates(theta, state)[-1]), host(average), rtol=1e-12
        )


# ---- a batch in blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200, 203, 1000])
def test_blocks_cover_the_rows_and_end_with_the_first(ops, rows):
    net = make_case((40, 50, 30), ("gelu",), "squared_error", 1, ops=ops).net
    for memory in (1, 200_000, 1 << 30):
        pieces = list(row_blocks(net, rows, memory))
        covered = np.concatenate([np.arange(rows)[piece] for piece in pieces])
        same(np.sort(covered), np.arange(rows))
        assert pieces[-1].start == 0
        sizes = [piece.stop - piece.start for piece in pieces]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(64, memory // 2 // net.row_bytes())
        if memory == 1 << 30:
            assert len(pieces) == 1


def test_loss_and_gradient_in_blocks(ops, loss_name, dtype_name):
    case = make_case((40, 20, 3), ("tanh",), loss_name, 203, dtype=dtype_name, ops=ops)
    results = []
    for memory in (1 << 30, 1):
        method = optimizer(case, "sgd", memory=memory)
        g = ops.xp.full(case.net.size, np.nan, dtype=dtype_name)
        batch = loss_and_gradient(method.problem, case.W, case.x, case.y, g, method.workspace)
        loss, tape, held = batch.loss, batch.tape, batch.held
        assert held.start == 0
        assert tape.rows == held.stop
        np.testing.assert_allclose(
            host(tape.output), host(case.tape().output[held]), rtol=1e-4, atol=1e-5
        )
        again = mean_loss(method.problem, case.W, case.x, case.y, method.workspace)
        assert float(again) == pytest.approx(
            float(loss), rel=1e-12 if dtype_name == "float64" else 1e-6
        )
        results.append((float(loss), host(g)))
    tolerance = 1e-11 if dtype_name == "float64" else 1e-4
    assert results[0][0] == pytest.approx(results[1][0], rel=tolerance)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("factor_rows", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("rows", [200, 203, 403])
def test_updates_in_blocks_are_those_of_the_whole_batch(ops, method_name, rows, factor_rows):
    """Also where statistics need more rows than the first block holds, but no more than one block
    may, and where the quadratic model needs more.
    """
    case = make_case((60, 20, 3), ("tanh",), "binary_cross_entropy", rows, soft=True, ops=ops)
    case.theta[...] *= 0.3
    values = settings(
        method_name,
        factor_rows=factor_rows,
        model_rows=0.05,
        preconditioner="none",
        tolerance=1e-9,
        iterations=2000,
    )
    fits = (
        case.net.row_bytes() * 2 * (rows * 2 // 3)
    )  # the batch makes two blocks, two thirds of it one
    whole, pieces = (
        host(run(case, method_name, 3, values, memory=memory)[1]) for memory in (1 << 30, fits)
    )
    if method_name in RANDOM:  # samples come in another order
        assert np.linalg.norm(pieces - whole) < 0.5 * np.linalg.norm(whole - host(case.theta))
    elif is_random(method_name):  # how far they scatter is not known
        assert np.isfinite(pieces).all()
    else:
        np.testing.assert_allclose(pieces, whole, rtol=1e-7, atol=1e-9)


# ---- failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_an_error(ops, method_name, bad):
    case = make_case((4, 5, 3), ("tanh",), "squared_error", 12, ops=ops)
    case.theta[0] = case.theta[-1] = bad
    with pytest.raises(Diverged, match="update 1"), np.errstate(all="ignore"):
        run(case, method_name, 1)


def test_method_that_cannot_serve_a_loss_says_so(ops, method_name):
    class NoModel(type(get_loss("squared_error"))):
        name, likelihood = "no_model", False

    case = make_case((4, 5, 3), ("tanh",), "squared_error", 12, ops=ops)
    problem = Problem(case.net, NoModel(), seed=0, rows=12)
    if methods()[method_name].needs_likelihood:
        with pytest.raises(ConfigError, match=f"{method_name}.*no_model"):
            make(method_name, problem, settings(method_name))
    else:
        make(method_name, problem, settings(method_name))


# ---- options -------------------------------------------------------------------------------------


def watched(record, read):
    """The same record, which notes in ``read`` the options that are asked of it."""
    names = {option.name for option in type(record).options()}

    class Watched(type(record)):
        def __getattribute__(self, name):
            if name in names:
                read.add(name)
            return super().__getattribute__(name)

    copy_ = object.__new__(Watched)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        inner = watched(value, read) if isinstance(value, Settings) else value
        object.__setattr__(copy_, field.name, inner)
    return copy_


def test_every_option_is_read(method_name):
    """On the host alone: who reads a setting does not depend on the device."""
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 40)
    read = set()
    for changes in (
        {},
        *VARIATIONS,
        {"damping_rule": "lm", "damping_split": "exact", "damping_period": 2},
        {"decay_period": 2},
        {"step_limit": 0.0},
        {"growth_noise": 0.0},
    ):
        values = watched(settings(method_name, **changes), read)
        run(case, method_name, 8, values, rows=20)
        optimizer(case, method_name, values).cost(20)
    unread = {option.name for option in methods()[method_name].settings.options()} - read
    kind = all_curvatures().get(method_name)
    if kind is not None and all(kind().diagonal_factors(case.net, case.loss)):
        unread -= {"sketch_g"}  # there is no G to sketch
    assert not unread


def test_settings_are_not_written_to(ops, method_name):
    case = make_case((4, 5, 3), ("tanh",), "binary_cross_entropy", 40, ops=ops)
    values = settings(method_name)
    run(case, method_name, 12, values, rows=20)
    assert values == settings(method_name)


# ---- dead units ----------------------------------------------------------------------------------


def test_second_order_methods_count_units_that_give_the_same_on_all_rows(ops, method_name):
    case = make_case((3, 5, 4, 2), ("relu", "tanh"), "squared_error", 30, ops=ops)
    first = case.net.views(case.theta)[0]
    first[:2, -1] = -1000.0
    log, _, _ = run(case, method_name, 2)
    if methods()[method_name].order == 1:
        assert "dead_units" not in log[0]
    else:
        assert log[0]["dead_units"] == 2
        assert list(log[1]) == list(log[0])
