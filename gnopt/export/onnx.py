"""ONNX: one graph from raw inputs to predictions.

Every hidden layer is a Gemm and the nodes of its activation. Which operators compute an activation
or a prediction is a fact of the activation or the loss, or found by tracing its function.

The graph gives first what most readers want:

* ``probability`` (N, C), where classes are predicted;
* ``prediction``: the most probable class (N,), or the predicted means (N, K);
* ``output``, the prediction as the loss computes it, and ``logits``, the outputs h of the network;
* ``std``, the deviation of ``output``, where it is known; an ensemble has no ``logits``.

Raw inputs are standardised first, if those of the run were. ``input`` is of the type of the
weights, or float64 where float32 does not hold the digits in which a raw input varies. A network
of a table has an input for each column in place of ``input``, (N, 1) each: numbers of float64,
dates as days since 1970-01-01, or words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnopt import __version__
from gnopt.data.moments import Statistics
from gnopt.data.table.encoding import Encoding
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays.trace import Untraceable
from gnopt.engine.losses import Loss
from gnopt.errors import GnoptError
from gnopt.export.columns import form_of
from gnopt.export.format import Format
from gnopt.export.onnx_graph import Graph, rows
from gnopt.export.onnx_trace import append_traced
from gnopt.files import write_bytes
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import Content

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


class Onnx(Format):
    """A model in protobuf."""

    name = "onnx"
    suffixes = (".onnx",)

    def write(self, content: Content, out: Path) -> None:
        write_bytes(out, model(content).SerializeToString())


FORMAT = Onnx()


def model(content: Content) -> ModelProto:
    """Return the ONNX model; GnoptError for an activation, or the loss of an ensemble, without an
    ONNX form.
    """
    graph = Graph(content.dtype)
    encoding = content.encoding
    taken = max((_taken(network) for network in content.networks.values()), key=_digits)
    if encoding is not None:
        taken = np.dtype(np.float64)
        _encode(graph, encoding)
    outputs = _ensemble(graph, content, taken) if content.ensemble else _one(graph, content, taken)
    facts = {"gnopt": __version__, "loss": content.first.loss, "source": content.title}
    lists = {
        "input_names": [c.name for c in encoding.columns] if encoding else [],
        "class_names": content.class_names,
        "output_names": content.output_names,
    }
    facts |= {key: json.dumps(list(names)) for key, names in lists.items() if names}
    inputs = [rows("input", content.inputs, taken)] if encoding is None else _cells(graph, encoding)
    return graph.model(inputs, outputs, facts)


def _encode(graph: Graph, encoding: Encoding) -> None:
    """Append what makes ``input`` of the columns of a table, which are called cells_0, ..."""
    parts = [f"column_{number}" for number, _ in enumerate(encoding.columns)]
    for number, column in enumerate(encoding.columns):
        form_of(column).onnx(column, graph, f"cells_{number}", parts[number])
    graph.joined(parts, "input")


def _cells(graph: Graph, encoding: Encoding) -> list[ValueInfoProto]:
    """Return the inputs of a graph that is complete: they get the names of the columns."""
    return [
        rows(graph.renamed(f"cells_{number}", column.name), 1, form_of(column).cells)
        for number, column in enumerate(encoding.columns)
    ]


def _one(graph: Graph, content: Content, taken: np.dtype) -> list[ValueInfoProto]:
    """Append a single network, and return the outputs of the graph."""
    logits = _append(graph, content.first, taken)
    made = rows(logits, content.first.sizes[-1], graph.dtype)
    if not _predict(graph, content.loss, logits, "output"):
        return [made]
    deviation = []
    if content.noise is not None:
        none = graph.node("Sub", ["output", "output"], "zero")
        graph.node("Add", [none, graph.constant("noise", np.sqrt(content.noise))], "std")
        deviation.append(rows("std", content.outputs, graph.dtype))
    return [*_answers(graph, content), *deviation, made]


def _ensemble(graph: Graph, content: Content, taken: np.dtype) -> list[ValueInfoProto]:
    """Append the networks of an ensemble, the mean of their predictions and its deviation."""
    made = []
    for number, network in content.networks.items():
        prefix = f"member_{number}_"
        made.append(f"{prefix}output")
        if not _predict(graph, content.loss, _append(graph, network, taken, prefix), made[-1]):
            raise GnoptError(
                f"loss '{content.first.loss}' has no ONNX form of its prediction, which an "
                "ensemble averages: export one network by --member N, or to .h5 or .npz"
            )
    mean = _mean(graph, made, "output")
    squares = []
    for name in made:
        difference = graph.node("Sub", [name, mean], f"{name}_difference")
        squares.append(graph.node("Mul", [difference, difference], f"{name}_square"))
    variance = _mean(graph, squares, "variance")
    if content.noise is not None:
        level = graph.constant("noise", content.noise)
        variance = graph.node("Add", [variance, level], "total_variance")
    graph.node("Sqrt", [variance], "std")
    return [*_answers(graph, content), rows("std", content.outputs, graph.dtype)]


def _mean(graph: Graph, names: list[str], output: str) -> str:
    total = graph.node("Sum", names, f"{output}_sum")
    return graph.node("Div", [total, graph.constant("members", float(len(names)))], output)


def _answers(graph: Graph, content: Content) -> list[ValueInfoProto]:
    """Append ``probability`` and ``prediction``, which follow from ``output``; return all three."""
    output = rows("output", content.outputs, graph.dtype)
    if not content.class_count:
        graph.node("Identity", ["output"], "prediction")
        return [rows("prediction", content.outputs, graph.dtype), output]
    if content.outputs == 1:
        first = graph.node("Sub", [graph.constant("one", 1.0), "output"], "probability_of_first")
        graph.node("Concat", [first, "output"], "probability", axis=1)
    else:
        graph.node("Identity", ["output"], "probability")
    graph.node("ArgMax", ["probability"], "prediction", axis=1, keepdims=0)
    return [
        rows("probability", content.class_count, graph.dtype),
        rows("prediction", None, np.dtype(np.int64)),
        output,
    ]


def _activate(graph: Graph, name: str, source: str, result: str) -> None:
    """Append an activation: by its own form where it has one, else as it is traced.

    Forms of float64 may hold operators that onnxruntime computes in float32 alone; there the traced
    function goes first.
    """
    activation = get_activation(name)
    if activation.onnx is not None and graph.dtype == np.float32:
        activation.onnx(graph, source, result)
        return
    try:
        append_traced(graph, activation.f, source, result, out=True)
    except Untraceable as error:
        if activation.onnx is None:
            raise GnoptError(
                f"activation '{name}' has no ONNX form, and its f cannot be traced ({error}): give "
                "its Activation the fact 'onnx', which docs/plug-ins.md describes, or export to "
                ".h5 or .npz"
            ) from error
        activation.onnx(graph, source, result)


def _predict(graph: Graph, loss: Loss, source: str, result: str) -> bool:
    """Append the prediction of a loss, and return whether there is one; see `_activate`."""
    if loss.onnx is not None:
        loss.onnx(graph, source, result)
        return True
    try:
        append_traced(graph, lambda ops, h: loss.prediction(ops, h), source, result)
    except Untraceable:
        return False
    return True


def _taken(network: StoredNetwork) -> np.dtype:
    """Return the type of the inputs: float64 where they are standardised and need it."""
    dtype = network.weights[0].dtype
    fits = network.statistics is None or _fit(network.statistics, dtype)
    return dtype if fits else np.dtype(np.float64)


def _digits(dtype: np.dtype) -> int:
    return dtype.itemsize


def _fit(statistics: Statistics, dtype: np.dtype) -> bool:
    """Return whether inputs of this type, standardised, have an error of 1e-3 at most."""
    mean, std = np.abs(statistics.mean), statistics.std
    limits = np.finfo(dtype)
    in_range = (mean <= limits.max) & (std <= limits.max) & (std >= limits.tiny)
    return bool(np.all(in_range & (limits.eps * mean <= 1e-3 * std)))


def _append(graph: Graph, network: StoredNetwork, taken: np.dtype, prefix: str = "") -> str:
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
        at = graph.cast(at, graph.dtype, f"{prefix}cast")
    last = len(network.weights)
    for index, weights in enumerate(network.weights, start=1):
        weight = graph.constant(f"{prefix}weight_{index}", weights[:, :-1])
        bias = graph.constant(f"{prefix}bias_{index}", weights[:, -1])
        h = f"{prefix}logits" if index == last else f"{prefix}h_{index}"
        at = graph.node("Gemm", [at, weight, bias], h, transB=1)
        if index < last:
            _activate(graph, network.activations[index - 1], at, f"{prefix}a_{index}")
            at = f"{prefix}a_{index}"
    return at
