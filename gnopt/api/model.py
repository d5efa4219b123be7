"""A trained network, or an ensemble, in the hands of a Python program."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from gnopt.api import snapshot
from gnopt.api.memory_data import MemoryData, Rows
from gnopt.config import Flags
from gnopt.data.classes import Classes as ClassesOfData
from gnopt.data.source import Data
from gnopt.engine.predictions import Classes, Gaussian, Numbers, Prediction
from gnopt.ensemble.load import load_trained
from gnopt.errors import ConfigError, DataError
from gnopt.metrics import applicable
from gnopt.training import checkpoint, rundir
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.evaluate import evaluate_predictor
from gnopt.training.load import Trained, find_checkpoint


@dataclass(frozen=True)
class _Loaded:
    """The network on its device, and as it is stored."""

    trained: Trained
    stored: StoredNetwork  # the first one of an ensemble


class Model:
    """A trained network, or an ensemble of them, from `gnopt.fit` or `gnopt.load`.

    It holds the files of its run, so it can be pickled, copied and sent to other processes, and
    needs no directory. ``notes`` are the lines that training said of data and network.
    """

    def __init__(
        self,
        files: snapshot.Files,
        *,
        device: str | None = None,
        labels: np.ndarray | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._files = dict(files)
        self._device = device
        self._labels = labels  # of the classes, with the type of the targets
        self.notes = list(notes)
        self._in_use: _Loaded | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_in_use": None}

    def __deepcopy__(self, memo: dict[int, object]) -> Model:
        return Model(self._files, device=self._device, labels=self._labels, notes=self.notes)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self._loaded.stored.sizes))
        members = self.settings["training.members"]
        several = f"{members} members " if members != 1 else ""
        return f"<gnopt.Model {several}{sizes}, {self._loaded.stored.loss}>"

    @property
    def settings(self) -> dict[str, object]:
        """Every setting of the run, key in full → value, such as "network.hidden"."""
        return self._loaded.trained.config.flat()

    @property
    def classes_(self) -> np.ndarray | None:
        """The classes in the order of `predict_proba`, (C,); None where numbers are predicted."""
        kind = self._kind
        if not issubclass(kind, Classes):
            return None
        stored = self._loaded.stored
        count = max(2, stored.sizes[-1]) if stored.classes is None else len(stored.classes.names)
        if self._labels is not None and len(self._labels) == count:
            return self._labels
        return np.arange(count) if stored.classes is None else _labels(stored.classes)

    # ---- use ---------------------------------------------------------------------------------

    @overload
    def predict(self, x: Rows, *, return_std: Literal[False] = False) -> np.ndarray: ...

    @overload
    def predict(self, x: Rows, *, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, x: Rows, *, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the class, or the mean, of each row: (N,), or (N, K) for K targets.

        ``x`` is an array (N, D), a data frame with the columns that were trained with, or the path
        of a data file. With ``return_std`` the standard deviation of each number comes too: that of
        the noise, and of an ensemble's members about their mean. Raises DataError for rows that do
        not fit, and ConfigError where no deviation is known.
        """
        prediction = self._predicted(x)
        if isinstance(prediction, Classes):
            if return_std:
                raise ConfigError("return_std: classes have probabilities; expected predict_proba")
            classes = self.classes_
            assert classes is not None
            chosen: np.ndarray = classes[prediction.labels]
            return chosen
        assert isinstance(prediction, Numbers)
        mean = _one_column(prediction.mean)
        if not return_std:
            return mean
        deviation = prediction.deviation()
        if deviation is None:
            raise ConfigError(
                f"return_std: no deviation is known of predictions by loss "
                f"{self._loaded.stored.loss}"
            )
        return mean, _one_column(deviation)

    def predict_proba(self, x: Rows) -> np.ndarray:
        """Return the probability of each class, (N, C); columns follow ``classes_``.

        Raises ConfigError for a network that predicts numbers.
        """
        if not issubclass(self._kind, Classes):
            raise ConfigError(
                f"predict_proba: a network with loss {self._loaded.stored.loss} predicts numbers; "
                "expected predict"
            )
        prediction = self._predicted(x)
        assert isinstance(prediction, Classes)
        return prediction.probabilities

    def evaluate(
        self, x: Rows, y: ArrayLike | None = None, *, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Return the objective, without weight decay, and every metric that has one number.

        A data frame or a file may hold the targets itself, in the columns that were trained with.
        Rows without a target are left out. Raises DataError for rows that do not fit.
        """
        trained = self._loaded.trained
        metrics = list(applicable(self._kind).values())
        with self._opened(x, y, sample_weight, targets=True) as data:
            (split,) = data.splits.values()
            evaluation = evaluate_predictor(trained, split, metrics=metrics)
        scores = {
            name: score.value
            for name, score in evaluation.scores.items()
            if score.value is not None
        }
        return {"objective": evaluation.loss, **scores}

    def save(self, run: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the run directory ``run``, for `gnopt.load` and for every command that takes a RUN.

        Raises ConfigError if ``run`` exists, unless ``overwrite`` allows to replace a run.
        """
        folder = Path(run)
        rundir.check_free(folder, overwrite)
        if rundir.is_run(folder):
            shutil.rmtree(folder)
        snapshot.unpack(self._files, folder)
        return folder

    # ---- inside --------------------------------------------------------------------------------

    @property
    def _loaded(self) -> _Loaded:
        """The network, which is loaded when it is used first."""
        if self._in_use is None:
            with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
                run = Path(folder) / "run"
                snapshot.unpack(self._files, run)
                flags: Flags = (
                    {"training.device": ("device=", self._device)} if self._device else {}
                )
                trained = load_trained(run, None, flags)
                first = (rundir.members(run) or [run])[0]
                stored = checkpoint.load_network(find_checkpoint(first))
                self._in_use = _Loaded(trained, stored)
        return self._in_use

    @property
    def _kind(self) -> type[Prediction]:
        trained = self._loaded.trained
        return trained.loss.predicts(trained.outputs)

    def _predicted(self, x: Rows) -> Prediction:
        """Return the predictions of all rows."""
        trained = self._loaded.trained
        with self._opened(x) as data, np.errstate(all="ignore"):
            parts = [
                answer.predicted()
                for split in data.splits.values()
                for answer in trained.answers(split)
            ]
        return _joined(parts)

    @contextlib.contextmanager
    def _opened(
        self,
        x: Rows,
        y: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        targets: bool = False,
    ) -> Iterator[Data]:
        """Open rows as data of the network, with the ``targets`` if they are asked for."""
        trained, stored = self._loaded.trained, self._loaded.stored
        settings = trained.config.data
        if isinstance(x, (str, os.PathLike)):
            new = settings.of_file(Path(x))
            if not targets:
                new = new.changed(targets="inputs", weights="")
            with trained.open_data(new) as data:
                yield data
            return
        rows = MemoryData.of(x, y, weights)
        names = stored.classes.names if stored.classes is not None else ()
        with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
            file = Path(folder) / "rows.h5"
            new = rows.write_new(file, settings, stored.encoding, names, targets)
            if targets and new.targets == "inputs" and settings.targets != "inputs":
                raise ConfigError("y is missing: nothing to compare predictions with")
            if not targets:
                new = new.changed(targets="inputs", weights="")
            with trained.open_data(new) as data:
                yield data


def load(run: str | os.PathLike[str], *, device: str | None = None) -> Model:
    """Return the network, or the ensemble, of a run directory; its best one, as all commands do.

    ``device`` is where it predicts, if not where it was trained. The directory may be deleted
    afterwards. Raises DataError if there is no network in ``run``.
    """
    if not rundir.is_run(Path(run)):
        raise DataError(f"{run}: no such run directory (no run.json)")
    return Model(snapshot.pack(Path(run)), device=device)


def _labels(classes: ClassesOfData) -> np.ndarray:
    """Return classes as a program would write them: numbers, True and False, or words."""
    names = classes.names
    if all(name.lstrip("-").isdecimal() and str(int(name)) == name for name in names):
        return np.array([int(name) for name in names])
    if set(names) <= {"False", "True"}:
        return np.array([name == "True" for name in names])
    return np.array(names)


def _one_column(values: np.ndarray) -> np.ndarray:
    """Return (N, 1) as (N,)."""
    return values[:, 0] if values.shape[1] == 1 else values


def _joined(parts: Sequence[Prediction]) -> Prediction:
    """Return the predictions of chunks of rows as one."""
    classes = [part.log_probabilities for part in parts if isinstance(part, Classes)]
    if classes:
        return Classes(np.concatenate(classes))
    numbers = [part for part in parts if isinstance(part, Numbers)]
    mean = np.concatenate([part.mean for part in numbers])
    variances = [
        part.variance
        for part in numbers
        if isinstance(part, Gaussian) and part.variance is not None
    ]
    return Gaussian(mean, np.concatenate(variances)) if variances else Numbers(mean)
