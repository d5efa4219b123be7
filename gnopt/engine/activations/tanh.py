"""f(h) = tanh h, f' = 1 − a², f'' = −2 a (1 − a²)."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import InitRule, glorot
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.tanh(h, out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    ops.xp.multiply(a, a, out=out)
    return ops.xp.subtract(1.0, out, out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return -2.0 * a * (1.0 - a * a)


ACTIVATION = Activation(
    "tanh",
    "hyperbolic tangent",
    _f,
    _df,
    _d2f,
    from_output=True,
    onnx=Operator("Tanh"),
    init=InitRule(glorot),
)
