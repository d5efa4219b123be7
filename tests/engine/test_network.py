"""The passes of the network against automatic differentiation, and identities between them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import Truth, close, distance, host, make_case, network, same, standard

from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays import Workspace
from gnopt.engine.losses import all_losses
from gnopt.engine.network import (
    Network,
    backpropagate,
    curve,
    forward,
    gn_vector,
    gradient,
    hessian_vector,
    input_jacobian,
    r_forward,
    second_r_forward,
    slope,
    still_units,
)


def flat_gradient(case, delta, workspace=None):
    out = case.ops.xp.full(case.net.size, np.nan)
    gradient(case.net, case.W, case.tape(), delta, case.net.views(out), workspace)
    return out


def product(case, kind, v, workspace=None):
    """(GN v) or (Hessian v) for a v of the host, flat."""
    v, out = case.ops.asarray(v), case.ops.xp.full(case.net.size, np.nan)
    arguments = (
        case.net,
        case.W,
        case.tape(),
        case.loss,
        case.y,
        case.net.views(v),
        case.net.views(out),
    )
    gn_vector(*arguments, workspace) if kind == "gn" else hessian_vector(*arguments)
    return out


def check_passes(case, truth, seed=0):
    """Outputs, gradient, J V, GN v, Hessian v, the adjoint identity, and derivatives by inputs."""
    net, ops, rng = case.net, case.ops, np.random.default_rng(seed)
    tape = case.tape()
    case.check(tape.output, truth.output)
    case.check(case.loss.value(ops, tape.output, case.y), truth.values)
    delta = case.loss.gradient(ops, tape.output, case.y) / len(case.x)
    case.check(flat_gradient(case, delta), truth.gradient())

    V = rng.standard_normal((2, net.size))
    Jv = host(r_forward(net, case.W, tape, [net.views(ops.asarray(v)) for v in V]))
    case.check(Jv, np.einsum("nkp,ip->ink", truth.J, V))
    u = rng.standard_normal(tape.output.shape)
    left, right = (Jv[0] * u).sum(), V[0] @ host(flat_gradient(case, ops.asarray(u)))
    assert abs(left - right) <= 1e-12 * (1.0 + np.abs(Jv[0] * u).sum())

    bend = second_r_forward(net, case.W, tape, net.views(ops.asarray(V[0])))
    case.check(bend, np.einsum("nkpq,p,q->nk", truth.T, V[0], V[0]))

    case.check(product(case, "gn", V[0]), truth.gauss_newton() @ V[0])
    case.check(product(case, "hessian", V[0]), truth.hessian() @ V[0])
    for layer in range(1, net.layers):
        case.check(slope(net, tape, layer), truth.slopes[layer - 1])

    by_inputs = input_jacobian(net, case.W, tape)
    case.check(by_inputs, truth.input_jacobian())
    predicted = case.loss.prediction_product(ops, tape.output, by_inputs.transpose(2, 0, 1))
    case.check(predicted.transpose(1, 2, 0), truth.prediction_jacobian())


def test_passes(ops, activation_name, loss_name):
    case, truth = standard(activation_name, loss_name, ops=ops)
    check_passes(case, truth)


@st.composite
def cases(draw):
    hidden = draw(st.lists(st.integers(1, 4), max_size=3))
    names = [draw(st.sampled_from(sorted(all_activations()))) for _ in hidden]
    sizes = (draw(st.integers(1, 4)), *hidden, draw(st.integers(1, 4)))
    return make_case(
        sizes,
        names,
        draw(st.sampled_from(sorted(all_losses()))),
        draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**32)),
        soft=draw(st.booleans()),
    )


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_passes_of_random_nets(ops, case):
    check_passes(case.on(ops), Truth(case))


def test_whole_matrices_from_products_are_symmetric(ops, activation_name):
    """Columns of GN and Hessian; their diagonal blocks; positive semi-definite where theory says
    so.
    """
    case, truth = standard(activation_name, "softmax_cross_entropy", rows=3, ops=ops)
    identity = np.eye(case.net.size)
    GN, H = (
        np.stack([host(product(case, kind, e)) for e in identity]) for kind in ("gn", "hessian")
    )
    close(GN, GN.T, 1e-13)
    close(H, H.T, 1e-13)
    assert np.linalg.eigvalsh(GN)[0] >= -1e-13 * np.trace(GN)
    for layer in range(1, case.net.layers + 1):
        gn_block, h_block = truth.block(GN, layer), truth.block(H, layer)
        case.check(gn_block, truth.block(truth.gauss_newton(), layer))
        case.check(h_block, truth.block(truth.hessian(), layer))
        if case.net.activations[0].piecewise_linear:
            close(h_block, gn_block, 1e-13)
            assert np.linalg.eigvalsh(h_block)[0] >= -1e-13 * np.trace(h_block)
    if case.net.activations[0].piecewise_linear:
        assert np.trace(H) >= 0.0
    else:
        assert distance(truth.block(H, 1), truth.block(GN, 1)) > 1e-6


def test_hessian_blocks_of_smooth_nets_are_indefinite(ops):
    lowest = []
    for name in ("tanh", "sigmoid"):
        case, truth = standard(name, "squared_error", ops=ops)
        H = np.stack([host(product(case, "hessian", e)) for e in np.eye(case.net.size)])
        lowest.append(np.linalg.eigvalsh(truth.block(H, 1))[0])
    assert max(lowest) < -1e-3


def test_second_derivative_is_that_of_the_activation(ops, activation_name):
    case, _ = standard(activation_name, "squared_error", ops=ops)
    tape = case.tape()
    h = tape.abar[0] @ case.W[0].T
    a = tape.abar[1][:, :-1]
    close(curve(case.net, tape, 1), get_activation(activation_name).d2f(ops, h, a), 1e-13)


# ---- layout --------------------------------------------------------------------------------------


def test_views_share_the_flat_vector(ops):
    net = network((4, 3, 2), ("tanh",), ops=ops)
    assert net.shapes == [(3, 5), (2, 4)]
    assert net.offsets == [0, 15, 23]
    assert (net.size, net.layers) == (23, 2)
    flat = ops.xp.arange(23.0)
    W = net.views(flat)
    same(W[1], np.arange(15.0, 23.0).reshape(2, 4))
    W[0][...] = -1.0
    W[1][0, -1] = 100.0  # bias of the first output
    assert (flat[:15] == -1.0).all()
    assert flat[18] == 100.0


def test_bias_is_the_last_column(ops):
    case = make_case((3, 2), (), "squared_error", 4, ops=ops)
    close(case.tape().output, case.x @ case.W[0][:, :-1].T + case.W[0][:, -1], 1e-14)


@pytest.mark.parametrize(
    ("sizes", "names"),
    [((3, 2), ["tanh"]), ((3, 2, 2), ["tanh", "relu"]), ((3, 2), ["identity", "identity"])],
)
def test_output_layer_is_the_identity(ops, sizes, names):
    with pytest.raises(ValueError, match="identity"):
        Network(sizes, [get_activation(n) for n in names], ops, "float64")


def test_tape_keeps_what_row_bytes_says(ops, activation_name):
    case, _ = standard(activation_name, "squared_error", ops=ops)
    tape = case.tape()
    kept = sum(a.nbytes for a in tape.abar) + tape.output.nbytes
    kept += sum(h.nbytes for h in tape.h[:-1] if h is not None)
    assert kept == case.net.row_bytes() * len(case.x)
    assert all((h is None) == get_activation(activation_name).from_output for h in tape.h[:-1])
    for a in tape.abar:
        same(a[:, -1], 1.0)


def test_head_is_the_tape_of_the_first_rows(ops, activation_name):
    case, _ = standard(activation_name, "squared_error", ops=ops)
    tape = case.tape()
    head, short = tape.head(2), forward(case.net, case.W, case.x[:2])
    assert head.rows == 2
    for part, alone in zip([*head.abar, head.output], [*short.abar, short.output], strict=True):
        close(part, alone, 1e-14)
    assert [h is None for h in head.h] == [h is None for h in tape.h]
    for layer in (1, 2):
        close(slope(case.net, head, layer), slope(case.net, tape, layer)[:2], 1e-15)
    head.abar[1][...] = 7.0
    assert (tape.abar[1][:2] == 7.0).all()


def test_several_columns_go_back_as_one_by_one(ops, activation_name):
    case, _ = standard(activation_name, "squared_error", ops=ops)
    columns = ops.asarray(np.random.default_rng(0).standard_normal((4, *case.tape().output.shape)))
    together = {l: d.copy() for l, d in backpropagate(case.net, case.W, case.tape(), columns)}
    for i, column in enumerate(columns):
        for l, delta in backpropagate(case.net, case.W, case.tape(), column):
            close(together[l][i], delta, 1e-14)


def test_several_directions_go_forward_as_one_by_one(ops, activation_name):
    case, _ = standard(activation_name, "squared_error", ops=ops)
    V = ops.asarray(np.random.default_rng(0).standard_normal((3, case.net.size)))
    views = [case.net.views(v) for v in V]
    together = r_forward(case.net, case.W, case.tape(), views)
    for i in range(3):
        close(together[i], r_forward(case.net, case.W, case.tape(), [views[i]])[0], 1e-14)


def test_workspace_changes_nothing(ops, activation_name):
    """Buffers left by passes with more rows, or fewer, do not change a result."""
    case, _ = standard(activation_name, "softmax_cross_entropy", ops=ops)
    net, W, workspace = case.net, case.W, Workspace(ops, np.float64)
    v = ops.asarray(np.random.default_rng(0).standard_normal(net.size))
    plain = {}
    for rows in (6, 2, 5, 6):
        for ws in (None, workspace):
            tape = forward(net, W, case.x[:rows], ws)
            delta = case.loss.gradient(ops, tape.output, case.y[:rows])
            g, product = ops.xp.empty(net.size), ops.xp.empty(net.size)
            gradient(net, W, tape, delta, net.views(g), ws)
            Jv = r_forward(net, W, tape, [net.views(v), net.views(g)], ws).copy()
            gn_vector(net, W, tape, case.loss, case.y[:rows], net.views(v), net.views(product), ws)
            results = [tape.output.copy(), g, Jv, product]
            if ws is None:
                plain[rows] = results
            else:
                for a, b in zip(results, plain[rows], strict=True):
                    same(a, b)


def test_passes_stay_in_single_precision(ops, activation_name, loss_name):
    double, truth = standard(activation_name, loss_name, ops=ops)
    net = network(double.net.sizes, double.names, "float32", ops)
    y = double.y if double.y.dtype.kind == "i" else double.y.astype(np.float32)
    theta = double.theta.astype(np.float32)
    W, tape = net.views(theta), forward(net, net.views(theta), double.x.astype(np.float32))
    assert tape.output.dtype == np.float32
    delta = double.loss.gradient(ops, tape.output, y)
    assert delta.dtype == np.float32
    v, out = ops.xp.ones(net.size, dtype=np.float32), ops.xp.empty(net.size, dtype=np.float32)
    gradient(net, W, tape, delta * (1.0 / len(y)), net.views(out))
    close(out, truth.gradient(), 1e-4)
    gn_vector(net, W, tape, double.loss, y, net.views(v), net.views(out))
    close(out, truth.gauss_newton().sum(axis=1), 1e-4)
    hessian_vector(net, W, tape, double.loss, y, net.views(v), net.views(out))
    close(out, truth.hessian().sum(axis=1), 1e-4)
    assert r_forward(net, W, tape, [net.views(v)]).dtype == np.float32


def test_units_that_give_the_same_on_all_rows_are_counted(ops):
    activations = [get_activation(name) for name in ("relu", "tanh", "identity")]
    net = Network((3, 4, 5, 2), activations, ops, "float32")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    theta = np.random.default_rng(1).normal(size=net.size).astype("float32")
    W = net.views(theta)
    assert int(still_units(net, forward(net, net.views(ops.asarray(theta)), ops.asarray(x)))) == 0
    W[0][1:3, -1] = -100.0  # relu gives 0
    W[1][4, -1] = 100.0  # tanh gives 1
    tape = forward(net, net.views(ops.asarray(theta)), ops.asarray(x))
    assert int(still_units(net, tape)) == 3
    assert int(still_units(net, tape.head(1))) == 9
