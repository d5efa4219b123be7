"""A resolved configuration made real: data, network, loss, initial weights and optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gnopt import optimizers, rng
from gnopt.config import Config
from gnopt.data.source import Data, open_data
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, Backend, get_backend
from gnopt.engine.initializers import initialize
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network
from gnopt.errors import DataError
from gnopt.optimizers.base import Optimizer
from gnopt.options import size_in_bytes
from gnopt.settings import TrainingSettings
from gnopt.training import checkpoint
from gnopt.training.evaluate import CHUNK


@dataclass
class Experiment:
    """Everything a run computes with."""

    config: Config
    data: Data
    ops: Backend
    net: Network
    loss: Loss
    optimizer: Optimizer[Any]
    target_mean: np.ndarray

    def initial_weights(self, init_from: Path | None = None) -> Array:
        """θ of step 0 on the device: from the seed's stream, the same for every method, or from a
        checkpoint.

        Raises DataError naming the layer whose shape does not fit.
        """
        if init_from is not None:
            stored = checkpoint.load_network(init_from)
            checkpoint.check_fits(stored, list(self.net.sizes), init_from)
            return self.ops.asarray(flat(stored.weights, self.net.dtype))
        settings, seed = self.config.network, self.config.training.seed
        theta = initialize(
            self.net.sizes, settings.init, rng.generator(seed, "init"), self.net.dtype
        )
        if settings.output_bias == "data_mean":
            self.net.views(theta)[-1][:, -1] = self.loss.initial_bias(self.target_mean)
        return self.ops.asarray(theta)

    def stored(self, theta: Array, step: int, **losses: float) -> checkpoint.StoredNetwork:
        """The host copy of the network at θ that a checkpoint holds."""
        weights = self.net.views(self.ops.to_host(theta))
        names = self.config.network.activations
        loss = self.config.network.loss
        return checkpoint.StoredNetwork(weights, names, loss, step, losses, self.data.statistics)


def flat(weights: list[np.ndarray], dtype: DTypeLike) -> np.ndarray:
    """The vector θ of these augmented matrices."""
    return np.concatenate([w.ravel() for w in weights]).astype(dtype)


def build(config: Config, ops: Backend | None = None) -> Experiment:
    """Open the data and make network, loss and optimizer; raises ConfigError and DataError.

    ``ops`` takes the place of the configured device.
    """
    training = config.training
    ops = ops or get_backend(training.device)
    loss = get_loss(config.network.loss)
    data = open_data(config.data, seed=training.seed, dtype=training.dtype)
    try:
        outputs, mean = target_facts(loss, data)
        net = make_network(config, data.train.inputs, outputs, ops)
        memory = temporaries(training, ops)
        problem = optimizers.Problem(net, loss, training.seed, data.train.rows, memory)
        optimizer = optimizers.make(config.method, problem, config.optimizer)
    except BaseException:
        data.close()
        raise
    return Experiment(config, data, ops, net, loss, optimizer, mean)


def temporaries(settings: TrainingSettings, ops: Backend) -> int:
    """Bytes that temporaries may take: ``training.memory``, on a GPU at most a quarter of what is
    free.
    """
    memory = size_in_bytes(settings.memory)
    if not ops.on_host:  # there blocks may depend on free memory, and so do the last digits
        memory = min(memory, ops.free_memory() // 4)
    return memory


def make_network(config: Config, inputs: int, outputs: int, ops: Backend) -> Network:
    """The network of the configuration between these widths."""
    settings = config.network
    activations = [get_activation(name) for name in [*settings.activations, "identity"]]
    return Network([inputs, *settings.hidden, outputs], activations, ops, config.training.dtype)


def target_facts(loss: Loss, data: Data) -> tuple[int, np.ndarray]:
    """Width of the output layer and mean target of the training rows, float64, in one pass over
    them.
    """
    outputs, total = 0, np.zeros(0)
    for _, y in data.train.chunks(CHUNK):
        targets = loss.convert_targets(y)
        outputs = max(outputs, loss.outputs(targets))
        part = loss.target_sum(targets, outputs)
        total = np.pad(total, (0, len(part) - len(total))) + part
    if not np.isfinite(total).all():
        raise DataError(
            f"{data.fingerprint.file}: training targets hold numbers that are not finite"
        )
    return outputs, total / data.train.rows
