"""Element-wise transfer functions, one file each: f, f' and f'' of a pre-activation.

A new file that defines ``ACTIVATION`` is found by itself. Nothing here knows a method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import OnnxForm
from gnopt.registry import discover, lookup


@dataclass(frozen=True)
class Activation:
    """The facts of one transfer function; ``ops`` is the backend, ``out`` may be the same array as
    ``h``.

    The functions depend on their arguments alone: on a GPU they are run once and what they did is
    one kernel (`fuse`).
    f(ops, h, out) → a;   df(ops, h, a, out) → f'(h);   d2f(ops, h, a) → f''(h), all of h's shape.
    Where ``from_output``, df and d2f read only a = f(h), so that h need not be kept (h is None).
    ``onnx`` appends f to an ONNX graph, from the name of h to the name of a; networks with an
    activation without it are exported to the other formats.
    Piecewise-linear convention: f'(0) is the left slope (relu 0, leaky relu its slope), f'' = 0.
    """

    name: str
    summary: str
    f: Callable[[Backend, Array, Array], Array]
    df: Callable[[Backend, Array, Array, Array], Array]
    d2f: Callable[[Backend, Array, Array], Array]
    from_output: bool = False
    piecewise_linear: bool = False
    onnx: OnnxForm | None = None


def all_activations() -> dict[str, Activation]:
    """Every activation in this folder, by name."""
    return discover(__name__, "ACTIVATION")


def get_activation(name: str) -> Activation:
    """The activation called ``name`` or the plug-in ``"module:Name"``; ConfigError if there is
    none.
    """
    return lookup(__name__, "ACTIVATION", name, "activation")
