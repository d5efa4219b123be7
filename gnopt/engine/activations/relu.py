"""f(h) = max(h, 0), f'(0) = 0, f'' = 0."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import REACH, InitRule, he
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.maximum(h, 0.0, out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    out[...] = a > 0.0
    return out


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return ops.xp.zeros_like(a)


ACTIVATION = Activation(
    "relu",
    "max(h, 0)",
    _f,
    _df,
    _d2f,
    from_output=True,
    piecewise_linear=True,
    onnx=Operator("Relu"),
    init=InitRule(he, output=0.1, reach=REACH),
    other_names=("rectifier",),
)
