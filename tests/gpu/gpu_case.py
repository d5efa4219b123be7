"""Small problems that run on either device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt.curvature.factors import rest_over_damping
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays import Backend
from gnopt.engine.arrays.functions import Functions
from gnopt.engine.arrays.fuse import FUNCTIONS, fuse, fuse_in_place
from gnopt.engine.arrays.kernels import Kernel
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import Loss, binary_cross_entropy, get_loss
from gnopt.engine.network import Network
from gnopt.optimizers import adam, get_method, make, second_order
from gnopt.optimizers.base import Optimizer, Problem
from gnopt.training.state import from_tree, to_tree


@dataclass
class Case:
    """A problem on the host: sizes, activations, loss, data, initial weights."""

    sizes: tuple[int, ...]
    names: tuple[str, ...]
    loss: Loss
    x: np.ndarray
    y: np.ndarray
    theta: np.ndarray
    dtype: str

    def network(self, ops: Backend) -> Network:
        """The network on a device."""
        return Network(
            self.sizes, [get_activation(n) for n in (*self.names, "identity")], ops, self.dtype
        )

    def optimizer(self, ops: Backend, method: str, **values: Any) -> Optimizer:
        """A method with its default settings, except for ``values``."""
        known = {option.name for option in get_method(method).settings.options()}
        settings = get_method(method).settings.make({k: v for k, v in values.items() if k in known})
        return make(method, Problem(self.network(ops), self.loss, 7, 4 * len(self.x)), settings)

    def run(
        self,
        ops: Backend,
        method: str,
        updates: int,
        start: tuple[Any, Any, int] | None = None,
        **values: Any,
    ) -> tuple[list[dict[str, float]], np.ndarray, Any]:
        """Make updates and return log rows, weights and state, on the host.

        ``start`` is (weights, state, updates made before); without it the run begins afresh.
        """
        optimizer = self.optimizer(ops, method, **values)
        theta = ops.asarray(self.theta.copy() if start is None else start[0].copy())
        if start is None:
            state = optimizer.init(theta)
        else:
            state = from_tree(optimizer.state_type, start[1], ops)
        x, y = ops.asarray(self.x), ops.asarray(self.y)
        first = 1 if start is None else start[2] + 1
        rows = [optimizer.update(theta, state, x, y, k) for k in range(first, first + updates)]
        return rows, ops.to_host(theta), to_tree(state, ops)


def make_case(
    loss: str,
    names: tuple[str, ...] = ("tanh", "sigmoid"),
    dtype: str = "float64",
    rows: int = 24,
    widths: tuple[int, ...] = (5, 6, 4, 3),
) -> Case:
    """A small problem with targets that suit the loss."""
    from draws import targets  # beside the root conftest; the scripts that use this file need none

    rng = np.random.default_rng(3)
    x = rng.standard_normal((rows, widths[0])).astype(dtype)
    found = get_loss(loss)
    y = targets(found, rng, rows, widths[-1])
    y = y if y.dtype.kind == "i" else y.astype(dtype)
    theta = initialize(widths, "glorot", rng, dtype)
    return Case(widths, names, found, x, y, theta, dtype)


def every_function(ops: Any, h: Any, out: Any) -> Any:
    """Apply all functions that `fuse` knows in turn, each to numbers between 0 and 1."""
    out[...] = h
    for name in FUNCTIONS:
        if name != "erf":
            out += getattr(ops.xp, name)(1.0 / (1.0 + out * out))
    out += ops.erf(h) + ops.softplus(h) + ops.sigmoid(h)
    out += 1.5 ** (ops.xp.where(h > 0.0, ops.xp.sign(out), 0.5) / (1.0 + h * h))
    return out


def traced(dtype_name: str) -> dict[str, Kernel | None]:
    """Return the kernels that `fuse` makes for arrays of one type.

    They are those of activations, of products with their slopes, of what losses and optimizers
    compute element by element, and one with every function.
    """
    dtype = np.dtype(dtype_name)
    step, all_there = second_order._advance, [True] * 4
    found = {
        "every function": fuse(every_function, dtype, [True], out=True),
        "sigmoid": fuse(Functions.sigmoid, dtype, [True], out=True),
        "softplus": fuse(Functions.softplus, dtype, [True]),
        "low rank": fuse(rest_over_damping, dtype, [True, True, True], out=True),
        "cross entropy": fuse(binary_cross_entropy._value_and_gradient, dtype, [True, True]),
        "variance": fuse(binary_cross_entropy._variance, dtype, [True]),
        "adam": fuse_in_place(adam._update, dtype, [True] * 3, all_there, scratch=True),
        "advance": fuse_in_place(step, dtype, all_there, [True] * 5, scratch=False),
        "advance alone": fuse_in_place(
            step, dtype, [True, True, True, False], [True] * 5, scratch=False
        ),
    }
    for name, f in all_activations().items():
        kept = [not f.from_output, True]
        found |= {
            f"{name}-f": fuse(f.f, dtype, [True], out=True),
            f"{name}-df": fuse(f.df, dtype, kept, out=True),
            f"{name}-d2f": fuse(f.d2f, dtype, kept),
            f"{name}-times-df": fuse(f.df, dtype, kept, out=True, product=True),
        }
    return found


def same_files(one: Path, other: Path, rtol: float) -> list[str]:
    """Assert that two HDF5 files hold the same arrays; return the names of the arrays."""
    compared: list[str] = []
    with h5py.File(one) as a, h5py.File(other) as b:

        def compare(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                np.testing.assert_allclose(
                    b[name][()], item[()], rtol=rtol, atol=1e-10, err_msg=name
                )
                compared.append(name)

        a.visititems(compare)
    assert compared
    return compared
