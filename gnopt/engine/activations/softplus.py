"""f(h) = log(1 + exp(h)), f' = σ(h), f'' = σ(h)(1 − σ(h))."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import Operator


def _f(ops: Backend, h: Array, out: Array) -> Array:
    out[...] = ops.softplus(h)
    return out


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    return ops.sigmoid(h, out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    s = ops.sigmoid(h)
    return s * (1.0 - s)


ACTIVATION = Activation(
    "softplus",
    "log(1 + exp(h))",
    _f,
    _df,
    _d2f,
    onnx=Operator("Softplus"),
    other_names=("soft_relu",),
)
