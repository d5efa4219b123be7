"""Networks to export, and what the package itself predicts with them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from draws import width

from gnopt.data.moments import Statistics
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import get_loss
from gnopt.engine.network import Network, forward
from gnopt.engine.predictions import Noise
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import ALONE, Content
from gnopt.training.setup import flat

OPS = NumpyBackend()


def network(
    activations: Sequence[str],
    loss: str,
    dtype: str = "float64",
    *,
    inputs: int = 4,
    outputs: int = 3,
    statistics: bool = True,
    noise: bool = False,
    seed: int = 0,
) -> StoredNetwork:
    """A network with random weights and with the outputs that its loss takes."""
    rng = np.random.default_rng(seed)
    outputs = width(get_loss(loss), outputs)
    sizes = [inputs, *(5 + index for index, _ in enumerate(activations)), outputs]
    weights = [
        (rng.standard_normal((o, i + 1)) / np.sqrt(i + 1)).astype(dtype)
        for i, o in itertools.pairwise(sizes)
    ]
    return StoredNetwork(
        weights,
        list(activations),
        loss,
        statistics=Statistics(rng.standard_normal(inputs), rng.random(inputs) + 0.5)
        if statistics
        else None,
        noise=Noise(rng.random(outputs)) if noise else None,
    )


def alone(one: StoredNetwork) -> Content:
    return Content("a network of the tests", {ALONE: one})


def ensemble(*networks: StoredNetwork) -> Content:
    return Content("networks of the tests", dict(enumerate(networks, start=1)))


def rows(content: Content, count: int = 7) -> np.ndarray:
    """Raw inputs, some of them far out."""
    rng = np.random.default_rng(1)
    x = 2.0 * rng.standard_normal((count, content.inputs))
    x[0] *= 10.0
    return x.astype(content.dtype)


def logits(one: StoredNetwork, x: np.ndarray) -> np.ndarray:
    """The outputs h of a network, computed by the engine in the type of the weights."""
    dtype = str(one.weights[0].dtype)
    functions = [get_activation(name) for name in [*one.activations, "identity"]]
    net = Network(one.sizes, functions, OPS, dtype)
    if one.statistics is not None:
        x = (x - one.statistics.mean) / one.statistics.std
    return forward(net, net.views(flat(one.weights, net.dtype)), x.astype(dtype)).output


def predictions(content: Content, x: np.ndarray) -> Mapping[int, np.ndarray]:
    """What each network of ``content`` predicts."""
    return {
        number: content.loss.prediction(OPS, logits(one, x))
        for number, one in content.networks.items()
    }
