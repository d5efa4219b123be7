"""The reference itself: its chain rule and its differences against jax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference import LOSSES, close, make_case, numerical, package_activation, standard


@pytest.mark.parametrize("loss_name", ["softmax_cross_entropy", "binary_mixture"])
def test_dense_hessian_and_gradient_are_those_of_the_whole_objective(loss_name):
    case, truth = standard("tanh", loss_name, rows=2)

    def objective(theta):
        total, start = 0.0, 0
        for x, y in zip(case.x, case.y, strict=True):
            a, start = jnp.asarray(x), 0
            for l, (o, i) in enumerate(case.net.shapes):
                W = theta[start : start + o * i].reshape(o, i)
                start += o * i
                a = W[:, :-1] @ a + W[:, -1]
                a = jnp.tanh(a) if l < case.net.layers - 1 else a
            total = total + LOSSES[loss_name](a, y)
        return total / len(case.x)

    close(truth.gradient(), jax.grad(objective)(case.theta), 1e-12)
    close(truth.hessian(), jax.jit(jax.hessian(objective))(case.theta), 1e-12)
    close(truth.values.mean(), objective(case.theta), 1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus"])
def test_unknown_activations_are_differentiated_as_well(name, monkeypatch):
    h = np.linspace(-4.0, 4.0, 41)
    known, unknown = reference.ACTIVATIONS[name], numerical(package_activation(name))
    for derivative in (lambda f: f, jax.grad, lambda f: jax.grad(jax.grad(f))):
        close(jax.vmap(derivative(unknown))(h), jax.vmap(derivative(known))(h), 1e-8)
    case, truth = standard(name, "squared_error", rows=2)
    monkeypatch.delitem(reference.ACTIVATIONS, name)
    reference._derivatives.cache_clear()
    close(reference.Truth(case).hessian(), truth.hessian(), 1e-7)
    reference._derivatives.cache_clear()
    assert case.tolerance == reference.NUMERICAL


@pytest.mark.parametrize("loss_name", ["poisson", "softmax_cross_entropy"])
def test_unknown_losses_are_differentiated_as_well(loss_name, monkeypatch):
    case = make_case((2, 3), (), loss_name, 4)
    known = reference.PointLoss(loss_name)
    monkeypatch.delitem(reference.LOSSES, loss_name)
    unknown = reference.PointLoss(loss_name)
    h = case.tape().output
    for quantity in ("value", "gradient", "hessian", "gauss_newton"):
        close(
            reference.over_rows(getattr(unknown, quantity), h, case.y),
            reference.over_rows(getattr(known, quantity), h, case.y),
            1e-8,
        )


@pytest.mark.parametrize("at", [-1e-6, 0.0, 1e-6, 0.03, 0.0791, 0.5])
def test_differences_see_kinks(at):
    """max(h, 0) and ½ max(h, 0)², where the left derivative counts at the kink itself."""
    h = np.array([at])
    slope = (h > 0.0).astype(float)
    close(reference.differences(lambda v: np.maximum(v, 0.0), h, 1), slope, 1e-9)
    close(reference.differences(lambda v: np.maximum(v, 0.0), h, 2), 0.0 * h, 1e-7)
    half = [slope * h, slope]
    for order, expected in enumerate(half, start=1):
        found = reference.differences(lambda v: 0.5 * np.maximum(v, 0.0) ** 2, h, order)
        close(found, expected, 1e-9)
