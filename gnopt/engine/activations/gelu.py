"""f(h) = h Φ(h) with the normal distribution function Φ, erf form (Hendrycks & Gimpel 2016)."""

from math import pi, sqrt

from gnopt.engine.activations import Activation
from gnopt.engine.arrays import Array, Backend
from gnopt.engine.onnx_form import OnnxGraph


def _cdf(ops: Backend, h: Array) -> Array:
    cdf = ops.erf(h * (1.0 / sqrt(2.0)))
    cdf += 1.0
    cdf *= 0.5
    return cdf


def _pdf(ops: Backend, h: Array) -> Array:
    return ops.xp.exp(h * h * -0.5) * (1.0 / sqrt(2.0 * pi))


def _f(ops: Backend, h: Array, out: Array) -> Array:
    return ops.xp.multiply(h, _cdf(ops, h), out=out)


def _df(ops: Backend, h: Array, a: Array, out: Array) -> Array:
    return ops.xp.add(_cdf(ops, h), h * _pdf(ops, h), out=out)


def _d2f(ops: Backend, h: Array, a: Array) -> Array:
    return (2.0 - h * h) * _pdf(ops, h)


def _onnx(graph: OnnxGraph, h: str, a: str) -> None:  # h (1 + erf(h / √2)) / 2
    half, one = graph.constant("half", 0.5), graph.constant("one", 1.0)
    scaled = graph.node("Mul", [h, graph.constant("root_half", 0.5**0.5)], f"{a}_scaled")
    erf = graph.node("Erf", [scaled], f"{a}_erf")
    cdf = graph.node("Mul", [half, graph.node("Add", [erf, one], f"{a}_sum")], f"{a}_gate")
    graph.node("Mul", [h, cdf], a)


ACTIVATION = Activation(
    "gelu", "h times the normal distribution function (erf form)", _f, _df, _d2f, onnx=_onnx
)
