"""Activations, losses and passes on a device copy nothing and wait for nothing; factors take the
same form as on the host.

The engine's own tests, which run on the double too, check the numbers.
"""

import numpy as np
import pytest
from gpu_case import make_case

from gnopt.curvature import CurvatureSample, get_curvature
from gnopt.curvature.factors import Forms
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.network import forward, gn_vector, gradient, hessian_vector


def test_activations(cuda, counters, activation_name, dtype_name):
    f = get_activation(activation_name)
    h = cuda.asarray(np.linspace(-6.0, 6.0, 41).reshape(1, 41), dtype=dtype_name)
    counters.reset()
    a = f.f(cuda, h, cuda.xp.empty_like(h))
    kept = None if f.from_output else h
    found = a, f.df(cuda, kept, a, cuda.xp.empty_like(a)), f.d2f(cuda, kept, a)
    assert counters.syncs == counters.h2d == 0
    assert {array.dtype for array in found} == {np.dtype(dtype_name)}


def test_losses(cuda, counters, loss_name, dtype_name):
    case = make_case(loss_name, dtype=dtype_name)
    loss, rng = case.loss, np.random.default_rng(1)
    shapes = (len(case.y), 3), (2, len(case.y), 3), (len(case.y), loss.rank(3))
    h, v, s = (cuda.asarray(rng.standard_normal(shape), dtype=dtype_name) for shape in shapes)
    y = cuda.asarray(case.y)
    counters.reset()
    with cuda.deferred_checks(True):  # a root by eigenvalues has a flag, as in an update
        found = [
            *loss.value_and_gradient(cuda, h, y),
            loss.value(cuda, h, y),
            loss.gradient(cuda, h, y),
            loss.prediction(cuda, h),
            loss.error(cuda, h, y),
            loss.gn_matrix(cuda, h, y),
            loss.gn_mean(cuda, h, y),
            loss.gn_product(cuda, h, y, v),
            loss.gn_root(cuda, h, y),
            loss.gn_root_product(cuda, h, y, s),
            loss.hessian_matrix(cuda, h, y),
            loss.hessian_product(cuda, h, y, v[0]),
            loss.gn_diagonal(cuda, h, y),
        ]
    assert counters.syncs == counters.h2d == 0
    assert {array.dtype for array in found} == {np.dtype(dtype_name)}


@pytest.mark.parametrize(
    "names", [("tanh", "gelu"), ("silu", "elu"), ("selu", "leaky_relu"), ("softplus", "relu")]
)
def test_passes(cuda, counters, names, loss_name):
    case = make_case(loss_name, names)
    net = case.network(cuda)
    theta, x, y = (cuda.asarray(a) for a in (case.theta, case.x, case.y))
    W, out = net.views(theta), net.views(cuda.xp.empty_like(theta))
    counters.reset()
    tape = forward(net, W, x)
    gradient(net, W, tape, case.loss.gradient(cuda, tape.output, y), out)
    gn_vector(net, W, tape, case.loss, y, W, out)
    hessian_vector(net, W, tape, case.loss, y, W, out)
    assert counters.syncs == counters.h2d == 0


@pytest.mark.parametrize(
    ("changes", "forms"),
    [
        ({}, Forms()),
        ({"columns": 2, "samples": 2}, Forms()),
        ({}, Forms(width=2)),
        ({}, Forms(low_rank=True)),
    ],
    ids=str,
)
def test_output_factors(cuda, curvature_name, loss_name, changes, forms):
    case = make_case(loss_name, rows=2 if forms.low_rank else 24)  # rows enough, or low rank
    kind = get_curvature(curvature_name)
    known = {option.name for option in kind.Settings.options()}
    curvature = kind(kind.Settings.make({k: v for k, v in changes.items() if k in known}))

    def factors(ops):
        net = case.network(ops)
        theta, x, y = (ops.asarray(a) for a in (case.theta, case.x, case.y))
        W = net.views(theta)
        sample = CurvatureSample(
            net, W, forward(net, W, x), case.loss, y, np.random.default_rng(4), 1 << 20, forms
        )
        return [ops.to_host(G.dense(ops)) for G in curvature.output_factors(sample)]

    for found, expected in zip(factors(cuda), factors(NumpyBackend()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)
