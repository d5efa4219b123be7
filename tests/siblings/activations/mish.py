"""f(h) = h tanh(softplus(h)) (Misra 2019)."""

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import OnnxGraph


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.multiply(h, ops.xp.tanh(ops.softplus(h)), out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    t, s = ops.xp.tanh(ops.softplus(h)), ops.sigmoid(h)
    return ops.xp.add(t, h * s * (1.0 - t * t), out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    t, s = ops.xp.tanh(ops.softplus(h)), ops.sigmoid(h)
    return (1.0 - t * t) * s * (2.0 + h * (1.0 - s - 2.0 * t * s))


def _onnx(graph: OnnxGraph, h: str, a: str) -> None:
    gate = graph.node("Tanh", [graph.node("Softplus", [h], f"{a}_softplus")], f"{a}_gate")
    graph.node("Mul", [h, gate], a)


ACTIVATION = Activation("mish", "h times tanh of softplus of h", _f, _df, _d2f, onnx=_onnx)
