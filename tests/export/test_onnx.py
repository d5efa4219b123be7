"""ONNX models, run by onnxruntime, predict what the package predicts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from nets import alone, ensemble, logits, network, predictions, rows

from gnopt import __version__
from gnopt.data.classes import Classes
from gnopt.data.moments import Statistics
from gnopt.engine.activations import all_activations
from gnopt.engine.arrays.trace import ARGUMENTS
from gnopt.engine.losses import all_losses, get_loss
from gnopt.errors import GnoptError
from gnopt.export.onnx import model
from gnopt.export.onnx_graph import SINGLE
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import Content

onnxruntime = pytest.importorskip("onnxruntime")

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def session(content: Content):
    made = model(content).SerializeToString()
    return onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])


def run(content: Content, x: np.ndarray) -> dict[str, np.ndarray]:
    runner = session(content)
    names = [output.name for output in runner.get_outputs()]
    (entry,) = runner.get_inputs()
    kind = {"tensor(float)": "f4", "tensor(double)": "f8"}[entry.type]
    found = dict(zip(names, runner.run(None, {"input": x.astype(kind)}), strict=True))
    for info in runner.get_outputs():  # what the model promises is what it gives
        shape = [len(x) if side == "N" else side for side in info.shape]
        assert list(found[info.name].shape) == shape
    return found


def test_a_model_predicts_what_gnopt_predicts(activation_name, loss_name, dtype_name):
    content = alone(network([activation_name] * 2, loss_name, dtype_name))
    x = rows(content)
    found = run(content, x)
    h = logits(content.first, x)
    (expected,) = predictions(content, x).values()
    tolerance = tolerance_of(content)
    np.testing.assert_allclose(found["logits"], h, **tolerance)
    np.testing.assert_allclose(found["output"], expected, **tolerance)


def tolerance_of(content: Content) -> dict[str, float]:
    """That of float64 where onnxruntime computes all of a model in it."""
    single = any(node.op_type in SINGLE for node in model(content).graph.node)
    return TOLERANCE if single or content.dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}


@pytest.mark.parametrize("operation", ARGUMENTS)
def test_every_operation_that_can_be_traced_has_nodes(operation, dtype_name):
    content = alone(network([f"operations:of_{operation}"], "squared_error", dtype_name))
    x = rows(content)
    tolerance = tolerance_of(content)
    np.testing.assert_allclose(run(content, x)["logits"], logits(content.first, x), **tolerance)


def test_the_first_outputs_are_what_most_readers_want(loss_name):
    content = alone(network(["tanh"], loss_name))
    x = rows(content)
    found = run(content, x)
    (expected,) = predictions(content, x).values()
    if content.class_count:
        assert list(found) == ["probability", "prediction", "output", "logits"]
        np.testing.assert_allclose(found["probability"].sum(axis=1), 1.0)
        np.testing.assert_allclose(found["probability"][:, -1], expected[:, -1])
        np.testing.assert_array_equal(found["prediction"], found["probability"].argmax(axis=1))
    else:
        assert list(found) == ["prediction", "output", "logits"]
        np.testing.assert_allclose(found["prediction"], expected)


def test_one_output_of_a_classifier_tells_two_classes_apart():
    content = alone(network(["tanh"], "binary_cross_entropy", outputs=1))
    x = rows(content)
    found = run(content, x)
    (expected,) = predictions(content, x).values()
    np.testing.assert_allclose(found["probability"], np.hstack([1.0 - expected, expected]))
    np.testing.assert_array_equal(found["prediction"], expected[:, 0] > 0.5)


def test_the_metadata_say_what_the_model_is():
    content = alone(network(["tanh"], "softmax_cross_entropy"))
    made = model(content)
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert facts["gnopt"] == made.producer_version == __version__
    assert facts["loss"] == "softmax_cross_entropy"
    assert facts["source"] == content.title
    assert json.loads(facts["class_names"]) == ["0", "1", "2"]
    assert made.opset_import[0].version == 17
    numbers = {entry.key for entry in model(alone(network([], "poisson"))).metadata_props}
    assert numbers == {"gnopt", "loss", "source"}


@pytest.mark.parametrize(
    ("loss", "outputs", "key"),
    [
        ("softmax_cross_entropy", 2, "class_names"),
        ("binary_cross_entropy", 1, "class_names"),
        ("squared_error", 2, "output_names"),
    ],
)
def test_the_metadata_name_classes_and_outputs(loss, outputs, key):
    one = replace(network([], loss, outputs=outputs), classes=Classes(("left", "right")))
    facts = {entry.key: entry.value for entry in model(alone(one)).metadata_props}
    assert json.loads(facts[key]) == ["left", "right"]


@pytest.mark.parametrize(
    ("mean", "std", "kind"), [(1.6e9, 1e3, "f8"), (0.0, 1e-50, "f8"), (40.0, 2.0, "f4")]
)
def test_raw_inputs_are_doubles_where_floats_would_lose_their_digits(mean, std, kind):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((2, 4)).astype(np.float32)]
    statistics = Statistics(np.array([0.0, mean, 1.0]), np.array([1.0, std, 0.5]))
    z = rng.integers(-3, 4, (6, 3))
    content = alone(StoredNetwork(weights, [], "squared_error", statistics=statistics))
    (entry,) = session(content).get_inputs()
    assert entry.type == {"f4": "tensor(float)", "f8": "tensor(double)"}[kind]
    found = run(content, z * statistics.std + statistics.mean)["logits"]
    assert found.dtype == np.float32
    expected = z @ weights[0][:, :-1].T + weights[0][:, -1]
    np.testing.assert_allclose(found, expected, **TOLERANCE)


@pytest.mark.parametrize("known", [False, True])
def test_an_ensemble_gives_mean_and_deviation(known, dtype_name):
    members = [
        network(
            ["tanh"], "squared_error", dtype_name, statistics=bool(seed), noise=known, seed=seed
        )
        for seed in range(3)
    ]
    content = ensemble(*members)
    x = rows(content)
    made = list(predictions(content, x).values())
    found = run(content, x)
    assert list(found) == ["prediction", "output", "std"]
    np.testing.assert_allclose(found["prediction"], np.mean(made, axis=0), **TOLERANCE)
    variance = np.var(made, axis=0)
    if known:
        variance = variance + np.mean([one.noise.variance for one in members], axis=0)
    np.testing.assert_allclose(found["std"], np.sqrt(variance), **TOLERANCE)


def test_a_network_that_knows_its_noise_gives_a_deviation():
    content = alone(network(["tanh"], "squared_error", noise=True))
    x = rows(content)
    found = run(content, x)
    assert list(found) == ["prediction", "output", "std", "logits"]
    deviation = np.sqrt(content.first.noise.variance)
    np.testing.assert_allclose(found["std"], np.broadcast_to(deviation, found["std"].shape))


def test_an_ensemble_averages_probabilities():
    content = ensemble(*(network(["relu"], "softmax_cross_entropy", seed=s) for s in range(3)))
    x = rows(content)
    mean = np.mean(list(predictions(content, x).values()), axis=0)
    found = run(content, x)
    np.testing.assert_allclose(found["probability"], mean, **TOLERANCE)
    np.testing.assert_array_equal(found["prediction"], mean.argmax(axis=1))


def test_an_ensemble_of_single_precision_takes_doubles_if_one_network_needs_them():
    rng = np.random.default_rng(0)
    wide = Statistics(np.array([1.6e9, 0.0]), np.array([1e3, 1.0]))
    weights = [[rng.standard_normal((1, 3)).astype(np.float32)] for _ in range(2)]
    networks = [
        StoredNetwork(w, [], "squared_error", statistics=s)
        for w, s in zip(weights, (wide, wide._replace(std=np.array([1e9, 1.0]))), strict=True)
    ]
    z = rng.integers(-3, 4, (5, 2))
    found = run(ensemble(*networks), z * wide.std + wide.mean)["output"]
    assert found.dtype == np.float32
    second = (z * np.array([1e-6, 1.0])).astype(np.float32)
    made = [
        part @ w[0][:, :-1].T + w[0][:, -1] for part, w in zip((z, second), weights, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(made, axis=0), **TOLERANCE)


def test_the_siblings_that_can_be_exported():
    """Users of exported networks rely on these."""
    formless = {name for name, f in all_activations().items() if not f.onnx}
    assert formless.isdisjoint(
        {"identity", "tanh", "sigmoid", "relu", "leaky_relu", "elu", "selu", "softplus"}
        | {"gelu", "silu"}
    )
    assert [name for name in all_losses() if not get_loss(name).onnx] == []


PLUG_INS = """
from gnopt.engine.activations import Activation
from gnopt.engine.losses import Loss
from gnopt.engine.onnx_form import Operator

formless = Activation("formless", "no form", None, None, None)

def _form(graph, h, a):
    graph.node("Mul", [h, graph.constant("half", 2.0)], a)

other_half = Activation("other_half", "2 h", None, None, None, onnx=_form)
no_operator = Activation("no_operator", "", None, None, None, onnx=Operator("NoOperator"))

class Formless(Loss):
    def prediction(self, ops, h):
        return h - h.mean(axis=1, keepdims=True)

class Traced(Loss):
    def prediction(self, ops, h):
        return ops.xp.exp(h)

class Doubled(Loss):
    def onnx(self, graph, logits, output):
        graph.node("Add", [logits, logits], output)
"""


def test_an_activation_without_a_form_is_refused_in_words(mine):
    mine(PLUG_INS)
    with pytest.raises(GnoptError, match=r"'mine:formless' has no ONNX form.*plug-ins\.md.*npz"):
        model(alone(network(["mine:formless"], "squared_error")))


def test_an_operator_that_onnx_does_not_know_is_refused(mine):
    mine(PLUG_INS)
    with pytest.raises(GnoptError, match=r"ONNX: the model is not valid.*NoOperator"):
        model(alone(network(["mine:no_operator"], "squared_error")))


def test_a_loss_of_the_users_own_may_have_a_form(mine):
    mine(PLUG_INS)
    content = alone(network([], "mine:Formless"))
    x = rows(content)
    assert list(run(content, x)) == ["logits"]
    found = run(alone(network([], "mine:Traced")), x)
    np.testing.assert_allclose(found["output"], np.exp(found["logits"]))
    found = run(alone(network([], "mine:Doubled")), x)
    np.testing.assert_array_equal(found["output"], 2.0 * found["logits"])


def test_an_ensemble_needs_the_form_of_a_prediction(mine):
    mine(PLUG_INS)
    one = network([], "mine:Formless")
    with pytest.raises(GnoptError, match=r"mine:Formless.*--member N"):
        model(ensemble(one, one))


def test_a_constant_has_one_value(mine):
    mine(PLUG_INS)
    with pytest.raises(GnoptError, match=r"'half'.*two values"):
        model(alone(network(["gelu", "mine:other_half"], "squared_error", "float32")))


def test_without_the_package_its_absence_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(GnoptError, match=r"needs the package onnx: pip install 'gnopt\[onnx\]'"):
        model(alone(network([], "squared_error")))
