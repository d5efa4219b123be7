"""f(h) = h for h > 0, 0.01 h otherwise; f'(0) = 0.01, f'' = 0."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import REACH, InitRule, he
from gnopt.engine.onnx_form import Operator

SLOPE = 0.01


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.maximum(h, SLOPE * h, out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    out[...] = a > 0.0
    out *= 1.0 - SLOPE
    out += SLOPE
    return out


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return ops.xp.zeros_like(a)


ACTIVATION = Activation(
    "leaky_relu",
    "h if h > 0 else 0.01 h",
    _f,
    _df,
    _d2f,
    from_output=True,
    piecewise_linear=True,
    onnx=Operator("LeakyRelu", alpha=SLOPE),
    init=InitRule(he, output=0.1, reach=REACH),
    other_names=("lrelu",),
)
