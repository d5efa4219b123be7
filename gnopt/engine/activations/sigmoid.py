"""f(h) = 1 / (1 + exp(−h)), f' = a (1 − a), f'' = a (1 − a)(1 − 2a)."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.initializers import InitRule, glorot
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.sigmoid(h, out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    ops.xp.subtract(1.0, a, out=out)
    return ops.xp.multiply(out, a, out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return a * (1.0 - a) * (1.0 - 2.0 * a)


ACTIVATION = Activation(
    "sigmoid",
    "logistic function 1 / (1 + exp(-h))",
    _f,
    _df,
    _d2f,
    from_output=True,
    onnx=Operator("Sigmoid"),
    init=InitRule(glorot, stretch=2.0, unit=0.5, mean=0.5),
    other_names=("logistic", "expit"),
)
