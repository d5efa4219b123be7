"""`gnopt.fit`: train on data in memory or in a file, as `gnopt train` does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gnopt import plug_ins
from gnopt.api import snapshot
from gnopt.api.keywords import flags_of
from gnopt.api.memory_data import MemoryData, Rows, is_frame
from gnopt.api.model import Model
from gnopt.config import Config, Flags, load
from gnopt.data.options import DataSettings
from gnopt.ensemble import start as ensemble_start
from gnopt.ensemble import train as ensemble_train
from gnopt.errors import ConfigError, Interrupted
from gnopt.training import rundir, start
from gnopt.training.estimate import check_memory
from gnopt.training.loop import Counters, Reporter, run_to_end
from gnopt.training.measured import Measured

_COMMAND = ["gnopt.fit"]  # in run.json, where the command line is for other runs


def fit(
    x: Rows,
    y: ArrayLike | None = None,
    *,
    target: str | None = None,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    class_names: Sequence[str] = (),
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    verbose: bool = False,
    **settings: object,
) -> Model:
    """Train a network on rows ``x`` and return the best one.

    ``x`` is an array (N, ...), a data frame, or the path of a table, an HDF5 file or a
    configuration. The targets are ``y``, (N,) or (N, K), or the column ``target`` of a data frame
    or a file; ``target="inputs"`` trains an autoencoder. ``sample_weight`` and ``groups``, (N,),
    say how much rows count and which are held out together. ``class_names`` are those of the
    classes 0, 1, ..., where ``y`` has numbers.

    ``settings`` are those of a configuration: ``hidden=[50, 50]``, ``method="adam"``,
    ``max_updates=200``, ``members=5``, ``section__key=value``. What they leave open is decided by
    the data, as `gnopt train` decides, and told in ``Model.notes``; with ``verbose`` on stderr,
    with the evaluations. The run is kept in the directory ``run``, with the data beside it in
    ``<run>.h5``; without ``run`` nothing is kept but the model.

    Raises ConfigError for wrong settings, DataError for wrong data, and Diverged where no method
    copes with them. Warns of a network that is no better than a constant.
    """
    if target is not None:
        settings["target"] = target
    flags = flags_of(settings)
    out = Path(run) if run is not None else None
    if not isinstance(x, (str, os.PathLike)):
        data = MemoryData.of(x, y, sample_weight, groups, class_names)
        return fit_data(data, flags, out, overwrite, verbose)
    if not (y is None and sample_weight is None and groups is None):
        raise ConfigError(
            "y, sample_weight and groups go with data in memory; expected target=, weights= and "
            "group=, the names of columns of the file"
        )
    plug_ins.allow_beside(Path(x))
    with _directory(out, overwrite) as folder:
        return _trained(load(Path(x), (), flags), folder, overwrite, verbose)


def fit_data(
    data: MemoryData,
    flags: Flags,
    out: Path | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Model:
    """Train on data in memory; `fit` explains the arguments, and ``flags`` are its settings."""
    with _directory(out, overwrite) as folder:
        file = folder.with_name(f"{folder.name}.h5")
        if file.exists() and not overwrite:
            raise ConfigError(f"{file}: exists already; overwrite=True replaces it")
        flags, notes = _written(data, file, flags)
        model = _trained(load(file, (), flags), folder, overwrite, verbose, data.labels)
        model.notes[:0] = notes
        return model


@contextlib.contextmanager
def _directory(out: Path | None, overwrite: bool) -> Iterator[Path]:
    """Give a run directory: ``out``, or one that is deleted at the end of the block."""
    if out is not None:
        rundir.check_free(out, overwrite)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
        yield Path(folder) / "run"


def _trained(
    config: Config, out: Path, overwrite: bool, verbose: bool, labels: np.ndarray | None = None
) -> Model:
    """Train in the directory ``out`` and return its model, whose classes are ``labels``."""
    reporter = _Reporter(verbose)
    with _ctrl_c():
        _train(config, out, overwrite, reporter)
    return Model(snapshot.pack(out), labels=labels, notes=reporter.notes)


def _written(data: MemoryData, path: Path, flags: Flags) -> tuple[Flags, list[str]]:
    """Write the data to ``path`` and return the flags with the names of its datasets, and what was
    found in the columns.
    """
    known = {option.name for option in DataSettings.options()}  # others are refused by `load`
    ours = {name: flags[f"data.{name}"][1] for name in known if f"data.{name}" in flags}
    given, problems = DataSettings.parse({**ours, "file": str(path)}, "data")
    if given is None or problems:
        raise ConfigError(map(str, problems))
    named = data.y is not None or "data.targets" in flags
    if not named:
        raise ConfigError(
            'what is to be predicted? Give y, or target=, the name of a column; target="inputs" '
            "trains an autoencoder"
        )
    settings, notes = data.write(path, given)
    names = {"inputs": settings.inputs, "targets": settings.targets}
    names |= {"weights": settings.weights} if settings.weights else {}
    names |= {"group": settings.group} if settings.group else {}
    rest = {key: one for key, one in flags.items() if key not in ("data.drop", "data.categories")}
    written: dict[str, tuple[str, object]] = {
        **rest,
        **{f"data.{name}": (f"{name}=", value) for name, value in names.items()},
    }
    if is_frame(data.x) and settings.targets != "inputs":
        # As for a table in a file: its columns have units of their own.
        written.setdefault("data.standardize", ("standardize=", True))
    return written, notes


def _train(config: Config, out: Path, overwrite: bool, reporter: _Reporter) -> None:
    """Train the network, or the ensemble, that ``config`` describes in the directory ``out``."""
    if config.training.networks > 1:
        ensemble = ensemble_start.begin(
            config, out, None, overwrite, None, _COMMAND, lambda experiment, path: ""
        )
        try:
            for text in config.decisions.lines() if config.decisions else ():
                reporter.note(text)
            outcome = ensemble_train.train(ensemble, lambda member, reason: None)
        finally:
            ensemble.run.close()
        reporter.warn(outcome.notes())
        return
    trainer = start.begin(config, out, None, overwrite, reporter, _COMMAND, check_memory)
    try:
        shortcomings = run_to_end(trainer).shortcomings()
    finally:
        trainer.experiment.data.close()
    reporter.warn(shortcomings)


class _Reporter(Reporter):
    """Keeps the notes of a run; prints them and the evaluations if it is ``verbose``."""

    def __init__(self, verbose: bool) -> None:
        self.notes: list[str] = []
        self._verbose = verbose

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._print(text)

    def evaluated(self, counters: Counters, measured: Measured) -> None:
        losses = {"training": measured.train, "validation": measured.validation}
        shown = [f"{name} loss {part.loss:.6g}" for name, part in losses.items() if part]
        self._print(f"update {counters.step}: {', '.join(shown)}")

    def warn(self, texts: Sequence[str]) -> None:
        """Warn the caller of `fit`, as the command line does at its end."""
        for text in texts:
            if text not in self.notes:
                self.notes.append(text)
            warnings.warn(text, RuntimeWarning, stacklevel=_callers_level())

    def _print(self, text: str) -> None:
        if self._verbose:
            print(text, file=sys.stderr)


def _callers_level() -> int:
    """Return how many calls above the calling function the code outside this package stands."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("gnopt."):
        level, frame = level + 1, frame.f_back
    return level


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt, as Python does, where the loop has ended at Ctrl-C."""
    try:
        yield
    except Interrupted as error:
        if error.exit_code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from error
        raise
