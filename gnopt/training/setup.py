"""Build what a configuration describes: data, network, loss, initial weights and optimizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gnopt import optimizers, rng
from gnopt.aims import AUTO
from gnopt.config import Config
from gnopt.data.classes import LabelRule
from gnopt.data.source import Data, open_data
from gnopt.data.split import Split
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, Backend, get_backend
from gnopt.engine.initializers import get_initializer
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network
from gnopt.errors import DataError, SettingsError, TargetRangeError
from gnopt.metrics import AnyMetric, get_metric
from gnopt.optimizers.base import Optimizer
from gnopt.options import size_in_bytes
from gnopt.settings import TrainingSettings
from gnopt.training import checkpoint, sense
from gnopt.training.constant import Constant, best_constant
from gnopt.training.evaluate import CHUNK
from gnopt.training.restart import lost_signal, scaled_weights
from gnopt.training.weights import Weighting, weigh

# Rows that say how large signals and targets are; fewer where they hold more than NUMBERS numbers.
ROWS, FEWEST, NUMBERS = 1000, 100, 1 << 25
# Outputs vary by about 1 at the start: with targets of a deviation above WIDE or below its inverse,
# the output weights would first have to grow or shrink by as much.
WIDE = 30.0


@dataclass
class Experiment:
    """All the objects that a run computes with, built from one configuration."""

    config: Config
    data: Data
    ops: Backend
    net: Network
    loss: Loss
    optimizer: Optimizer[Any]
    target_mean: np.ndarray
    metrics: list[AnyMetric]  # that every evaluation computes
    weighting: Weighting
    constant: Constant | None  # the best constant predictor of the training rows, if it is known
    # Why the weights of step 0 are not simply drawn, for the user; set by `initial_weights`.
    start_note: str = ""
    why_method: str = ""  # where the configuration left the method open

    def with_decay(self, decay: float) -> Experiment:
        """Return the experiment under this weight decay, in units of the loss, in place of one that
        is left to the data; the configuration stays as it is.
        """
        settings = self.config.optimizer.changed(weight_decay=decay)
        optimizer = optimizers.make(self.config.method, self.optimizer.problem, settings)
        return replace(self, optimizer=optimizer)

    def initial_weights(self, init_from: Path | None = None) -> Array:
        """Return θ of step 0, on the device.

        The weights are drawn by the seed, the same for every method, or read from the checkpoint
        ``init_from``. Raises DataError for a layer of the checkpoint that does not fit.
        """
        if init_from is not None:
            stored = checkpoint.load_network(init_from)
            checkpoint.check_fits(stored, list(self.net.sizes), init_from)
            return self.ops.asarray(flat(stored.weights, self.net.dtype))
        initializer = get_initializer(self.config.network.init)
        draw = rng.generator(self.config.training.seed, "init")
        rules = [f.init_rule for f in self.net.activations]
        theta = initializer.weights(self.net.sizes, draw, self.net.dtype, rules)
        if initializer.adapts:
            x, _ = self.data.train.spread(FEWEST)
            lost = lost_signal(self.net, self.net.views(theta), x)
            if lost:
                self.start_note = f"initial weights are scaled to the data layer by layer: {lost}"
                return self.ops.asarray(self.scaled_weights(0))
            self.net.views(theta)[-1][:] *= self.target_units()[:, None]
        self._add_output_bias(theta)
        return self.ops.asarray(theta)

    def scaled_weights(self, number: int) -> np.ndarray:
        """Return θ, on the host, scaled to the data; every ``number`` has weights of its own.

        0 is the start of a run whose drawn weights lose the signal, 1 its first other start.
        """
        x, _ = self.data.train.spread(sample_rows(self.data.train.inputs))
        draw = rng.generator(self.config.training.seed, "restart", number)
        weights = scaled_weights(self.net, x, draw)
        weights[-1] *= self.target_units(wide=1.0)[:, None]
        theta = flat(weights, self.net.dtype)
        self._add_output_bias(theta)
        return theta

    def _add_output_bias(self, theta: np.ndarray) -> None:
        if self.config.network.output_bias == "data_mean":
            self.net.views(theta)[-1][:, -1] += self.loss.initial_bias(self.target_mean)

    def target_units(self, wide: float = WIDE) -> np.ndarray:
        """Return the units in which outputs start, (K,) float64: 1, or the targets' deviations.

        Deviations count where the loss takes targets of any units and the largest deviation is
        above ``wide`` or below its inverse: then each output is in units of its own, and one with a
        constant target starts, at its bias, as a constant. Rows spread over the training data
        decide.
        """
        ones = np.ones(self.net.sizes[-1])
        if not self.loss.linear:
            return ones
        deviation = target_deviations(self.loss, self.data.train, self.net.dtype)
        largest = float(deviation.max())
        return ones if largest == 0.0 or 1.0 / wide <= largest <= wide else deviation

    def stored(self, theta: Array, step: int, **losses: float) -> checkpoint.StoredNetwork:
        """Return the network with weights θ as a checkpoint stores it, on the host."""
        weights = self.net.views(self.ops.to_host(theta))
        names = self.config.network.activations
        loss = self.config.network.loss
        return checkpoint.StoredNetwork(
            weights,
            names,
            loss,
            step,
            losses,
            statistics=self.data.statistics,
            class_weights=self.weighting.classes,
            classes=self.data.classes,
            encoding=self.data.encoding,
        )


def target_deviations(loss: Loss, split: Split, dtype: DTypeLike) -> np.ndarray:
    """Return the deviation of each target on rows spread over ``split``, 0 where that is
    rounding, (K,) float64.
    """
    targets = loss.convert_targets(split.spread(sample_rows(split.inputs))[1])
    y = np.asarray(loss.unweighted(targets)[1], dtype=np.float64)
    deviation = _deviation(y, loss.weight_in_metrics(targets))
    deviation[deviation <= 4.0 * np.finfo(dtype).eps * np.abs(y).max(axis=0)] = 0.0
    return deviation


def output_scale(loss: Loss, split: Split, dtype: DTypeLike) -> float:
    """Return the root mean square of the targets' deviations, where outputs are in their units and
    it is not near 1.
    """
    if not loss.linear:
        return 1.0
    scale = float(np.sqrt((target_deviations(loss, split, dtype) ** 2).mean()))
    return scale if scale > 0.0 and not 0.5 <= scale <= 2.0 else 1.0


def _deviation(y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the deviation of each column of y (N, K); rows may have weights, (N,)."""
    if weight is None or not weight.any():
        deviation: np.ndarray = y.std(axis=0)
        return deviation
    centred = y - np.average(y, axis=0, weights=weight)
    return np.sqrt(np.average(centred * centred, axis=0, weights=weight))


def sample_rows(inputs: int) -> int:
    """Return how many rows of this many inputs say how large signals are."""
    return max(FEWEST, min(ROWS, NUMBERS // inputs))


def flat(weights: list[np.ndarray], dtype: DTypeLike) -> np.ndarray:
    """Return the vector θ of the augmented matrices W_1..W_L."""
    return np.concatenate([w.ravel() for w in weights]).astype(dtype)


def build(
    config: Config,
    ops: Backend | None = None,
    trained: checkpoint.StoredNetwork | None = None,
) -> Experiment:
    """Open the data and make network, loss and optimizer; raises ConfigError and DataError.

    ``ops`` replaces the backend of the configured device. The inputs are standardised as those of
    the network ``trained``, where a run goes on from it.
    """
    training = config.training
    ops = ops or get_backend(training.device)
    loss = get_loss(config.network.loss)
    opened = trained.open_data if trained else open_data
    labels = LabelRule.of(loss)
    data = opened(config.data, seed=training.seed, dtype=training.dtype, labels=labels)
    try:
        weighting = weigh(loss, data, training)
        loss = weighting.loss
        sense.check(config, data, loss)
        try:
            outputs, mean = target_facts(loss, data)
        except TargetRangeError as error:
            raise sense.explained(error, data, loss) from None
        problems = list(training.metric_problems([loss.predicts(outputs)]))
        if problems:
            raise SettingsError(problems)
        metrics = [get_metric(name) for name in training.measured]
        net = make_network(config, data.train.inputs, outputs, ops)
        memory = temporaries(training, ops)
        constant = best_constant(loss, ops, mean, data.train)
        problem = optimizers.Problem(
            net,
            loss,
            training.seed,
            data.train.rows,
            memory,
            training.purpose,
            loss_unit(constant, loss, ops, data),
            output_scale(loss, data.train, net.dtype),
        )
        why = ""
        if config.method == AUTO:
            method, why = optimizers.choose(problem, training.max_seconds)
            config = config.with_method(method)
        if config.training.dtype == training.dtype:
            optimizer = optimizers.make(config.method, problem, config.optimizer)
    except BaseException:
        data.close()
        raise
    if config.training.dtype != training.dtype:  # the method chosen computes in another precision
        data.close()
        return replace(build(config, ops, trained), why_method=why)
    return Experiment(
        config, data, ops, net, loss, optimizer, mean, metrics, weighting, constant, why_method=why
    )


def loss_unit(constant: Constant | None, loss: Loss, ops: Backend, data: Data) -> float:
    """Return what the best constant predictor leaves to gain: its loss above the floor, or 1 where
    that is 0 or not known.
    """
    gap = constant.loss_on(loss, ops, data.train, ROWS).gap if constant else 0.0
    return gap if 0.0 < gap < np.inf else 1.0


def temporaries(settings: TrainingSettings, ops: Backend) -> int:
    """Return the bytes that temporaries may take: ``training.memory``.

    On a GPU they get at most a quarter of the free memory. On the CPU the limit must not depend on
    free memory, because it sizes the blocks of rows and these change the last digits.
    """
    memory = size_in_bytes(settings.memory)
    if not ops.on_host:
        memory = min(memory, ops.free_memory() // 4)
    return memory


def make_network(config: Config, inputs: int, outputs: int, ops: Backend) -> Network:
    """Return the configured network between these numbers of inputs and outputs."""
    settings = config.network
    activations = [get_activation(name) for name in [*settings.activations, "identity"]]
    return Network([inputs, *settings.hidden, outputs], activations, ops, config.training.dtype)


def target_facts(loss: Loss, data: Data) -> tuple[int, np.ndarray]:
    """Return the width that the output layer needs and the weighted mean target, (outputs,).

    Both come from one pass over the training rows. Raises DataError if a target is not finite.
    """
    outputs, total, weights = 0, np.zeros(0), 0.0
    if data.largest_label is not None:
        outputs = loss.outputs(loss.convert_targets(np.array([data.largest_label])))
    for y in data.train.targets(CHUNK):
        targets = loss.convert_targets(y)
        outputs = max(outputs, loss.outputs(targets))
        weights += loss.totals(targets)[0]
        part = loss.target_sum(targets, outputs)
        total = np.pad(total, (0, len(part) - len(total))) + part
    if not np.isfinite(total).all():
        raise DataError(
            f"{data.fingerprint.file}: training targets hold numbers that are not finite"
        )
    return outputs, total / weights
