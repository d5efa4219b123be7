"""Element-wise transfer functions, one file each: f, f' and f'' of a pre-activation.

A new file that defines ``ACTIVATION`` is found by itself. Nothing here knows a method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnopt.engine.arrays import Array, Backend, get_backend
from gnopt.engine.initializers import InitRule
from gnopt.engine.onnx_form import OnnxForm
from gnopt.registry import discover, lookup


@dataclass(frozen=True)
class Activation:
    """The facts of one transfer function.

    f(ops, h, out) → a,   df(ops, h, a, out) → f'(h),   d2f(ops, h, a) → f''(h), all of h's shape.
    f and df write to ``out``, which may be the same array as ``h``, and return it.

    The functions depend on their arguments alone. On a GPU each is called once, and what it did
    becomes one kernel (`gnopt.engine.arrays.fuse`). Exported source code is made in the same way.

    With ``from_output``, df and d2f read only a = f(h): h is not kept, and they are given None.
    ``piecewise_linear`` says that f'' is zero; f'(0) is then the slope on the left (0 for relu).
    ``onnx`` appends f to an ONNX graph, from the name of h to the name of a; without it, f is
    traced for that.
    ``init`` says how initial weights fit f; without it, this is computed from f.
    """

    name: str
    summary: str
    f: Callable[[Backend, Array, Array], Array]
    df: Callable[[Backend, Array, Array, Array], Array]
    d2f: Callable[[Backend, Array, Array], Array]
    from_output: bool = False
    piecewise_linear: bool = False
    onnx: OnnxForm | None = None
    init: InitRule | None = None
    other_names: tuple[str, ...] = ()

    @cached_property
    def init_rule(self) -> InitRule:
        """How initial weights fit f: ``init`` or, without it, what ``InitRule.measured`` finds."""
        return self.init or InitRule.measured(self.values)

    def values(self, h: Array) -> tuple[Array, Array]:
        """Return f(h) and f'(h) of float64 numbers on the host."""
        ops = get_backend("cpu")
        a = self.f(ops, h.copy(), np.empty_like(h))
        return a, self.df(ops, h, a, np.empty_like(h))


def all_activations() -> dict[str, Activation]:
    """Return every activation in this folder, by name."""
    return discover(__name__, "ACTIVATION")


def get_activation(name: str) -> Activation:
    """Return the activation called ``name``, or the plug-in ``"module:Name"``; ConfigError if there
    is none.
    """
    activation: Activation = lookup(__name__, "ACTIVATION", name, "activation")
    return activation
