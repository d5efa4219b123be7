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
    graph = _Graph(network.weights[0].dtype)
    taken = _taken(network)
    logits = _append(graph, network, taken)
    outputs, prediction = [logits], get_loss(network.loss).onnx
    if prediction:
        prediction(graph, logits, "output")
        outputs.append("output")
    return _model(graph, network.sizes, taken, outputs)


def encode_ensemble(networks: Sequence[StoredNetwork]) -> bytes:
    """Return the bytes of an ONNX model that gives the mean of several networks' predictions,
    ``output``, and their deviation, ``std``.

    The deviation is that about the mean; where networks know the noise of what they predict, its
    mean variance is added (law of total variance). Raises GnoptError for an activation or a loss
    without an ONNX form.
    """
    first = networks[0]
    graph = _Graph(first.weights[0].dtype)
    prediction = get_loss(first.loss).onnx
    if prediction is None:
        raise GnoptError(
            f"loss '{first.loss}' has no ONNX form of its prediction, which an ensemble averages: "
            "export one network by --member N, or to .h5 or .npz"
        )
    taken = max((_taken(network) for network in networks), key=lambda dtype: dtype.itemsize)
    made = []
    for number, network in enumerate(networks, start=1):
        prefix = f"member_{number}_"
        made.append(f"{prefix}output")
        prediction(graph, _append(graph, network, taken, prefix), made[-1])
    mean = graph.node("Mean", made, "output")
    squares = []
    for name in made:
        difference = graph.node("Sub", [name, mean], f"{name}_difference")
        squares.append(graph.node("Mul", [difference, difference], f"{name}_square"))
    variance = graph.node("Mean", squares, "variance")
    noise = [network.noise.variance for network in networks if network.noise is not None]
    if len(noise) == len(networks):
        level = graph.constant("noise", np.mean(noise, axis=0))
        variance = graph.node("Add", [variance, level], "total_variance")
    graph.node("Sqrt", [variance], "std")
    return _model(graph, first.sizes, taken, ["output", "std"])


def _taken(network: StoredNetwork) -> np.dtype:
    """Return the type of the inputs: float64 where they are standardised and need it."""
    dtype = network.weights[0].dtype
    fits = network.statistics is None or _fit(network.statistics, dtype)
    return dtype if fits else np.dtype(np.float64)


def _append(graph: _Graph, network: StoredNetwork, taken: np.dtype, prefix: str = "") -> str:
    """Append the nodes of a network, whose names start with ``prefix``; return that of its outputs
    h. ``taken`` is the type of the model's input.
    """
    at = "input"
    if network.statistics is not None:
        mean, std = (
            graph.constant(f"{prefix}input_{k}", v, taken)
            for k, v in network.statistics._asdict().items()
        )
        centred = graph.node("Sub", [at, mean], f"{prefix}centred")
        at = graph.node("Div", [centred, std], f"{prefix}standardized")
    if taken != graph.dtype:
        at = graph.node("Cast", [at], f"{prefix}cast", to=_kind(graph.dtype))
    last = len(network.weights)
    for index, weights in enumerate(network.weights, start=1):
        weight = graph.constant(f"{prefix}weight_{index}", weights[:, :-1])
        bias = graph.constant(f"{prefix}bias_{index}", weights[:, -1])
        h = f"{prefix}logits" if index == last else f"{prefix}h_{index}"
        at = graph.node("Gemm", [at, weight, bias], h, transB=1)
        if index < last:
            _form_of(network.activations[index - 1])(graph, at, f"{prefix}a_{index}")
            at = f"{prefix}a_{index}"
    return at


def _model(graph: _Graph, sizes: Sequence[int], taken: np.dtype, outputs: Sequence[str]) -> bytes:
    """Return the model of a graph from ``input``, of the type ``taken``, to ``outputs``."""
    kind = _kind(graph.dtype)
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
