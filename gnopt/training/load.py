"""Load a run, finished or not, to evaluate, predict, export or plot with its network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gnopt.config import Config, Flags, load
from gnopt.data.options import DataSettings
from gnopt.data.source import Data
from gnopt.data.split import Split
from gnopt.engine.activations import get_activation
from gnopt.engine.arrays import Array, get_backend
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.network import Network
from gnopt.errors import ConfigError, DataError
from gnopt.registry import find_plug_ins
from gnopt.training import checkpoint
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.constant import Constant, ConstantLoss
from gnopt.training.handout import HandedOut
from gnopt.training.rundir import refuse_ensemble
from gnopt.training.setup import flat
from gnopt.training.start import newest
from gnopt.training.weights import weighted_loss


@dataclass
class TrainedNetwork:
    """The network of one checkpoint, on the device, with the configuration of its run."""

    config: Config
    path: Path  # of the checkpoint
    stored: StoredNetwork
    handed: HandedOut
    net: Network
    loss: Loss
    theta: Array

    def constant_loss(self, split: Split) -> ConstantLoss | None:
        """Return the loss of the best constant predictor of the training rows on all rows of
        ``split``, or None if the checkpoint does not hold the constant.
        """
        if self.stored.constant is None:
            return None
        return Constant(self.stored.constant).loss_on(self.loss, self.net.ops, split)

    def open_data(self, settings: DataSettings | None = None) -> Data:
        """Open the data of the run, or of other settings.

        Inputs are standardised by the mean and deviation that the run used. Raises DataError if
        the rows do not have the network's number of inputs.
        """
        settings = settings or self.config.data
        training = self.config.training
        data = self.stored.open_data(settings, seed=training.seed, dtype=training.dtype)
        if data.train.inputs != self.net.sizes[0]:
            data.close()
            raise DataError(
                f"{settings.file}: rows of {data.train.inputs} numbers, but the network takes "
                f"{self.net.sizes[0]}"
            )
        return data


def find_checkpoint(run: Path, which: str | None = None) -> Path:
    """Return the checkpoint ``which`` (latest, best or a step) of a run directory.

    Without ``which`` it is the best, or the newest of a run that has no best one. If ``run`` is a
    file, it is taken to be the checkpoint. Raises DataError if there is none, and ConfigError if
    ``which`` is none of the three, or for the directory of an ensemble.
    """
    if run.is_file():
        return run
    folder = run / "checkpoints"
    if not run.is_dir():
        raise DataError(f"{run}: no such run directory or checkpoint")
    refuse_ensemble(run)
    if which is None:
        path = checkpoint.pointed(folder, "best") or newest(run)
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


def load_stored(run: Path, which: str | None = None) -> tuple[Path, StoredNetwork, HandedOut]:
    """Read a checkpoint; return where it is, what it holds, and why it is this one.

    Plug-ins of its run can be looked up afterwards.
    """
    path = find_checkpoint(run, which)
    stored = checkpoint.load_network(path)
    find_plug_ins(_folder(run, path) / "config.toml", [stored.loss, *stored.activations])
    return path, stored, _handed(run, path, stored)


def _handed(run: Path, path: Path, stored: StoredNetwork) -> HandedOut:
    """Say whether the checkpoint of the directory ``run`` is its best one."""
    best = run.is_dir() and path == checkpoint.pointed(run / "checkpoints", "best")
    return HandedOut.of(stored.step, stored.judged, best)


def complaint(run: Path, handed: HandedOut) -> list[str]:
    """Return a line if the run has only made its network worse so far."""
    path = newest(run) if run.is_dir() else None
    return handed.complaint((checkpoint.step_of(path) or 0) if path else 0)


def _folder(run: Path, path: Path) -> Path:
    return run if run.is_dir() else path.parent.parent


def load_run(run: Path, which: str | None = None, flags: Flags | None = None) -> TrainedNetwork:
    """Load the network of a run directory, or of one of its checkpoint files.

    ``flags`` override settings of the run, such as its device. Raises DataError and ConfigError if
    files are missing or damaged.
    """
    path = find_checkpoint(run, which)
    folder = _folder(run, path)
    if not (folder / "config.toml").is_file():
        raise DataError(
            f"{folder / 'config.toml'}: missing; a checkpoint is read with its run directory"
        )
    config = load(folder / "config.toml", (), flags)
    stored = checkpoint.load_network(path)
    ops = get_backend(config.training.device)
    activations = [get_activation(name) for name in [*stored.activations, "identity"]]
    net = Network(stored.sizes, activations, ops, config.training.dtype)
    theta = ops.asarray(flat(stored.weights, net.dtype))
    handed = _handed(run, path, stored)
    loss = weighted_loss(get_loss(stored.loss), config, stored)
    return TrainedNetwork(config, path, stored, handed, net, loss, theta)
