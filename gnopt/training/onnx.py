"""Encode a network as an ONNX file without the onnx package.

A protobuf message is a list of (field number, value), and a network needs few kinds of them.

Operator set 13, IR version 8. Every hidden layer is Gemm and its activation; the graph gives
``logits`` (h_L) and, where the loss says its ONNX form, ``output`` (the prediction). Which
operators compute an activation or a prediction is a fact of the activation or the loss.

Raw inputs are standardised first, if those of the run were. ``input`` is of the type of the
weights, or float64 where float32 does not hold the digits in which a raw input varies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gnopt.data.moments import Statistics
from gnopt.engine.activations import get_activation
from gnopt.engine.losses import get_loss
from gnopt.engine.onnx_form import OnnxForm
from gnopt.errors import GnoptError
from gnopt.training.checkpoint import StoredNetwork

_FLOAT, _DOUBLE = 1, 11  # TensorProto.DataType
_OPSET, _IR = 13, 8
Field = tuple[int, "int | float | bytes"]


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


def _kind(dtype: np.dtype) -> int:
    return _DOUBLE if dtype == np.float64 else _FLOAT


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = _kind(array.dtype)
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

    def constant(self, name: str, value: np.ndarray | float, dtype: np.dtype | None = None) -> str:
        tensor = _tensor(name, np.asarray(value, dtype=dtype or self.dtype))
        if self.tensors.setdefault(name, tensor) != tensor:
            raise GnoptError(f"ONNX: constant '{name}' is given two values; rename one of them")
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: float | int
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


def _form_of(activation: str) -> OnnxForm:
    form = get_activation(activation).onnx
    if form is None:
        raise GnoptError(
            f"activation '{activation}' has no ONNX form: give its Activation the fact 'onnx', "
            "which docs/plug-ins.md describes, or export to .h5 or .npz"
        )
    return form


def _fit(statistics: Statistics, dtype: np.dtype) -> bool:
    """Return whether inputs of this type, standardised, have an error of 1e-3 at most."""
    mean, std = np.abs(statistics.mean), statistics.std
    limits = np.finfo(dtype)
    in_range = (mean <= limits.max) & (std <= limits.max) & (std >= limits.tiny)
    return bool(np.all(in_range & (limits.eps * mean <= 1e-3 * std)))


def encode(network: StoredNetwork) -> bytes:
    """Return the bytes of the ONNX model; GnoptError for an activation without an ONNX form."""
    dtype = network.weights[0].dtype
    graph, kind = _Graph(dtype), _kind(dtype)
    at, taken = "input", dtype
    if network.statistics is not None:
        taken = dtype if _fit(network.statistics, dtype) else np.dtype(np.float64)
        mean, std = (
            graph.constant(f"input_{k}", v, taken) for k, v in network.statistics._asdict().items()
        )
        at = graph.node("Div", [graph.node("Sub", [at, mean], "centred"), std], "standardized")
        if taken != dtype:
            at = graph.node("Cast", [at], "cast", to=kind)
    last = len(network.weights)
    for index, weights in enumerate(network.weights, start=1):
        weight = graph.constant(f"weight_{index}", weights[:, :-1])
        bias = graph.constant(f"bias_{index}", weights[:, -1])
        at = graph.node(
            "Gemm", [at, weight, bias], "logits" if index == last else f"h_{index}", transB=1
        )
        if index < last:
            _form_of(network.activations[index - 1])(graph, at, f"a_{index}")
            at = f"a_{index}"
    outputs, prediction = ["logits"], get_loss(network.loss).onnx
    if prediction:
        prediction(graph, "logits", "output")
        outputs.append("output")
    sizes = network.sizes
    body = message(
        [
            *((1, node) for node in graph.nodes),
            (2, b"gnopt"),
            *((5, tensor) for tensor in graph.tensors.values()),
            (11, _value_info("input", sizes[0], _kind(taken))),
            *((12, _value_info(name, sizes[-1], kind)) for name in outputs),
        ]
    )
    return message([(1, _IR), (2, b"gnopt"), (7, body), (8, message([(1, b""), (2, _OPSET)]))])
