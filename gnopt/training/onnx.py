"""A network as an ONNX file, written by hand: protobuf is a list of (field, value), and few are
needed.

Operator set 13, IR version 8. Every hidden layer is Gemm and its activation; the graph gives
``logits`` (h_L) and, for the built-in losses with one, ``output`` (the prediction).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gnopt.errors import GnoptError
from gnopt.training.checkpoint import StoredNetwork

_FLOAT, _DOUBLE = 1, 11  # TensorProto.DataType
_OPSET, _IR = 13, 8
Field = tuple[int, "int | float | bytes"]

# Activations that are one operator, with its attributes; the others are built from several in
# `_activation`.
_OPERATORS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "softplus": ("Softplus", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "identity": ("Identity", {}),
    "selu": ("Selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
}
_LINKS = {
    "squared_error": "Identity",
    "binary_cross_entropy": "Sigmoid",
    "softmax_cross_entropy": "Softmax",
    "poisson": "Exp",
}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(fields: Iterable[Field]) -> bytes:
    """Encode a protobuf message: ints as varints, floats as 32 bits, bytes (also of messages) by
    length.
    """
    out = bytearray()
    for number, value in fields:
        if isinstance(value, float):
            out += _varint(number << 3 | 5) + np.float32(value).tobytes()
        elif isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = _DOUBLE if array.dtype == np.float64 else _FLOAT
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return message([*((1, int(d)) for d in array.shape), (2, kind), (8, name.encode()), (9, raw)])


def _attribute(name: str, value: float | int) -> bytes:
    if isinstance(value, float):
        return message([(1, name.encode()), (2, value), (20, 1)])
    return message([(1, name.encode()), (3, value), (20, 2)])


def _value_info(name: str, width: int, kind: int) -> bytes:
    shape = message([(1, message([(2, b"N")])), (1, message([(1, width)]))])
    return message([(1, name.encode()), (2, message([(1, message([(1, kind), (2, shape)]))]))])


class _Graph:
    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[bytes] = []
        self.tensors: dict[str, bytes] = {}

    def constant(self, name: str, values: np.ndarray | float) -> str:
        self.tensors[name] = _tensor(name, np.asarray(values, dtype=self.dtype))
        return name

    def node(
        self, operator: str, inputs: Iterable[str], output: str, **attributes: float | int
    ) -> str:
        fields: list[Field] = [(1, name.encode()) for name in inputs]
        fields += [
            (2, output.encode()),
            (3, f"{operator} {output}".encode()),
            (4, operator.encode()),
        ]
        self.nodes.append(
            message([*fields, *((5, _attribute(k, v)) for k, v in attributes.items())])
        )
        return output


def _activation(graph: _Graph, name: str, h: str, out: str) -> str:
    if name in _OPERATORS:
        operator, attributes = _OPERATORS[name]
        return graph.node(operator, [h], out, **attributes)
    if name == "silu":
        return graph.node("Mul", [h, graph.node("Sigmoid", [h], f"{out}_gate")], out)
    if name == "gelu":  # h Φ(h) = h (1 + erf(h / √2)) / 2
        half, one = graph.constant("half", 0.5), graph.constant("one", 1.0)
        scaled = graph.node("Mul", [h, graph.constant("root_half", 0.5**0.5)], f"{out}_scaled")
        erf = graph.node("Erf", [scaled], f"{out}_erf")
        gate = graph.node("Mul", [half, graph.node("Add", [erf, one], f"{out}_sum")], f"{out}_gate")
        return graph.node("Mul", [h, gate], out)
    raise GnoptError(f"activation '{name}' has no ONNX form; export to .h5 or .npz instead")


def encode(network: StoredNetwork) -> bytes:
    """The bytes of the ONNX model; GnoptError for a plug-in activation."""
    dtype = network.weights[0].dtype
    graph, kind = _Graph(dtype), _DOUBLE if dtype == np.float64 else _FLOAT
    at = "input"
    if network.statistics is not None:
        mean, std = (
            graph.constant(f"input_{k}", v) for k, v in network.statistics._asdict().items()
        )
        at = graph.node("Div", [graph.node("Sub", [at, mean], "centred"), std], "standardized")
    last = len(network.weights)
    for index, weights in enumerate(network.weights, start=1):
        weight = graph.constant(f"weight_{index}", weights[:, :-1])
        bias = graph.constant(f"bias_{index}", weights[:, -1])
        at = graph.node(
            "Gemm", [at, weight, bias], "logits" if index == last else f"h_{index}", transB=1
        )
        if index < last:
            at = _activation(graph, network.activations[index - 1], at, f"a_{index}")
    outputs = ["logits"]
    if network.loss in _LINKS:
        outputs.append(graph.node(_LINKS[network.loss], ["logits"], "output"))
    sizes = network.sizes
    body = message(
        [
            *((1, node) for node in graph.nodes),
            (2, b"gnopt"),
            *((5, tensor) for tensor in graph.tensors.values()),
            (11, _value_info("input", sizes[0], kind)),
            *((12, _value_info(name, sizes[-1], kind)) for name in outputs),
        ]
    )
    return message([(1, _IR), (2, b"gnopt"), (7, body), (8, message([(1, b""), (2, _OPSET)]))])
