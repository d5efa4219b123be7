"""f(h) = h."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import NEUTRAL
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    if out is not h:
        out[...] = h
    return out


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    out.fill(1.0)
    return out


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return ops.xp.zeros_like(a)


ACTIVATION = Activation(
    "identity",
    "f(h) = h",
    _f,
    _df,
    _d2f,
    from_output=True,
    piecewise_linear=True,
    onnx=Operator("Identity"),
    init=NEUTRAL,
    other_names=("linear", "none"),
)
