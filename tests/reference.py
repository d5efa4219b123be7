"""Small problems and their slow, dense truth: automatic differentiation in float64, one data point
at a time.

Activations and losses are defined here a second time, in jax, by name. A sibling that this file
does not know is differentiated numerically, so that a new one is tested without a word being
written here. Blocks follow the package's convention: vec stacks the columns of [weight, bias], so
that a block is A ⊗ G.

The truth is of the host: a case holds arrays of its backend, ``Truth`` and the comparisons fetch
what they are given.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import factorial
from typing import Any

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0"
)  # compiling costs more than running

import jax
import jax.numpy as jnp
from draws import targets, width

from gnopt.curvature import Curvature, CurvatureSample, get_curvature
from gnopt.curvature.factors import Forms
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, Backend, Workspace
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network, Tape, forward
from gnopt.optimizers import get_method, make
from gnopt.optimizers.base import Optimizer, OptimizerSettings, Problem
from gnopt.options import Settings as SettingsRecord

jax.config.update("jax_enable_x64", True)

OPS = NumpyBackend()
EXACT, NUMERICAL = 1e-10, 1e-6  # relative tolerances, with derivatives by jax and by differences


def host(array: Any) -> np.ndarray:
    """An array of either backend as one of the host."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


# ---- activations ---------------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable] = {
    "identity": lambda h: h,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": lambda h: jnp.where(h > 0, h, 0.0 * h),
    "leaky_relu": lambda h: jnp.where(h > 0, h, 0.01 * h),
    "elu": lambda h: jnp.where(h > 0, h, jnp.expm1(jnp.minimum(h, 0.0))),
    "selu": lambda h: (
        1.0507009873554804934
        * jnp.where(h > 0, h, 1.6732632423543772848 * jnp.expm1(jnp.minimum(h, 0.0)))
    ),
    "softplus": lambda h: jnp.logaddexp(h, 0.0),
    "gelu": lambda h: 0.5 * h * (1.0 + jax.scipy.special.erf(h / np.sqrt(2.0))),
    "silu": lambda h: h / (1.0 + jnp.exp(-h)),
}

STEP, WIDTH = 0.02, 9  # differences of eighth order take nine points
SMOOTH, NOISE = 1e-9, 1e-13  # high differences without a kink, and of rounding alone


def _weights(offsets: np.ndarray, order: int) -> np.ndarray:
    """Weights of f(h + o STEP) in STEPᵒʳᵈᵉʳ times the derivative of an order: exact for polynomials
    of a degree below the number of points.
    """
    unit = np.zeros(len(offsets))
    unit[order] = factorial(order)
    return np.linalg.solve(np.vander(offsets, increasing=True).T, unit)


CENTRAL, LEFT, RIGHT = (np.arange(WIDTH) - past for past in (4.0, 8.0, 0.0))


def differences(f: Callable[[np.ndarray], np.ndarray], h: np.ndarray, order: int) -> np.ndarray:
    """f, f' or f'' at h, by differences.

    Where a kink of f or of its derivatives lies between the points of central differences, those of
    the smoother side are taken; the left ones, as the package does, where the kink is at h itself.
    """
    if order == 0:
        return f(h)
    found, roughness = _differences(f, h, CENTRAL, order)
    if (roughness > SMOOTH).any():
        left, on_left = _differences(f, h, LEFT, order)
        right, on_right = _differences(f, h, RIGHT, order)
        side = np.where(on_left <= on_right + NOISE, left, right)
        found = np.where(roughness > SMOOTH, side, found)
    return found


def _differences(
    f: Callable[[np.ndarray], np.ndarray], h: np.ndarray, offsets: np.ndarray, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """The derivative from these points, and their high differences, which show a kink."""
    values = np.stack([f(h + o * STEP) for o in offsets])
    high = [
        np.abs(np.tensordot(_weights(points, len(points) - 1), values[: len(points)], 1))
        for points in (offsets, offsets[:-1])
    ]
    roughness = np.maximum(*high) / (1.0 + np.abs(values).max(axis=0))
    return np.tensordot(_weights(offsets, order), values, 1) / STEP**order, roughness


def numerical(f: Callable[[np.ndarray], np.ndarray], order: int = 0) -> Callable:
    """A jax function whose values and first two derivatives come from calls of the NumPy function
    f.
    """

    @jax.custom_jvp
    def g(h):
        shape = jax.ShapeDtypeStruct(jnp.shape(h), jnp.float64)
        return jax.pure_callback(
            lambda v: differences(f, np.asarray(v), order), shape, h, vmap_method="expand_dims"
        )

    @g.defjvp
    def derivative(primals, tangents):
        if order == 2:  # traced, never used
            return g(*primals), jnp.zeros_like(tangents[0])
        return g(*primals), numerical(f, order + 1)(*primals) * tangents[0]

    return g


def package_activation(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """f of the package as a plain function."""
    return lambda h: get_activation(name).f(OPS, h, np.empty_like(h))


def activation(name: str) -> Callable:
    """The activation in jax."""
    return ACTIVATIONS.get(name) or numerical(package_activation(name))


# ---- losses: E(h, y) of one data point -----------------------------------------------------------


def _mixture_probability(h):
    gate, first, second = jax.nn.sigmoid(h[0]), jax.nn.sigmoid(h[1]), jax.nn.sigmoid(h[2])
    return gate * first + (1.0 - gate) * second


def _softmax(h, y):
    return jax.nn.logsumexp(h) - (h[y] if jnp.ndim(y) == 0 else jnp.dot(y, h))


LOSSES: dict[str, Callable] = {
    "squared_error": lambda h, y: 0.5 * jnp.sum((h - y) ** 2),
    "binary_cross_entropy": lambda h, y: (
        -jnp.sum(y * jax.nn.log_sigmoid(h) + (1.0 - y) * jax.nn.log_sigmoid(-h))
    ),
    "softmax_cross_entropy": _softmax,
    "poisson": lambda h, y: jnp.sum(jnp.exp(h) - y * h),
    "binary_mixture": lambda h, y: (
        -(
            y[0] * jnp.log(_mixture_probability(h))
            + (1.0 - y[0]) * jnp.log1p(-_mixture_probability(h))
        )
    ),
}


PREDICTIONS: dict[str, Callable] = {
    "squared_error": lambda h: h,
    "binary_cross_entropy": jax.nn.sigmoid,
    "softmax_cross_entropy": jax.nn.softmax,
    "poisson": jnp.exp,
    "binary_mixture": lambda h: _mixture_probability(h)[None],
}


def _mixture_gn(h, y):
    p, u = jax.value_and_grad(_mixture_probability)(h)
    return (y[0] / p**2 + (1.0 - y[0]) / (1.0 - p) ** 2) * jnp.outer(u, u)


def _mixture_fisher(h):
    p, u = jax.value_and_grad(_mixture_probability)(h)
    return jnp.outer(u, u) / (p * (1.0 - p))


GAUSS_NEWTON = {"binary_mixture": _mixture_gn}  # where 𝒢_L is not the Hessian
FISHER = {"binary_mixture": _mixture_fisher}  # where it is not the Hessian either


class PointLoss:
    """E, gradient, Hessian, 𝒢_L and Fisher matrix of a loss at one data point."""

    def __init__(self, name: str) -> None:
        self.name, self.loss = name, get_loss(name)
        self.known = name in LOSSES
        if self.known:
            E = LOSSES[name]
            self._value, self._gradient = jax.jit(E), jax.jit(jax.grad(E))
            self._hessian = jax.jit(jax.hessian(E))
        if name in PREDICTIONS:
            self._predicted_by = jax.jit(jax.jacrev(PREDICTIONS[name]))

    def value(self, h: np.ndarray, y: Any) -> float:
        """E(h, y)."""
        if self.known:
            return float(self._value(h, y))
        return float(self.loss.value(OPS, h[None], np.asarray(y)[None])[0])

    def gradient(self, h: np.ndarray, y: Any) -> np.ndarray:
        """∂E/∂h, (K,)."""
        if self.known:
            return np.asarray(self._gradient(h, y))
        return np.array(
            [differences(self._along(h, e, y), np.zeros(()), 1) for e in np.eye(len(h))]
        )

    def hessian(self, h: np.ndarray, y: Any) -> np.ndarray:
        """∂²E/∂h², (K, K)."""
        if self.known:
            return np.asarray(self._hessian(h, y))
        rows = [differences(self._slope_along(h, e, y), np.zeros(()), 1) for e in np.eye(len(h))]
        return 0.5 * (np.stack(rows) + np.stack(rows).T)

    def prediction_jacobian(self, h: np.ndarray) -> np.ndarray:
        """J_p = ∂prediction/∂h, (outputs that are predicted, K)."""
        if self.name in PREDICTIONS:
            return np.asarray(self._predicted_by(h))

        def along(direction: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            return lambda t: self.loss.prediction(OPS, (h + t * direction)[None])[0]

        columns = [differences(along(e), np.zeros(()), 1) for e in np.eye(len(h))]
        return np.stack(columns, axis=1)

    def _along(
        self, h: np.ndarray, direction: np.ndarray, y: Any
    ) -> Callable[[np.ndarray], np.ndarray]:
        return lambda t: np.asarray(self.value(h + t * direction, y))

    def _slope_along(
        self, h: np.ndarray, direction: np.ndarray, y: Any
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The package's own gradient, which `gradient` has judged: fewer kinks than of E."""
        targets = np.asarray(y)[None]
        return lambda t: self.loss.gradient(OPS, (h + t * direction)[None], targets)[0]

    def gauss_newton(self, h: np.ndarray, y: Any) -> np.ndarray:
        """𝒢_L; of an unknown loss that is not convex it is the package's own."""
        if self.loss.convex:
            return self.hessian(h, y)
        if self.name in GAUSS_NEWTON:
            return np.asarray(GAUSS_NEWTON[self.name](h, y))
        return self.loss.gn_matrix(OPS, h[None], np.asarray(y)[None])[0]

    def fisher(self, h: np.ndarray) -> np.ndarray | None:
        """The Fisher matrix; None for a loss where it is not known."""
        if self.name in FISHER:
            return np.asarray(FISHER[self.name](h))
        if not (self.known and self.loss.likelihood):
            return None
        drawn = targets(self.loss, np.random.default_rng(0), 4, len(h))
        first, *others = [self.hessian(h, y) for y in drawn]
        if not all(np.allclose(other, first, 1e-9, 1e-12) for other in others):
            return None
        return first  # an exponential family in h: the Hessian does not depend on y


@cache
def point_loss(name: str) -> PointLoss:
    """The loss called ``name``."""
    return PointLoss(name)


def over_rows(f: Callable, *arrays: Array) -> np.ndarray:
    """Apply a function of one data point to every row."""
    return np.stack([np.asarray(f(*row)) for row in zip(*map(host, arrays), strict=True)])


# ---- the network ---------------------------------------------------------------------------------


@cache
def _derivatives(sizes: tuple[int, ...], names: tuple[str, ...]) -> Callable:
    """A compiled function (θ, x) → everything about one data point that does not depend on the
    loss.
    """
    functions = [activation(name) for name in names]
    shapes = [(o, i + 1) for i, o in itertools.pairwise(sizes)]
    ends = np.cumsum([0] + [o * i for o, i in shapes])

    def run(theta, x, shifts):
        a, abar, h = x, [], []
        for l, shape in enumerate(shapes):
            abar.append(jnp.append(a, 1.0))
            h.append(theta[ends[l] : ends[l + 1]].reshape(shape) @ abar[-1] + shifts[l])
            a = functions[l](h[-1]) if l < len(functions) else h[-1]
        return a, abar, h

    def everything(theta, x):
        shifts = [jnp.zeros(o) for o, _ in shapes]
        output, abar, h = run(theta, x, shifts)
        slopes = [
            jax.jvp(f, (v,), (jnp.ones_like(v),))[1] for f, v in zip(functions, h, strict=False)
        ]
        J = jax.jacrev(lambda t: run(t, x, shifts)[0])(theta)
        T = jax.jacfwd(jax.jacrev(lambda t: run(t, x, shifts)[0]))(theta)
        S = jax.jacrev(lambda s: run(theta, x, s)[0])(shifts)
        return output, abar, slopes, J, T, S

    return jax.jit(everything)


@dataclass(frozen=True)
class Case:
    """A network with weights, a batch and its targets, on the network's backend."""

    net: Network
    names: tuple[str, ...]
    loss_name: str
    theta: Array
    x: Array
    y: Array

    @property
    def ops(self) -> Backend:
        """Where the arrays are."""
        return self.net.ops

    def on(self, ops: Backend) -> Case:
        """The case on a backend."""
        if ops.device == self.ops.device:
            return self
        net = Network(self.net.sizes, self.net.activations, ops, self.net.dtype.name)
        return Case(
            net,
            self.names,
            self.loss_name,
            *(ops.asarray(host(a)) for a in (self.theta, self.x, self.y)),
        )

    @property
    def loss(self) -> Loss:
        """The package's loss."""
        return get_loss(self.loss_name)

    @property
    def W(self) -> list[Array]:
        """The weights as matrices."""
        return self.net.views(self.theta)

    def tape(self) -> Tape:
        """The package's forward pass."""
        return forward(self.net, self.W, self.x)

    @property
    def tolerance(self) -> float:
        """Relative tolerance of comparisons with the truth."""
        known = self.loss_name in LOSSES and all(name in ACTIVATIONS for name in self.names)
        return EXACT if known else NUMERICAL

    def check(self, actual: Any, expected: Any, tolerance: float | None = None) -> None:
        """Assert that two arrays agree, relative to the largest entry."""
        close(actual, expected, tolerance or self.tolerance)


def close(actual: Any, expected: Any, tolerance: float = EXACT) -> None:
    """Assert that the largest difference is within ``tolerance`` of the largest entry."""
    actual, expected = host(actual), host(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    scale = np.abs(expected).max(initial=0.0) + 1e-3
    error = np.abs(actual - expected).max(initial=0.0)
    assert error <= tolerance * scale, f"largest difference {error:.3e}, largest entry {scale:.3e}"


def same(actual: Any, expected: Any) -> None:
    """Assert that two arrays are equal to the last bit."""
    np.testing.assert_array_equal(host(actual), host(expected))


def distance(a: Any, b: Any) -> float:
    """Relative distance in the Frobenius norm."""
    a, b = host(a), host(b)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class Truth:
    """Dense derivatives of a case, per data point: output h_L, ā_l, f'(h_l), J = ∂h_L/∂θ, T =
    ∂²h_L/∂θ² and S_l = ∂h_L/∂h_l.
    """

    def __init__(self, case: Case) -> None:
        case = self.case = case.on(OPS)
        run = _derivatives(case.net.sizes, case.names)
        points = [jax.tree.map(np.asarray, run(case.theta, x)) for x in case.x]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *points)
        self.output, self.abar, self.slopes, self.J, self.T, self.S = stacked
        point, y = point_loss(case.loss_name), case.y
        self.values = over_rows(point.value, self.output, y)
        self.slope = over_rows(point.gradient, self.output, y)
        self.output_hessian = over_rows(point.hessian, self.output, y)
        self.output_gn = over_rows(point.gauss_newton, self.output, y)

    def input_jacobian(self) -> np.ndarray:
        """∂h_L/∂x, (N, K, D)."""
        return self.S[0] @ self.case.W[0][:, :-1]

    def prediction_jacobian(self) -> np.ndarray:
        """∂prediction/∂x, (N, outputs that are predicted, D)."""
        point = point_loss(self.case.loss_name)
        return over_rows(point.prediction_jacobian, self.output) @ self.input_jacobian()

    def gradient(self) -> np.ndarray:
        """∇ of the mean loss, (P,)."""
        return np.einsum("nk,nkp->p", self.slope, self.J) / len(self.J)

    def gauss_newton(self) -> np.ndarray:
        """mean Jᵀ 𝒢_L J, (P, P)."""
        return np.einsum("nkp,nkj,njq->pq", self.J, self.output_gn, self.J) / len(self.J)

    def hessian(self) -> np.ndarray:
        """The Hessian of the mean loss, (P, P)."""
        full = np.einsum("nkp,nkj,njq->pq", self.J, self.output_hessian, self.J)
        return (full + np.einsum("nk,nkpq->pq", self.slope, self.T)) / len(self.J)

    def block(self, matrix: np.ndarray, layer: int) -> np.ndarray:
        """The block of layer l = 1..L, with the columns of [weight, bias] stacked."""
        shape, start = self.case.net.shapes[layer - 1], self.case.net.offsets[layer - 1]
        order = start + np.arange(shape[0] * shape[1]).reshape(shape).ravel(order="F")
        return matrix[np.ix_(order, order)]

    def input_factor(self, layer: int) -> np.ndarray:
        """A_{l-1} = mean ā āᵀ."""
        return np.einsum("ni,nj->ij", self.abar[layer - 1], self.abar[layer - 1]) / len(self.J)

    def kflr(self) -> list[np.ndarray]:
        """G_l = mean of the exact pre-activation Gauss-Newton matrices."""
        return [np.einsum("nki,nkj,njm->im", S, self.output_gn, S) / len(S) for S in self.S]

    def kfra(self) -> list[np.ndarray]:
        """G_l by the recursion on means."""
        G = [self.output_gn.mean(axis=0)]
        for W, f1 in zip(self.case.W[:0:-1], self.slopes[::-1], strict=True):
            second_moment = np.einsum("ni,nj->ij", f1, f1) / len(f1)
            G.append(W[:, :-1].T @ G[-1] @ W[:, :-1] * second_moment)
        return G[::-1]

    def sampled_gradient(self, rng: np.random.Generator) -> np.ndarray:
        """∂E/∂h_L at targets drawn from the model, (N, K): the package's own draws."""
        return self.case.loss.sampled_gradient(OPS, self.output, rng)

    def moments(self, delta: np.ndarray) -> list[np.ndarray]:
        """mean δ_l δ_lᵀ for δ_L = ``delta``, (N, K), passed back."""
        back = [np.einsum("nk,nki->ni", delta, S) for S in self.S]
        return [np.einsum("ni,nj->ij", d, d) / len(d) for d in back]


# ---- small problems ------------------------------------------------------------------------------


def network(
    sizes: Sequence[int], names: Sequence[str], dtype: str = "float64", ops: Backend = OPS
) -> Network:
    """A network with these hidden activations."""
    return Network(sizes, [get_activation(name) for name in [*names, "identity"]], ops, dtype)


def make_case(
    sizes: Sequence[int],
    names: Sequence[str],
    loss_name: str,
    rows: int,
    seed: int = 0,
    dtype: str = "float64",
    soft: bool = False,
    ops: Backend = OPS,
) -> Case:
    """A random case, the same on any backend; the output layer is widened or narrowed to what the
    loss takes.
    """
    rng = np.random.default_rng(seed)
    loss = get_loss(loss_name)
    sizes = (*sizes[:-1], width(loss, sizes[-1]))
    net = network(sizes, names, dtype)
    theta = 0.7 * rng.standard_normal(net.size)
    x = rng.standard_normal((rows, sizes[0]))
    y = targets(loss, rng, rows, sizes[-1], soft)
    y = y if y.dtype.kind == "i" else y.astype(dtype)
    return Case(net, tuple(names), loss_name, theta.astype(dtype), x.astype(dtype), y).on(ops)


def case_of(
    sizes: Sequence[int],
    names: Sequence[str],
    loss_name: str,
    x: np.ndarray,
    y: np.ndarray,
    seed: int = 0,
    ops: Backend = OPS,
) -> Case:
    """A case with this batch, and random weights."""
    net = network(sizes, names)
    theta = 0.7 * np.random.default_rng(seed).standard_normal(net.size)
    return Case(net, tuple(names), loss_name, theta, x, y).on(ops)


def standard(
    activation_name: str, loss_name: str, rows: int = 6, soft: bool = True, ops: Backend = OPS
) -> tuple[Case, Truth]:
    """The net 4-3-5-3 with its truth; neither may be written to."""
    case, truth = _standard(activation_name, loss_name, rows, soft)
    return case.on(ops), truth


@cache
def _standard(activation_name: str, loss_name: str, rows: int, soft: bool) -> tuple[Case, Truth]:
    case = make_case((4, 3, 5, 3), (activation_name,) * 2, loss_name, rows, soft=soft)
    for array in (case.theta, case.x, case.y):
        array.setflags(write=False)
    return case, Truth(case)


def settings(method_name: str, **changes: Any) -> Any:
    """The settings record of a method at its defaults, with changes; a name that the method does
    not have is left out.
    """
    return of_record(get_method(method_name).settings, **changes)


def curvature(name: str, **changes: Any) -> Curvature:
    """A curvature with its settings, as `settings`."""
    kind = get_curvature(name)
    return kind(of_record(kind.Settings, **changes))


def of_record(record: type[SettingsRecord], **changes: Any) -> Any:
    """A record at its defaults, with those changes whose names it has."""
    known = {option.name for option in record.options()}
    return record.make({k: v for k, v in changes.items() if k in known})


def optimizer(
    case: Case, method_name: str, values: OptimizerSettings | None = None, **problem: Any
) -> Optimizer[Any]:
    """A method at work on a case."""
    facts = {"seed": 0, "rows": len(case.x)} | problem
    return make(method_name, Problem(case.net, case.loss, **facts), values or settings(method_name))


# ---- curvature -----------------------------------------------------------------------------------


def vec(M: Array) -> np.ndarray:
    """Stack the columns of a matrix, on the host."""
    return host(M).ravel(order="F")


def sample_of(
    case: Case,
    seed: int = 0,
    memory: int = 1 << 30,
    workspace: Workspace | None = None,
    rows: Any = slice(None),
    forms: Forms | None = None,
) -> CurvatureSample:
    """Return what a curvature is shown of a case, or of some of its rows."""
    return CurvatureSample(
        case.net,
        case.W,
        forward(case.net, case.W, case.x[rows], workspace),
        case.loss,
        case.y[rows],
        np.random.default_rng(seed),
        memory,
        forms or Forms(),
        workspace,
    )
