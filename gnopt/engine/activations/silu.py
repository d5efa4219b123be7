"""f(h) = h σ(h) (also called swish), f' = σ (1 + h (1 − σ)), f'' = σ (1 − σ)(2 + h (1 − 2σ))."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import OnnxGraph


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.multiply(h, ops.sigmoid(h), out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    s = ops.sigmoid(h)
    return ops.xp.multiply(s, 1.0 + h * (1.0 - s), out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    s = ops.sigmoid(h)
    return s * (1.0 - s) * (2.0 + h * (1.0 - 2.0 * s))


def _onnx(graph: OnnxGraph, h: str, a: str) -> None:
    graph.node("Mul", [h, graph.node("Sigmoid", [h], f"{a}_gate")], a)


ACTIVATION = Activation(
    "silu",
    "h times the logistic function",
    _f,
    _df,
    _d2f,
    onnx=_onnx,
    other_names=("swish",),
)
