"""The hand-written ONNX encoder, read back by an equally small decoder and run in NumPy."""

from __future__ import annotations

import itertools
import math
import struct
import sys

import numpy as np
import pytest

from gnopt.data.moments import Statistics
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import get_loss
from gnopt.engine.network import Network, forward
from gnopt.engine.predictions import Noise
from gnopt.errors import GnoptError
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.export import export_network
from gnopt.training.onnx import encode, encode_ensemble


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
    "Softsign": lambda at, x: x / (1 + np.abs(x)),
    "Softplus": lambda at, x: np.logaddexp(0, x),
    "Mul": lambda at, x, y: x * y,
    "Add": lambda at, x, y: x + y,
    "Sub": lambda at, x, y: x - y,
    "Div": lambda at, x, y: x / y,
    "Cast": lambda at, x: x.astype({1: "f4", 11: "f8"}[at["to"]]),
    "LeakyRelu": lambda at, x: np.where(x > 0, x, at["alpha"] * x),
    "Erf": lambda at, x: np.vectorize(math.erf)(x),
    "Elu": lambda at, x: np.where(x > 0, x, at["alpha"] * np.expm1(x)),
    "Selu": lambda at, x: at["gamma"] * np.where(x > 0, x, at["alpha"] * np.expm1(x)),
    "Sqrt": lambda at, x: np.sqrt(x),
    "Mean": lambda at, *x: np.mean(x, axis=0),
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
        if operator.decode() not in OPERATORS:
            pytest.skip(f"this decoder does not know the operator {operator.decode()}")
        values[out.decode()] = OPERATORS[operator.decode()](attributes, *inputs)
    return {every(o, 1)[0].decode(): values[every(o, 1)[0].decode()] for o in every(graph, 12)}


@pytest.mark.parametrize("activation", [n for n, f in all_activations().items() if f.onnx])
def test_an_exported_network_computes_what_gnopt_computes(activation):
    rng = np.random.default_rng(0)
    net = Network(
        [5, 4, 4, 3],
        [get_activation(name) for name in (activation, activation, "identity")],
        NumpyBackend(),
        "float64",
    )
    theta, x = rng.standard_normal(net.size), rng.standard_normal((7, 5))
    statistics = Statistics(rng.standard_normal(5), rng.random(5) + 0.5)
    network = StoredNetwork(
        net.views(theta), [activation] * 2, "binary_cross_entropy", statistics=statistics
    )
    model = encode(network)
    found = run(model, x)
    h = forward(net, net.views(theta), (x - statistics.mean) / statistics.std).output
    np.testing.assert_allclose(found["logits"], h, rtol=1e-6, atol=1e-6)  # attributes are float32
    np.testing.assert_allclose(found["output"], 1 / (1 + np.exp(-h)), rtol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std", "kind"), [(1.6e9, 1e3, 11), (0.0, 1e-50, 11), (40.0, 2.0, 1)]
)
def test_raw_inputs_are_doubles_where_floats_would_lose_their_digits(mean, std, kind):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((2, 4)).astype(np.float32)]
    statistics = Statistics(np.array([0.0, mean, 1.0]), np.array([1.0, std, 0.5]))
    z = rng.integers(-3, 4, (6, 3))
    x = (z * statistics.std + statistics.mean).astype({1: "f4", 11: "f8"}[kind])
    model = encode(StoredNetwork(weights, [], "squared_error", statistics=statistics))
    (graph,) = every(model, 7)
    (entry,) = every(graph, 11)
    (tensor,) = every(every(entry, 2)[0], 1)
    assert every(tensor, 1) == [kind]
    found = run(model, x)["logits"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, z @ weights[0][:, :-1].T + weights[0][:, -1], rtol=1e-5, atol=1e-5
    )


def test_the_output_is_the_prediction_of_the_loss(loss_name):
    loss, rng = get_loss(loss_name), np.random.default_rng(0)
    weights = [rng.standard_normal((3, 5))]
    x = rng.standard_normal((6, 4))
    found = run(encode(StoredNetwork(weights, [], loss_name)), x)
    expected = {"logits": x @ weights[0][:, :-1].T + weights[0][:, -1]}
    if loss.onnx:
        expected["output"] = loss.prediction(NumpyBackend(), expected["logits"])
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)


@pytest.mark.parametrize("known", [False, True])
def test_an_exported_ensemble_gives_mean_and_deviation(known):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4)) + 3.0
    networks, made, noise = [], [], []
    for statistics in (None, Statistics(rng.random(4), rng.random(4) + 0.5)):
        weights = [rng.standard_normal((3, 5)), rng.standard_normal((2, 4))]
        noise.append(rng.random(2))
        networks.append(
            StoredNetwork(
                weights,
                ["tanh"],
                "squared_error",
                statistics=statistics,
                noise=Noise(noise[-1]) if known else None,
            )
        )
        z = x if statistics is None else (x - statistics.mean) / statistics.std
        hidden = np.tanh(z @ weights[0][:, :-1].T + weights[0][:, -1])
        made.append(hidden @ weights[1][:, :-1].T + weights[1][:, -1])
    found = run(encode_ensemble(networks), x)
    assert found.keys() == {"output", "std"}
    np.testing.assert_allclose(found["output"], np.mean(made, axis=0), rtol=1e-12)
    variance = np.var(made, axis=0) + (np.mean(noise, axis=0) if known else 0.0)
    np.testing.assert_allclose(found["std"], np.sqrt(variance), rtol=1e-10)


def test_an_ensemble_of_single_precision_takes_doubles_if_one_network_needs_them():
    rng = np.random.default_rng(0)
    wide = Statistics(np.array([1.6e9, 0.0]), np.array([1e3, 1.0]))
    weights = [[rng.standard_normal((1, 3)).astype(np.float32)] for _ in range(2)]
    networks = [
        StoredNetwork(w, [], "squared_error", statistics=s)
        for w, s in zip(weights, (wide, wide._replace(std=np.array([1e9, 1.0]))), strict=True)
    ]
    z = rng.integers(-3, 4, (5, 2))
    found = run(encode_ensemble(networks), z * wide.std + wide.mean)["output"]
    assert found.dtype == np.float32
    second = (z * np.array([1e-6, 1.0])).astype(np.float32)
    made = [
        part @ w[0][:, :-1].T + w[0][:, -1] for part, w in zip((z, second), weights, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(made, axis=0), rtol=1e-5, atol=1e-5)


def test_an_ensemble_needs_the_form_of_a_prediction():
    network = StoredNetwork([np.ones((3, 2))], [], "binary_mixture")
    with pytest.raises(GnoptError, match=r"binary_mixture.*--member N"):
        encode_ensemble([network, network])


def test_the_siblings_that_can_be_exported():
    """Users of exported networks rely on these."""
    formless = {name for name, f in all_activations().items() if not f.onnx}
    assert formless.isdisjoint(
        {"identity", "tanh", "sigmoid", "relu", "leaky_relu", "elu", "selu", "softplus"}
        | {"gelu", "silu"}
    )
    for loss in (
        "squared_error",
        "binary_cross_entropy",
        "softmax_cross_entropy",
        "poisson",
    ):
        assert get_loss(loss).onnx


PLUG_INS = """
from gnopt.engine.activations import Activation
from gnopt.engine.losses import Loss

formless = Activation("formless", "no form", None, None, None)

def _form(graph, h, a):
    graph.node("Mul", [h, graph.constant("half", 2.0)], a)

other_half = Activation("other_half", "2 h", None, None, None, onnx=_form)

class Formless(Loss):
    pass

class Doubled(Loss):
    def onnx(self, graph, logits, output):
        graph.node("Add", [logits, logits], output)
"""


@pytest.fixture
def plug_ins(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(PLUG_INS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # that of another test
    yield
    sys.modules.pop("mine", None)


def small(activations, loss):
    widths = [4, *(2 for _ in activations), 3]
    shapes = [(o, i + 1) for i, o in itertools.pairwise(widths)]
    return StoredNetwork([np.ones(shape) for shape in shapes], activations, loss)


def test_an_activation_without_a_form_is_refused_in_words(plug_ins, tmp_path):
    network = small(["mine:formless"], "squared_error")
    with pytest.raises(GnoptError, match=r"'mine:formless' has no ONNX form.*plug-ins\.md.*npz"):
        encode(network)
    for name in ("w.h5", "w.npz"):
        export_network(network, tmp_path / name)
        assert (tmp_path / name).is_file()


def test_a_loss_of_the_users_own_may_have_a_form(plug_ins):
    x = np.ones((2, 4))
    assert run(encode(small([], "mine:Formless")), x).keys() == {"logits"}
    found = run(encode(small([], "mine:Doubled")), x)
    np.testing.assert_array_equal(found["output"], 2.0 * found["logits"])


def test_a_constant_has_one_value(plug_ins):
    with pytest.raises(GnoptError, match=r"'half'.*two values"):
        encode(small(["gelu", "mine:other_half"], "squared_error"))
