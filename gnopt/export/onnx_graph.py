"""The graph of an ONNX model while it is made: what the forms of activations and losses append to.

Made by the package ``onnx``, which an extra of gnopt installs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gnopt.errors import GnoptError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

# Operator set 17 with IR version 8 is what programs of 2022 and later read.
OPSET, IR = 17, 8
ML, ML_OPSET = "ai.onnx.ml", 3  # the operators for columns of words
# onnxruntime computes these of float32 numbers alone, although ONNX defines them for float64.
SINGLE = {
    *("Elu", "Selu", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "ThresholdedRelu"),
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan", "Erf", "Mean"),
}


class Graph:
    """Nodes and constants of a model whose weights have the type ``dtype``.

    It is the `OnnxGraph` of `gnopt.engine.onnx_form`. Raises GnoptError where the package ``onnx``
    is missing.
    """

    def __init__(self, dtype: np.dtype) -> None:
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise GnoptError(
                f"writing ONNX needs the package onnx: pip install 'gnopt[onnx]' ({error})"
            ) from error
        self.dtype = dtype
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}

    def constant(self, name: str, value: np.ndarray | float, dtype: np.dtype | None = None) -> str:
        """Store ``value`` as ``name``, in the type of the weights unless ``dtype`` is given."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(value, dtype=dtype or self.dtype)
        tensor = numpy_helper.from_array(array.reshape(np.shape(value)), name)
        if self.tensors.setdefault(name, tensor) != tensor:
            raise GnoptError(f"ONNX: constant '{name}' is given two values; rename one of them")
        return name

    def node(
        self, operator: str, inputs: Sequence[str], output: str, **attributes: float | int
    ) -> str:
        """Append a node, between casts to and from float32 where `SINGLE` says so."""
        if operator in SINGLE and self.dtype == np.float64:
            narrow = [self.cast(name, np.dtype("f4"), f"{output}_of_{name}") for name in inputs]
            self._append(operator, narrow, f"{output}_single", attributes)
            return self.cast(f"{output}_single", self.dtype, output)
        return self._append(operator, inputs, output, attributes)

    def one_hot(self, name: str, words: Sequence[str], output: str) -> str:
        """Append nodes that compute a matrix (N, words) float64 from a column of words: 1 where a
        row has the word, else 0.
        """
        from onnx import helper

        each = f"{output}_each"
        made = helper.make_node(
            "OneHotEncoder", [name], [each], f"OneHotEncoder {each}", domain=ML, zeros=1
        )
        made.attribute.append(helper.make_attribute("cats_strings", list(words)))
        self.nodes.append(made)
        shape = self.constant(f"{output}_shape", np.array([-1, len(words)]), np.dtype(np.int64))
        flat = self._append("Reshape", [each, shape], f"{output}_flat", {})
        return self.cast(flat, np.dtype(np.float64), output)

    def joined(self, names: Sequence[str], output: str) -> str:
        """Append the node that puts matrices side by side."""
        if len(names) == 1:
            return self._append("Identity", names, output, {})
        return self._append("Concat", names, output, {"axis": 1})

    def renamed(self, name: str, wanted: str) -> str:
        """Give the input ``name`` the name ``wanted``, or one like it if another value has that;
        return the name. Called when all nodes are there.
        """
        others = {*self.tensors, *(output for node in self.nodes for output in node.output)}
        while wanted in others:
            wanted += " (input)"
        for node in self.nodes:
            for place, source in enumerate(node.input):
                if source == name:
                    node.input[place] = wanted
        return wanted

    def cast(self, name: str, dtype: np.dtype, output: str) -> str:
        """Append a node that turns ``name`` into numbers of another type."""
        return self._append("Cast", [name], output, {"to": element(dtype)})

    def _append(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        attributes: dict[str, float | int],
    ) -> str:
        from onnx import helper

        made = helper.make_node(operator, inputs, [output], f"{operator} {output}")
        made.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        self.nodes.append(made)
        return output

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        facts: dict[str, str],
    ) -> ModelProto:
        """Return the model that computes ``outputs`` from ``inputs``, checked by the package
        ``onnx``; ``facts`` become its metadata.
        """
        import onnx
        from onnx import helper

        from gnopt import __version__

        body = helper.make_graph(self.nodes, "gnopt", inputs, outputs, list(self.tensors.values()))
        made = helper.make_model(
            body,
            producer_name="gnopt",
            producer_version=__version__,
            ir_version=IR,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                *[helper.make_opsetid(ML, ML_OPSET)] * any(n.domain == ML for n in self.nodes),
            ],
        )
        helper.set_model_props(made, facts)
        try:
            onnx.checker.check_model(made)
        except onnx.checker.ValidationError as error:
            raise GnoptError(f"ONNX: the model is not valid: {error}") from error
        return made


def element(dtype: np.dtype) -> int:
    """Return the number by which ONNX calls a type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))


def rows(name: str, width: int | None, dtype: np.dtype) -> ValueInfoProto:
    """Describe an input or output: N rows of ``width`` numbers, or N numbers."""
    from onnx import helper

    return helper.make_tensor_value_info(name, element(dtype), ["N", width] if width else ["N"])


def with_absent(graph: Graph, source: str, median: float, prefix: str) -> tuple[str, str]:
    """Append nodes to a column of float64 cells; return the cells with ``median`` in the place of
    those that are not finite, and a column that is 1 in these rows, else 0.
    """
    dtype = np.dtype(np.float64)
    strange = [
        graph.node(operator, [source], f"{prefix}_{operator}") for operator in ("IsNaN", "IsInf")
    ]
    mask = graph.node("Or", strange, f"{prefix}_mask")
    value = graph.constant(f"{prefix}_median", median, dtype)
    filled = graph.node("Where", [mask, value, source], f"{prefix}_filled")
    return filled, graph.cast(mask, dtype, f"{prefix}_absent")
