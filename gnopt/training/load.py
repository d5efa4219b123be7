"""Load a run, finished or not, to evaluate, predict, export or plot with its network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gnopt.config import Config, Flags
from gnopt.data.classes import LabelRule
from gnopt.data.options import DataSettings
from gnopt.data.source import Data
from gnopt.data.split import Split
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, Backend, get_backend
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network
from gnopt.errors import ConfigError, DataError, GnoptError
from gnopt.metrics import AnyMetric
from gnopt.training import checkpoint
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.constant import Constant, ConstantLoss, shortcomings
from gnopt.training.content import ALONE, Content
from gnopt.training.evaluate import CHUNK, Answer, OneNetwork, Predictor
from gnopt.training.handout import HandedOut
from gnopt.training.jacobian import Jacobian
from gnopt.training.layers import activations, choose_layer
from gnopt.training.origin import check_own_data, own_config
from gnopt.training.recovery import best_whole, newest, updates_made
from gnopt.training.rundir import refuse_ensemble
from gnopt.training.setup import flat
from gnopt.training.weights import weighted_loss


class Aside(Protocol):
    """More that `gnopt evaluate` says beside the scores of each split."""

    def facts(self) -> dict[str, object]:
        """Return fields for JSON."""

    def lines(self) -> Iterator[str]:
        """Yield lines for a terminal."""


class Trained(Predictor, Protocol):
    """What the commands use of a run: its network, or the networks of an ensemble as one."""

    @property
    def config(self) -> Config:
        """The configuration of the run."""

    def open_data(self, new: DataSettings | None = None) -> Data:
        """Open the data of the run, or all rows of the ``new`` file that these settings name.

        Inputs are standardised by the mean and deviation that the run used. Raises DataError if
        the rows do not have the network's number of inputs, or if the data of the run are not
        those that it was started with.
        """

    def constant_loss(self, split: Split) -> ConstantLoss | None:
        """Return the loss of the best constant predictor of the training rows on all rows of
        ``split``, or None if it is not known.
        """

    def layer(self, name: str) -> Callable[[Split], Iterator[dict[str, np.ndarray]]]:
        """Return a function that yields what ``gnopt predict`` writes of the rows of a split, by
        name of the dataset, a chunk at a time; `choose_layer` explains ``name``.
        """

    def jacobian(self, name: str) -> Callable[[Split], Iterator[np.ndarray]]:
        """Return a function that yields the derivatives of the same by the inputs as they are in
        the data, (n, K, D) for the next n rows of a split.

        Raises ConfigError for a hidden layer.
        """

    def asides(
        self, splits: Mapping[str, Split], metrics: Sequence[AnyMetric], folds: bool
    ) -> Sequence[Aside]:
        """Return what there is to say beside the scores of ``splits``.

        ``folds`` asks for the score of a cross-validation, if the run is one.
        """

    @property
    def noise_is_known(self) -> bool:
        """Whether predictions of numbers come with their variance."""

    @property
    def output_names(self) -> Sequence[str]:
        """The names of the classes, or of the targets; none where the data had no names."""

    def title(self) -> str:
        """Return where the network comes from, in a line."""

    def origin(self) -> dict[str, object]:
        """Return where the network comes from, as attributes of a file."""

    def facts(self) -> dict[str, object]:
        """Return where the network comes from, and why it is this one, as fields for JSON."""

    def told(self) -> list[str]:
        """Return lines on which network is handed out and why, where the user left it open."""

    def shortcomings(self) -> list[str]:
        """Return lines on a network that is no better than a constant on the rows of its run."""


@dataclass
class TrainedNetwork:
    """The network of one checkpoint, on the device, with the configuration of its run.

    Its methods are those of `Trained`.
    """

    config: Config
    run: Path  # the run directory, or the checkpoint that was asked for
    path: Path  # of the checkpoint
    stored: StoredNetwork
    handed: HandedOut
    net: Network
    loss: Loss
    theta: Array

    @property
    def ops(self) -> Backend:
        return self.net.ops

    @property
    def outputs(self) -> int:
        return self.net.sizes[-1]

    @property
    def noise_is_known(self) -> bool:
        return self.stored.noise is not None

    @property
    def output_names(self) -> Sequence[str]:
        return self.stored.output_names

    def answers(self, split: Split, limit: int = 0) -> Iterator[Answer]:
        """Yield the answers on the rows that `chunks` yields."""
        network = OneNetwork(self.net, self.loss, self.theta, self.stored.noise)
        return network.answers(split, limit)

    def layer(self, name: str) -> Callable[[Split], Iterator[dict[str, np.ndarray]]]:
        compute = activations(self.net, self.loss, self.theta, choose_layer(self.net, name))
        return lambda split: ({"x": compute(x)} for x, _ in split.chunks(CHUNK))

    def jacobian(self, name: str) -> Callable[[Split], Iterator[np.ndarray]]:
        return Jacobian.of_layer(self.net, self.loss, self.theta, name).on

    def asides(
        self, splits: Mapping[str, Split], metrics: Sequence[AnyMetric], folds: bool
    ) -> Sequence[Aside]:
        return []

    def title(self) -> str:
        return f"{self.path}, step {self.stored.step}"

    def origin(self) -> dict[str, object]:
        return {"checkpoint": str(self.path), "step": self.stored.step}

    def facts(self) -> dict[str, object]:
        return {**self.origin(), "handed_out": self.handed.facts()}

    def told(self) -> list[str]:
        return told(self.run, self.handed)

    def shortcomings(self) -> list[str]:
        return shortcomings(self.stored.losses)

    def constant_loss(self, split: Split) -> ConstantLoss | None:
        """Return the loss of the best constant predictor, or None if the checkpoint does not hold
        the constant.
        """
        if self.stored.constant is None:
            return None
        return Constant(self.stored.constant).loss_on(self.loss, self.net.ops, split)

    def open_data(self, new: DataSettings | None = None) -> Data:
        settings, training = new or self.config.data, self.config.training
        data = self.stored.open_data(
            settings,
            seed=training.seed,
            dtype=training.dtype,
            labels=LabelRule.of(self.loss),
            new=new is not None,
        )
        check_inputs(data, self.net, settings)
        if new is None:
            check_own_data(_folder(self.run, self.path), data)
        return data


def check_inputs(data: Data, net: Network, settings: DataSettings) -> None:
    """Close the data and raise DataError if their rows are not as wide as the inputs of ``net``."""
    if data.inputs != net.sizes[0]:
        data.close()
        raise DataError(
            f"{settings.file}: rows of {data.inputs} numbers, but the network takes {net.sizes[0]}"
        )


def find_checkpoint(run: Path, which: str | None = None) -> Path:
    """Return the checkpoint ``which`` (latest, best or a step) of a run directory.

    Without ``which`` it is the best, or the newest of a run that has no best one; in place of a
    damaged one another is returned, and the damage is noted. If ``run`` is a file, it is taken to
    be the checkpoint. Raises DataError if there is none, and ConfigError if ``which`` is none of
    the three, or for the directory of an ensemble.
    """
    if run.is_file():
        return run
    folder = run / "checkpoints"
    if not run.is_dir():
        raise DataError(f"{run}: no such run directory or checkpoint")
    refuse_ensemble(run)
    if which is None:
        path = best_whole(folder) or newest(run)
    elif which == "latest":
        path = newest(run)
    elif which == "best":
        path = checkpoint.pointed(folder, "best")
    elif which.isdecimal():
        path = folder / checkpoint.checkpoint_name(int(which))
    else:
        raise ConfigError(f"--checkpoint {which!r}: expected latest, best or the number of a step")
    if path is None or not path.is_file():
        steps = [str(checkpoint.step_of(p)) for p in checkpoint.listed(folder)]
        wanted = f" '{which}'" if which else ""
        raise DataError(f"{run}: no checkpoint{wanted}; found {', '.join(steps) or 'none'}")
    return path


class Stored(Protocol):
    """What ``gnopt export`` writes: the network of a run, or those of an ensemble."""

    def content(self) -> Content:
        """Return what is written."""

    def title(self) -> str:
        """Return what is written and where it comes from, in a line."""

    def facts(self) -> dict[str, object]:
        """Return the same as fields for JSON."""

    def told(self) -> list[str]:
        """Return lines on which network is handed out and why, where the user left it open."""

    def shortcomings(self) -> list[str]:
        """Return lines on a network that is no better than a constant on the rows of its run."""


@dataclass(frozen=True)
class StoredRun:
    """The network of a checkpoint, on the host; its methods are those of `Stored`."""

    run: Path  # the run directory, or the checkpoint that was asked for
    path: Path  # of the checkpoint
    network: StoredNetwork
    handed: HandedOut

    def content(self) -> Content:
        return Content(self.title(), {ALONE: self.network})

    def title(self) -> str:
        sizes = "-".join(map(str, self.network.sizes))
        return f"{sizes} at step {self.network.step}, from {self.path}"

    def facts(self) -> dict[str, object]:
        return {
            "checkpoint": str(self.path),
            "step": self.network.step,
            "handed_out": self.handed.facts(),
            "sizes": self.network.sizes,
        }

    def told(self) -> list[str]:
        return told(self.run, self.handed)

    def shortcomings(self) -> list[str]:
        return shortcomings(self.network.losses)


def load_stored(run: Path, which: str | None = None) -> StoredRun:
    """Read a checkpoint. Plug-ins of its run can be looked up afterwards."""
    path = find_checkpoint(run, which)
    stored = checkpoint.load_network(path)
    _provide_plug_ins(_folder(run, path))
    return StoredRun(run, path, stored, _handed(run, path, stored))


def _provide_plug_ins(run: Path) -> None:
    """Load the plug-ins that the configuration of a run names, as far as the user allows it.

    For readers of a checkpoint that need no configuration otherwise, nor any plug-in in most cases.
    """
    with contextlib.suppress(GnoptError):
        own_config(run)


def _handed(run: Path, path: Path, stored: StoredNetwork) -> HandedOut:
    """Say whether the checkpoint of the directory ``run`` is its best one."""
    best = run.is_dir() and path == checkpoint.pointed(run / "checkpoints", "best")
    return HandedOut.of(stored.step, stored.judged, best)


def told(run: Path, handed: HandedOut) -> list[str]:
    """Return lines on which network of the directory ``run`` is handed out and why, and on a run
    that has only made its network worse so far; none if ``run`` is a checkpoint.
    """
    if not run.is_dir():
        return []
    made = updates_made(run)
    return [f"step {handed.step}, {handed.reason()}", *handed.complaint(made)]


def _folder(run: Path, path: Path) -> Path:
    return run if run.is_dir() else path.parent.parent


def load_run(run: Path, which: str | None = None, flags: Flags | None = None) -> TrainedNetwork:
    """Load the network of a run directory, or of one of its checkpoint files.

    ``flags`` override settings of the run, such as its device. Raises DataError and ConfigError if
    files are missing or damaged.
    """
    path = find_checkpoint(run, which)
    folder = _folder(run, path)
    config = own_config(folder, flags)
    stored = checkpoint.load_network(path)
    ops = get_backend(config.training.device)
    activations = [get_activation(name) for name in [*stored.activations, "identity"]]
    net = Network(stored.sizes, activations, ops, config.training.dtype)
    theta = ops.asarray(flat(stored.weights, net.dtype))
    handed = _handed(run, path, stored)
    loss = weighted_loss(get_loss(stored.loss), config, stored)
    return TrainedNetwork(config, run, path, stored, handed, net, loss, theta)
