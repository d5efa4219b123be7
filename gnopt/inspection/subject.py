"""The subject of an inspection: a network on the first rows of its training data.

It is inspected at one or several sets of weights, each of which gives a `Snapshot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt import rng
from gnopt.config import Config, Flags, load
from gnopt.curvature import Curvature, CurvatureSample
from gnopt.data.classes import LabelRule
from gnopt.data.links import refuse_links
from gnopt.data.source import Data
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, Workspace, get_backend
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network, Tape, forward
from gnopt.errors import ConfigError, DataError, GnoptError
from gnopt.notes import note
from gnopt.optimizers import second_order
from gnopt.optimizers.second_order import SecondOrderSettings
from gnopt.training import checkpoint
from gnopt.training.evaluate import targets_for
from gnopt.training.load import find_checkpoint
from gnopt.training.origin import check_own_data, own_config
from gnopt.training.rundir import CONFIG, refuse_ensemble
from gnopt.training.setup import build, flat, temporaries
from gnopt.training.weights import weighted_loss

SAMPLES = 1000  # rows looked at, unless asked for more or fewer


@dataclass(frozen=True)
class Weights:
    """One set of weights, with the damping and weight decay that the run used at them."""

    theta: Array  # on the device
    step: int
    damping: float | None = None  # λ, if Levenberg and Marquardt's rule adapted one
    boost: float = 1.0  # factor on the damping after bad steps
    eta: float = 0.0  # weight decay η


@dataclass
class Subject:
    """A network with its loss, a sample of its data, and the weights to look at."""

    name: str
    config: Config
    net: Network
    loss: Loss
    x: Array
    y: Array
    places: list[Path | None]  # checkpoints; None stands for ``initial``
    initial: Array | None = None  # weights of a configuration that has not been trained
    initial_eta: float = 0.0  # and the weight decay that its run would begin with

    @property
    def rows(self) -> int:
        """Data points in the sample."""
        return len(self.x)

    @property
    def seed(self) -> int:
        """Seed of the configuration."""
        return self.config.training.seed

    @property
    def memory(self) -> int:
        """Bytes that temporaries may take."""
        return temporaries(self.config.training, self.net.ops)

    def weights(self, place: Path | None) -> Weights:
        """Load the weights of one place.

        Raises DataError if the checkpoint is damaged or belongs to another network.
        """
        if place is None:
            assert self.initial is not None
            return Weights(self.initial, 0, eta=self.initial_eta)
        stored = checkpoint.load_network(place)
        checkpoint.check_fits(stored, list(self.net.sizes), place)
        theta = self.net.ops.asarray(flat(stored.weights, self.net.dtype))
        return Weights(theta, stored.step, *_adapted(place))

    def every(self) -> Iterator[Weights]:
        """Yield the weights of every place, oldest first."""
        return map(self.weights, self.places)


@dataclass
class Snapshot:
    """A subject at one set of weights, with the forward pass of its whole sample."""

    subject: Subject
    weights: Weights
    W: list[Array]
    tape: Tape
    workspace: Workspace

    @property
    def net(self) -> Network:
        """The network."""
        return self.subject.net

    def sample(self, purpose: str = "", rows: int | None = None) -> CurvatureSample:
        """Return the sample, or its first ``rows``, in the form that curvatures take.

        Each ``purpose`` has a random stream of its own, so that one does not change another.
        """
        s = self.subject
        whole = CurvatureSample(
            s.net,
            self.W,
            self.tape,
            s.loss,
            s.y,
            rng.generator(s.seed, "inspect " + purpose),
            s.memory,
            workspace=self.workspace,
        )
        return whole if rows is None or rows >= self.tape.rows else whole.take(slice(0, rows))


def take_snapshot(subject: Subject, weights: Weights) -> Snapshot:
    """Run the sample forward; GnoptError if its activations do not fit or are not finite."""
    net = subject.net
    need, free = 2 * net.row_bytes() * subject.rows, net.ops.free_memory()
    if need > free:
        raise GnoptError(
            f"the activations of {subject.rows:,} rows take {need:,} bytes and {free:,} are free; "
            "choose fewer rows (--samples), or --dtype float32"
        )
    W = net.views(weights.theta)
    tape = forward(net, W, subject.x)
    if not all(map(isfinite, net.ops.scalars(tape.output.sum()))):
        raise GnoptError(f"the outputs of the network at step {weights.step} are not finite")
    return Snapshot(subject, weights, W, tape, Workspace(net.ops, net.dtype))


@contextmanager
def open_subject(
    target: Path,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    samples: int | None = None,
    init_from: Path | None = None,
    which: str = "latest",
) -> Iterator[Subject]:
    """Open a configuration or a run to inspect it inside the ``with`` block.

    A configuration has its initial weights, or those of the checkpoint ``init_from``. A run has the
    checkpoints ``which``: latest, best, all, or step numbers joined by commas. ``samples`` limits
    the rows. Raises ConfigError and DataError.
    """
    if target.is_dir() or target.suffix == ".h5":
        subject, data = _of_run(target, sets, flags, init_from, which)
    else:
        if which != "latest":
            raise ConfigError(
                f"--checkpoints {which}: only for a run directory; {target} is a configuration"
            )
        config = load(target, sets, flags)
        experiment = build(config)
        data = experiment.data
        try:
            theta = experiment.initial_weights(init_from)
            eta = experiment.optimizer.init(theta).eta
        except BaseException:
            data.close()
            raise
        subject = Subject(
            target.stem, config, experiment.net, experiment.loss, None, None, [None], theta, eta
        )
    with data:
        _attach(subject, data, samples)
        yield subject


def _of_run(
    target: Path,
    sets: Sequence[str],
    flags: Flags | None,
    init_from: Path | None,
    which: str,
) -> tuple[Subject, Data]:
    run = target if target.is_dir() else target.resolve().parent.parent
    config = own_config(run, flags, sets)
    places: list[Path] = [init_from] if init_from else _checkpoints(target, which)
    stored = checkpoint.load_network(places[-1])
    training = config.training
    activations = [get_activation(name) for name in [*config.network.activations, "identity"]]
    net = Network(stored.sizes, activations, get_backend(training.device), training.dtype)
    loss = weighted_loss(get_loss(config.network.loss), config, stored)
    labels = LabelRule.of(loss)
    data = stored.open_data(config.data, seed=training.seed, dtype=training.dtype, labels=labels)
    if data.train.inputs != net.sizes[0]:
        data.close()
        raise DataError(
            f"{config.data.file}: rows of {data.train.inputs} numbers, but the network takes "
            f"{net.sizes[0]}"
        )
    if config.sources["data.file"] == str(run / CONFIG):  # and not another file, by a flag
        check_own_data(run, data)
    return Subject(run.resolve().name, config, net, loss, None, None, [*places]), data


def _checkpoints(target: Path, which: str) -> list[Path]:
    if target.is_file():
        return [target]
    refuse_ensemble(target)
    if which == "all":
        # A best network between them, kept beside them, has its own name: best.
        paths = []
        for path in checkpoint.listed(target / "checkpoints"):
            damage = checkpoint.damage(path)
            if damage:
                note(f"{damage}; it is left out")
            elif checkpoint.resumable(path):
                paths.append(path)
        if not paths:
            raise DataError(f"{target / 'checkpoints'}: no checkpoints")
        return paths
    return [find_checkpoint(target, name.strip()) for name in which.split(",")]


def _attach(subject: Subject, data: Data, samples: int | None) -> None:
    """Put the first rows of the training data into the subject."""
    rows = data.train.rows
    if samples is not None and samples > rows:
        raise ConfigError(f"--samples {samples}: {data.fingerprint.file} has {rows} training rows")
    x, y = data.train.rows_at(0, min(rows, samples or SAMPLES))
    ops = subject.net.ops
    subject.x = ops.asarray(x)
    targets = targets_for(subject.loss, y, subject.net.sizes[-1], "train")
    subject.y = subject.loss.even(ops, subject.loss.on_device(targets, ops.asarray))


def _adapted(place: Path) -> tuple[float | None, float, float]:
    """Return λ, its boost and η from the optimizer state of a checkpoint, if it has them."""
    try:
        with h5py.File(place, "r") as file:
            refuse_links(file)
            state = file["state/optimizer"]
            damping, boost, eta = (
                float(np.asarray(state[name])) if name in state else None
                for name in ("damping", "boost", "eta")
            )
    except (OSError, KeyError, ValueError, TypeError):
        return None, 1.0, 0.0
    return damping, 1.0 if boost is None else boost, eta or 0.0


def settings_for(config: Config, curvature: type[Curvature], **given: Any) -> SecondOrderSettings:
    """Return the settings of a curvature's method.

    ``given`` settings come before those of the configuration, and these before the defaults. A
    setting that the method does not have is left out.
    """
    record = second_order.settings_of(curvature)
    known = {option.name for option in record.options()}
    values = config.optimizer.values() | given
    return record.make({name: value for name, value in values.items() if name in known})
