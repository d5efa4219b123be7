"""Siblings are found in their folders; plug-ins by module and name; wrong names are answered
helpfully.
"""

import pkgutil

import numpy as np
import pytest
from draws import width
from reference import network, settings

import gnopt.curvature
import gnopt.engine.activations
import gnopt.engine.losses
import gnopt.optimizers
from gnopt import plug_ins
from gnopt.curvature import all_curvatures, get_curvature
from gnopt.engine.activations import all_activations, get_activation
from gnopt.engine.initializers import INITIALIZERS, get_initializer
from gnopt.engine.losses import all_losses, get_loss
from gnopt.errors import ConfigError
from gnopt.metrics import all_metrics, get_metric
from gnopt.optimizers import get_method, make, methods, options_of
from gnopt.optimizers.base import Problem
from gnopt.registry import suggestion

NAMED = {  # the names that users rely on
    "activation": {
        "identity",
        "tanh",
        "sigmoid",
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "softplus",
        "gelu",
        "silu",
    },
    "loss": {
        "squared_error",
        "binary_cross_entropy",
        "softmax_cross_entropy",
        "poisson",
        "binary_mixture",
    },
    "curvature": {"kfra", "kflr", "kfac", "empirical_fisher"},
    "method": {"sgd", "momentum", "nesterov", "adam", "kfra", "kflr", "kfac", "empirical_fisher"},
}
TABLES = {
    "activation": (all_activations, get_activation),
    "loss": (all_losses, get_loss),
    "curvature": (all_curvatures, get_curvature),
    "method": (methods, get_method),
}
OTHER_TABLES = {
    "metric": (all_metrics, get_metric),
    "initialiser": (lambda: INITIALIZERS, get_initializer),
}


@pytest.mark.parametrize("what", TABLES)
def test_names(what):
    table, get = TABLES[what]
    assert set(table()) >= NAMED[what]
    for name, sibling in table().items():
        assert get(name).name == sibling.name == name
        assert sibling.summary
    with pytest.raises(ConfigError, match=f"unknown {what} 'nonsense'.*known: "):
        get("nonsense")
    name = next(iter(table()))
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        get(name[:-1] + name[-1] * 2)


def test_names_of_other_programs_are_answered_by_ours():
    for what, name, ours in (
        ("loss", "mse", "squared_error"),
        ("loss", "MSELoss", "squared_error"),
        ("loss", "cross_entropy", "softmax_cross_entropy"),
        ("loss", "sparse_categorical_crossentropy", "softmax_cross_entropy"),
        ("loss", "bce", "binary_cross_entropy"),
        ("loss", "BCEWithLogitsLoss", "binary_cross_entropy"),
        ("loss", "PoissonNLLLoss", "poisson"),
        ("activation", "ReLU", "relu"),
        ("activation", "swish", "silu"),
        ("method", "hf", "hessian_free"),
        ("method", "LM", "levenberg_marquardt"),
        ("metric", "roc_auc_score", "auc"),
        ("initialiser", "xavier", "glorot"),
    ):
        _, get = TABLES.get(what) or OTHER_TABLES[what]
        with pytest.raises(ConfigError, match=f"'{name}' \\(gnopt calls it '{ours}'\\)"):
            get(name)


@pytest.mark.parametrize("what", ["activation", "loss", "method", "metric", "initialiser"])
def test_another_name_means_one_sibling(what):
    table, _ = TABLES.get(what) or OTHER_TABLES[what]
    siblings = table()
    for name, sibling in siblings.items():
        for other in sibling.other_names:
            assert suggestion(other, siblings) == f" (gnopt calls it '{name}')"


@pytest.mark.parametrize(
    ("package", "table"),
    [(gnopt.engine.activations, all_activations), (gnopt.engine.losses, all_losses)],
)
def test_every_file_is_a_sibling_of_its_own_name(package, table):
    assert {module.name for module in pkgutil.iter_modules(package.__path__)} == set(table())


PLUG_IN = """
import numpy as np
from gnopt.engine.activations import Activation
from gnopt.engine.losses import Loss

def f(ops, h, out):
    return ops.xp.sin(h, out=out)

def df(ops, h, a, out):
    return ops.xp.cos(h, out=out)

def d2f(ops, h, a):
    return -ops.xp.sin(h)

Sine = Activation("sine", "sin h", f, df, d2f)

class Doubled(Loss):
    diagonal, likelihood = True, False
    def value(self, ops, h, y):
        return ((h - y) ** 2).sum(axis=1)
    def gradient(self, ops, h, y):
        return 2.0 * (h - y)
    def gn_diagonal(self, ops, h, y):
        return ops.xp.full_like(h, 2.0)
"""


@pytest.fixture
def plug_in(tmp_path):
    (tmp_path / "my_siblings.py").write_text(PLUG_IN)
    config = tmp_path / "config.toml"
    plug_ins.allow_beside(config)
    plug_ins.provide(config, ["my_siblings:Sine", "no_such_module:Loss", ":Loss"])
    yield "my_siblings"
    plug_ins.forget()


def test_plug_ins_train(ops, plug_in):
    sine, loss = get_activation(f"{plug_in}:Sine"), get_loss(f"{plug_in}:Doubled")
    assert loss.name == f"{plug_in}:Doubled"
    net = network((3, 4, 2), ("tanh",), ops=ops)
    net.activations = (sine, net.activations[1])
    rng = np.random.default_rng(0)
    x, y = ops.asarray(rng.standard_normal((20, 3))), ops.asarray(rng.standard_normal((20, 2)))
    theta = ops.asarray(0.5 * rng.standard_normal(net.size))
    for name in ("kfra", "kflr", "adam"):
        optimizer = make(
            name, Problem(net, loss, seed=0, rows=20), settings(name, learning_rate=0.01)
        )
        weights = theta.copy()
        state = optimizer.init(weights)
        losses = [optimizer.update(weights, state, x, y, k)["loss"] for k in range(1, 11)]
        assert losses[-1] < losses[0]
    with pytest.raises(ConfigError, match=r"kfac.*likelihood.*kflr or kfra"):
        make("kfac", Problem(net, loss, seed=0, rows=20), settings("kfac"))


@pytest.mark.parametrize(
    "name", ["no_such_module:Loss", "my_siblings:Missing", ":Loss", "my_siblings:"]
)
def test_plug_ins_that_cannot_be_loaded(name, plug_in):
    for get in (get_loss, get_activation):
        with pytest.raises(ConfigError, match=r"plug-in.*cannot be loaded"):
            get(name)


def test_options_have_unique_names_valid_defaults_and_a_text(method_name):
    options = options_of(method_name)
    assert len({o.name for o in options}) == len(options)
    for option in options:
        assert option.doc
        assert option.parse(option.default, option.name) == (option.default, None)


def test_methods_come_sorted_first_order_first():
    orders = [method.order for method in methods().values()]
    assert orders == sorted(orders)
    assert set(orders) == {1, 2}


def test_cost_is_positive_and_grows_with_the_batch(ops, method_name, loss_name):
    loss = get_loss(loss_name)
    net = network((6, 5, 4, width(loss, 3)), ("tanh", "relu"), ops=ops)
    optimizer = make(method_name, Problem(net, loss, seed=0, rows=100_000), settings(method_name))
    small, large = optimizer.cost(1000), optimizer.cost(4000)
    assert large.flops > small.flops > 0.0
    assert large.state >= small.state >= 0.0
    assert ops.free_memory() > small.state
