"""The hand-written ONNX encoder, read back by an equally small decoder and run in NumPy."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from gnopt.data.split import Statistics
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.network import Network, forward
from gnopt.errors import GnoptError
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.onnx import encode


def fields(data: bytes) -> list[tuple[int, object]]:
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            found.append((tag >> 3, varint()))
        elif tag & 7 == 5:
            found.append((tag >> 3, struct.unpack("<f", data[at : at + 4])[0]))
            at += 4
        else:
            size = varint()
            found.append((tag >> 3, data[at : at + size]))
            at += size
    return found


def every(data: bytes, number: int) -> list:
    return [value for field, value in fields(data) if field == number]


OPERATORS = {
    "Gemm": lambda at, x, w, b: x @ w.T + b,
    "Tanh": lambda at, x: np.tanh(x),
    "Exp": lambda at, x: np.exp(x),
    "Sigmoid": lambda at, x: 1 / (1 + np.exp(-x)),
    "Relu": lambda at, x: np.maximum(x, 0),
    "Identity": lambda at, x: x,
    "Softplus": lambda at, x: np.logaddexp(0, x),
    "Mul": lambda at, x, y: x * y,
    "Add": lambda at, x, y: x + y,
    "Sub": lambda at, x, y: x - y,
    "Div": lambda at, x, y: x / y,
    "LeakyRelu": lambda at, x: np.where(x > 0, x, at["alpha"] * x),
    "Erf": lambda at, x: np.vectorize(math.erf)(x),
    "Elu": lambda at, x: np.where(x > 0, x, at["alpha"] * np.expm1(x)),
    "Selu": lambda at, x: at["gamma"] * np.where(x > 0, x, at["alpha"] * np.expm1(x)),
    "Softmax": lambda at, x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
}


def run(model: bytes, x: np.ndarray) -> dict[str, np.ndarray]:
    (graph,) = every(model, 7)
    values = {"input": x}
    for tensor in every(graph, 5):
        (raw,), (name,), (kind,) = every(tensor, 9), every(tensor, 8), every(tensor, 2)
        values[name.decode()] = np.frombuffer(raw, {1: "<f4", 11: "<f8"}[kind]).reshape(
            every(tensor, 1)
        )
    for node in every(graph, 1):
        attributes = {
            every(a, 1)[0].decode(): (every(a, 2) + every(a, 3))[0] for a in every(node, 5)
        }
        inputs = [values[name.decode()] for name in every(node, 1)]
        (out,), (operator,) = every(node, 2), every(node, 4)
        values[out.decode()] = OPERATORS[operator.decode()](attributes, *inputs)
    return {every(o, 1)[0].decode(): values[every(o, 1)[0].decode()] for o in every(graph, 12)}


@pytest.mark.parametrize("activation", all_activations())
def test_every_activation(activation):
    rng = np.random.default_rng(0)
    net = Network(
        [5, 4, 3],
        [get_activation(activation), get_activation("identity")],
        NumpyBackend(),
        "float64",
    )
    theta, x = rng.standard_normal(net.size), rng.standard_normal((7, 5))
    statistics = Statistics(rng.standard_normal(5), rng.random(5) + 0.5)
    network = StoredNetwork(
        net.views(theta), [activation], "binary_cross_entropy", statistics=statistics
    )
    model = encode(network)
    found = run(model, x)
    h = forward(net, net.views(theta), (x - statistics.mean) / statistics.std).output
    np.testing.assert_allclose(found["logits"], h, rtol=1e-6, atol=1e-6)  # attributes are float32
    np.testing.assert_allclose(found["output"], 1 / (1 + np.exp(-h)), rtol=1e-6)


@pytest.mark.parametrize(
    "loss, outputs", [("softmax_cross_entropy", {"logits", "output"}), ("mine:Loss", {"logits"})]
)
def test_outputs(loss, outputs):
    weights = [np.ones((3, 5), np.float32)]
    assert (
        set(run(encode(StoredNetwork(weights, [], loss)), np.ones((2, 4), np.float32))) == outputs
    )


def test_plug_in_activations_have_no_onnx_form():
    with pytest.raises(GnoptError, match="mine:F"):
        encode(StoredNetwork([np.ones((3, 5)), np.ones((2, 4))], ["mine:F"], "squared_error"))
