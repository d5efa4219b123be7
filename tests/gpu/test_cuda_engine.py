"""Activations, losses, passes and curvatures give the same numbers on both devices, without a copy in between."""

import numpy as np
import pytest
from gpu_case import make_case

from gnopt.curvature import Sample, get_curvature
from gnopt.curvature.exact import full_gauss_newton, mean_blocks, mean_pre_activation
from gnopt.curvature.kron import dense
from gnopt.engine.activations import get_activation
from gnopt.engine.backend import Backend
from gnopt.engine.losses import get_loss
from gnopt.engine.network import forward, gn_vector, gradient, hessian_vector
from gnopt.optimizers import options_of
from gnopt.optimizers.preconditioner import OPTIONS
from gnopt.options import defaults

CPU = Backend()


def tolerance(dtype):
    return {"rtol": 2e-4, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-13}


def test_activations(cuda, counters, activation_name, dtype_name):
    f = get_activation(activation_name)
    h = np.linspace(-6.0, 6.0, 41).reshape(1, 41).astype(dtype_name)
    there = cuda.asarray(h)
    counters.reset()
    found = []
    for ops, x in ((CPU, h), (cuda, there)):
        a = f.f(ops, x, ops.xp.empty_like(x))
        kept = None if f.from_output else x
        found.append((a, f.df(ops, kept, a, ops.xp.empty_like(a)), f.d2f(ops, kept, a)))
    assert counters.syncs == counters.h2d == 0
    for expected, device in zip(*found, strict=True):
        assert device.dtype == np.dtype(dtype_name)
        np.testing.assert_allclose(cuda.to_host(device), expected, **tolerance(dtype_name))


def test_losses(cuda, counters, loss_name, dtype_name):
    case = make_case(loss_name, dtype=dtype_name)
    loss, y = case.loss, case.y
    rng = np.random.default_rng(1)
    h = rng.standard_normal((len(y), 3)).astype(dtype_name)
    v = rng.standard_normal((2, len(y), 3)).astype(dtype_name)
    s = rng.standard_normal((len(y), loss.rank(3))).astype(dtype_name)

    def everything(ops, h, y, v, s):
        value, delta = loss.value_and_gradient(ops, h, y)
        return [value, delta, loss.value(ops, h, y), loss.gradient(ops, h, y), loss.prediction(ops, h),
                loss.error(ops, h, y), loss.gn_matrix(ops, h, y), loss.gn_mean(ops, h, y),
                loss.gn_product(ops, h, y, v),
                loss.gn_root(ops, h, y), loss.gn_root_product(ops, h, y, s), loss.hessian_matrix(ops, h, y),
                loss.hessian_product(ops, h, y, v[0]),
                *([loss.gn_diagonal(ops, h, y)] if loss.diagonal else [])]

    there = [cuda.asarray(a) for a in (h, y, v, s)]
    counters.reset()
    device = everything(cuda, *there)
    assert counters.syncs == counters.h2d == 0
    for i, (found, expected) in enumerate(zip(device, everything(CPU, h, y, v, s), strict=True)):
        assert found.dtype == np.dtype(dtype_name) and found.shape == expected.shape, i
        np.testing.assert_allclose(cuda.to_host(found), expected, **tolerance(dtype_name), err_msg=str(i))
    sampled = loss.sampled_gradient(cuda, there[0], np.random.default_rng(3))
    np.testing.assert_allclose(cuda.to_host(sampled), loss.sampled_gradient(CPU, h, np.random.default_rng(3)),
                               **tolerance(dtype_name))


def test_distributions_as_targets(cuda):
    loss, rng = get_loss("softmax_cross_entropy"), np.random.default_rng(0)
    h, y = rng.standard_normal((6, 4)), rng.dirichlet(np.ones(4), 6)
    for found, expected in zip(loss.value_and_gradient(cuda, cuda.asarray(h), cuda.asarray(y)),
                               loss.value_and_gradient(CPU, h, y), strict=True):
        np.testing.assert_allclose(cuda.to_host(found), expected, rtol=1e-12)


@pytest.mark.parametrize("names", [("tanh", "gelu"), ("silu", "elu"), ("selu", "leaky_relu"), ("softplus", "relu")])
def test_passes(cuda, counters, names, loss_name):
    case = make_case(loss_name, names)

    def passes(ops, theta, x, y, v):
        net = case.network(ops)
        W, out = net.views(theta), [ops.xp.empty_like(theta) for _ in range(3)]
        tape = forward(net, W, x)
        gradient(net, W, tape, case.loss.gradient(ops, tape.output, y), net.views(out[0]))
        gn_vector(net, W, tape, case.loss, y, net.views(v), net.views(out[1]))
        hessian_vector(net, W, tape, case.loss, y, net.views(v), net.views(out[2]))
        return [tape.output, *out]

    host = [case.theta, case.x, case.y, np.random.default_rng(2).standard_normal(case.theta.shape)]
    there = [cuda.asarray(a) for a in host]
    counters.reset()
    device = passes(cuda, *there)
    assert counters.syncs == counters.h2d == 0
    for found, expected in zip(device, passes(CPU, *host), strict=True):
        np.testing.assert_allclose(cuda.to_host(found), expected, rtol=1e-9, atol=1e-12)


def sample(ops, case, settings, memory=1 << 20):
    net = case.network(ops)
    theta, x, y = (ops.asarray(a) for a in (case.theta, case.x, case.y))
    return Sample(net, net.views(theta), forward(net, net.views(theta), x), case.loss, y, np.random.default_rng(4),
                  memory, settings)


@pytest.mark.parametrize("changes", [{}, {"columns": 2, "samples": 2}, {"factor_width": 2},
                                     {"curvature_decay": 0.0}], ids=str)
def test_output_factors(cuda, curvature_name, loss_name, changes):
    case = make_case(loss_name, rows=2 if "curvature_decay" in changes else 24)  # rows enough, or low rank
    curvature = get_curvature(curvature_name)
    settings = {**defaults(OPTIONS), **defaults(curvature.options), **changes}
    found, expected = (curvature.output_factors(sample(ops, case, settings)) for ops in (cuda, CPU))
    for a, b, d in zip(found, expected, case.sizes[1:], strict=True):
        np.testing.assert_allclose(cuda.to_host(dense(cuda, a, d)), dense(CPU, b, d), rtol=1e-9, atol=1e-12)


def test_kflr_in_blocks_that_are_recompressed(cuda):
    case = make_case("softmax_cross_entropy", ("tanh", "tanh"), widths=(5, 1, 6, 3))
    settings = defaults(options_of("kflr"))
    found, expected = (get_curvature("kflr").output_factors(sample(ops, case, settings, 500)) for ops in (cuda, CPU))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(cuda.to_host(a), b, rtol=1e-9, atol=1e-12)


def test_exact_blocks(cuda, counters, loss_name):
    case = make_case(loss_name)

    def blocks(ops):
        look = sample(ops, case, {})
        found = [*mean_pre_activation(look, hessian=True), *mean_blocks(look, hessian=False).values(),
                 *mean_blocks(look, hessian=True).values()]
        return [*found, full_gauss_newton(look)]

    for found, expected in zip(blocks(cuda), blocks(CPU), strict=True):
        np.testing.assert_allclose(cuda.to_host(found), expected, rtol=1e-9, atol=1e-12)
