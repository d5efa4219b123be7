"""Checkpoints: one HDF5 file with the network and all that a resumed run needs, bit for bit.

::

    /                       attributes: format, schema, step, loss, dtype, gnopt; after an
                            evaluation also train_loss and validation_loss, with the
                            loss of the best constant predictor and the floor on the same rows:
                            train_constant, train_floor, validation_constant, ...;
                            judged_by: the attribute that networks of the run are compared by,
                            such as validation_loss or validation_accuracy;
                            encoding: text (JSON), how the columns of a table become inputs and
                            targets, if the data came as a table
    /network/layers/1..L    weight (d_l, d_{l-1}), bias (d_l,), attribute activation
    /inputs/mean, std       (D,), mean and deviation by which the inputs were standardised, if any
    /constant               (K,), outputs h of the best constant predictor, if it is known
    /noise                  (K,), variance of the targets about the outputs, where the loss leaves
                            it open and the network was evaluated
    /class_weights          (C,), weights of classes in the objective, if there are any
    /classes/names          (C,), what the classes of the labels are called, if targets are labels
    /classes/numbers        (C,), the labels that stand for them; empty where labels are words
    /state                  the tree of optimizer state and counters (see `tree`)

A run can be resumed from such a file. A best network between them is a file of the same form
whose ``/state`` holds the counters alone. Both are sealed (`gnopt.sealed`): a digest over the whole
file is compared before HDF5 opens it. The remark of the seal says what the tables of the run held
when the checkpoint was written (`csv_table.Mark`); it stands outside the HDF5 part because the
tables hold times, so that runs with equal numbers have equal datasets and attributes.

``/network`` holds the published weights, which evaluation and prediction use. If these are an
average of iterates, ``/state`` holds the iterate itself too.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gnopt import __version__
from gnopt.data.classes import Classes, LabelRule
from gnopt.data.links import refuse_links
from gnopt.data.moments import Statistics
from gnopt.data.opening import stored_encoding, write_encoding
from gnopt.data.options import DataSettings
from gnopt.data.source import Data, open_data
from gnopt.data.table.encoding import Encoding
from gnopt.engine.predictions import Noise
from gnopt.errors import DataError
from gnopt.files import write_text
from gnopt.notes import note
from gnopt.sealed import check, write_sealed
from gnopt.training.judge import Judged
from gnopt.training.tree import read_tree, write_tree

FORMAT = "gnopt-checkpoint"
SCHEMA = 1
_LOSSES = [
    f"{rows}_{what}" for rows in ("train", "validation") for what in ("loss", "constant", "floor")
]
_NAME = re.compile(r"step-(\d{6,})\.h5")


@dataclass
class StoredNetwork:
    """The network of a checkpoint, on the host."""

    weights: list[np.ndarray]  # W_l of layers 1..L, (d_l, d_{l-1} + 1), the bias last
    activations: list[str]  # one per hidden layer
    loss: str
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    judged: Judged | None = None  # by what it is compared with others; None: it was not evaluated
    statistics: Statistics | None = None  # of the standardisation of the inputs, if any
    constant: np.ndarray | None = None  # outputs h of the best constant predictor, (K,)
    noise: Noise | None = None  # variance of the targets about the outputs
    class_weights: np.ndarray | None = None  # (C,), of training.class_weights
    classes: Classes | None = None  # of the labels that it was trained on
    encoding: Encoding | None = None  # of the columns of the table that it was trained on

    @property
    def sizes(self) -> list[int]:
        """Layer widths [D, d_1, ..., d_L]."""
        return [self.weights[0].shape[1] - 1, *(w.shape[0] for w in self.weights)]

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the classes, or of the targets' columns; none where the data had none."""
        if self.classes is not None:
            return self.classes.names
        if self.encoding is not None and self.encoding.target is not None:
            return self.encoding.target.names
        return ()

    def open_data(
        self,
        settings: DataSettings,
        *,
        seed: int,
        dtype: str,
        labels: LabelRule,
        new: bool = False,
    ) -> Data:
        """Open data that are encoded and standardised, and whose labels are numbered, as those that
        the network was trained on; all rows of a ``new`` file.
        """
        settings = settings.changed(standardize=self.statistics is not None)
        return open_data(
            settings,
            seed=seed,
            dtype=dtype,
            statistics=self.statistics,
            labels=labels,
            classes=self.classes,
            encoding=self.encoding,
            new=new,
        )


def write_network(file: h5py.Group, network: StoredNetwork) -> None:
    """Write the group ``network``, and the attributes of ``file`` that describe it."""
    file.attrs.update(
        format=FORMAT,
        schema=SCHEMA,
        gnopt=__version__,
        step=network.step,
        loss=network.loss,
        dtype=str(network.weights[0].dtype),
        **network.losses,
    )
    if network.judged is not None:
        file.attrs["judged_by"] = network.judged.column
        if network.judged.value is not None:
            file.attrs[network.judged.column] = network.judged.value
    layers = file.create_group("network/layers")
    activations = [*network.activations, "identity"]
    for index, (weights, activation) in enumerate(
        zip(network.weights, activations, strict=True), start=1
    ):
        layer = layers.create_group(str(index))
        layer.create_dataset("weight", data=weights[:, :-1])
        layer.create_dataset("bias", data=weights[:, -1])
        layer.attrs["activation"] = activation
    if network.statistics is not None:
        for name, values in network.statistics._asdict().items():
            file[f"inputs/{name}"] = values
    if network.constant is not None:
        file["constant"] = network.constant
    if network.noise is not None:
        file["noise"] = network.noise.variance
    if network.class_weights is not None:
        file["class_weights"] = network.class_weights
    if network.classes is not None:
        file["classes/names"] = list(network.classes.names)
        file["classes/numbers"] = np.array(network.classes.numbers, dtype=np.int64)
    if network.encoding is not None:
        write_encoding(file, network.encoding)


def save(path: Path, network: StoredNetwork, state: Any, remark: str = "") -> None:
    """Write a checkpoint atomically; ``state`` is a tree that `write_tree` accepts, and ``remark``
    a line on the tables of the run.
    """

    def fill(file: h5py.File) -> None:
        write_network(file, network)
        write_tree(file, "state", state)

    write_sealed(path, fill, remark)


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint in a sentence, or None if it is whole."""
    try:
        if check(path) is None:
            load_network(path)  # without a digest, only reading shows whether it can be read
    except DataError as error:
        return str(error)
    return None


def remark(path: Path) -> str:
    """Return the remark of a checkpoint, empty for one of an earlier version; DataError if it is
    damaged.
    """
    return check(path) or ""


def whole(candidates: Iterable[Path]) -> Path | None:
    """Return the first of these checkpoints that is not damaged, and note those that are.

    Returns None if there are no candidates; raises DataError if all are damaged.
    """
    damaged: list[str] = []
    for path in candidates:
        problem = damage(path)
        if problem is None:
            for text in damaged:
                note(f"{text}; {path.name} is used in its place")
            return path
        damaged.append(problem)
    if damaged:
        raise DataError("\n".join([*damaged, "no other checkpoint of this run can be used"]))
    return None


def rank(path: Path) -> tuple[float, float, int]:
    """Return by what the network of a checkpoint is compared with others: a better one has a lower
    rank, and one that was never evaluated comes last, the newest first.
    """
    network = load_network(path)
    judged = network.judged.rank if network.judged else (inf, inf)
    return *judged, -network.step


def resumable(path: Path) -> bool:
    """Return whether the checkpoint holds the state of a method, so that a run can go on."""
    with _open(path) as file:
        return "state/optimizer" in file


def slim(path: Path) -> None:
    """Leave network and counters of a checkpoint, and drop the state of the method."""
    if resumable(path):
        save(path, load_network(path), {"counters": load_state(path)["counters"]})


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a checkpoint for reading, and turn every error of a damaged file into DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    check(path)
    try:
        with h5py.File(path, "r") as file:
            refuse_links(file)
            yield file
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise DataError(f"{path}: damaged, or not a checkpoint: {error}") from error


def load_network(path: Path) -> StoredNetwork:
    """Read ``/network``; DataError names file, HDF5 path, what is there and what was expected."""
    with _open(path) as file:
        schema = file.attrs.get("schema")
        if file.attrs.get("format") != FORMAT or schema != SCHEMA:
            raise DataError(
                f"{path}: found format {file.attrs.get('format')!r}, schema {schema!r}; "
                f"expected {FORMAT!r}, schema {SCHEMA}"
            )
        layers = file.get("network/layers")
        if not isinstance(layers, h5py.Group) or not len(layers):
            raise DataError(f"{path}:/network/layers: missing; expected one group per layer")
        dtype = np.dtype(str(file.attrs["dtype"]))
        limit = path.stat().st_size
        weights, activations = [], []
        for index in range(1, len(layers) + 1):
            weights.append(_read_layer(layers, index, dtype, limit))
            activations.append(str(layers[str(index)].attrs["activation"]))
        for index, (before, after) in enumerate(itertools.pairwise(weights), start=2):
            if after.shape[1] - 1 != before.shape[0]:
                raise DataError(
                    f"{path}:/network/layers/{index}/weight: takes {after.shape[1] - 1} inputs, "
                    f"but layer {index - 1} has {before.shape[0]} outputs"
                )
        losses = {key: float(file.attrs[key]) for key in _LOSSES if key in file.attrs}
        statistics = None
        if "inputs" in file:
            statistics = Statistics(*(file[f"inputs/{name}"][()] for name in Statistics._fields))
            if any(part.shape != (weights[0].shape[1] - 1,) for part in statistics):
                raise DataError(
                    f"{path}:/inputs: found shape {statistics.mean.shape}, "
                    f"expected ({weights[0].shape[1] - 1},)"
                )
        constant = _of_outputs(file, "constant", len(weights[-1]))
        variance = _of_outputs(file, "noise", len(weights[-1]))
        noise = Noise(variance) if variance is not None else None
        loss, step = str(file.attrs["loss"]), int(file.attrs["step"])
        return StoredNetwork(
            weights,
            activations[:-1],
            loss,
            step,
            losses,
            _read_judged(file),
            statistics,
            constant,
            noise,
            _class_weights(file),
            _classes(file),
            _encoding(file, weights[0].shape[1] - 1),
        )


def _read_judged(file: h5py.File) -> Judged | None:
    if "judged_by" not in file.attrs:
        return None
    column = str(file.attrs["judged_by"])
    value = float(file.attrs[column]) if column in file.attrs else None
    return Judged(column, value, float(file.attrs[Judged.loss_column(column)]))


def _class_weights(file: h5py.File) -> np.ndarray | None:
    if "class_weights" not in file:
        return None
    values = np.asarray(file["class_weights"][()], dtype=np.float64)
    if values.ndim != 1 or not ((values > 0.0) & np.isfinite(values)).all():
        raise DataError(f"{file.filename}:/class_weights: expected one number > 0 for each class")
    return values


def _classes(file: h5py.File) -> Classes | None:
    if "classes" not in file:
        return None
    names = tuple(map(str, file["classes/names"].asstr()[()]))
    numbers = tuple(map(int, file["classes/numbers"][()]))
    if numbers and len(numbers) != len(names):
        raise DataError(
            f"{file.filename}:/classes/numbers: found {len(numbers)} numbers, expected "
            f"{len(names)}, one for each name"
        )
    return Classes(names, numbers)


def _encoding(file: h5py.File, inputs: int) -> Encoding | None:
    encoding = stored_encoding(file)
    if encoding is not None and len(encoding.features) != inputs:
        raise DataError(
            f"{file.filename}: attribute encoding: gives {len(encoding.features)} inputs, "
            f"expected {inputs}"
        )
    return encoding


def _of_outputs(file: h5py.File, name: str, outputs: int) -> np.ndarray | None:
    """Return the dataset ``name`` of a number for each output, or None if there is none."""
    if name not in file:
        return None
    values = np.asarray(file[name][()])
    if values.shape != (outputs,):
        raise DataError(
            f"{file.filename}:/{name}: found shape {values.shape}, expected ({outputs},)"
        )
    return values


def _read_layer(layers: h5py.Group, index: int, dtype: np.dtype, limit: int) -> np.ndarray:
    where = f"{layers.file.filename}:/network/layers/{index}"
    layer = layers.get(str(index))
    parts = {
        name: layer.get(name) if isinstance(layer, h5py.Group) else None
        for name in ("weight", "bias")
    }
    for (name, part), ndim in zip(parts.items(), (2, 1), strict=True):
        if not isinstance(part, h5py.Dataset):
            raise DataError(f"{where}/{name}: missing")
        if part.dtype.kind != "f" or len(part.shape) != ndim or 0 in part.shape:
            raise DataError(
                f"{where}/{name}: found {part.dtype} of shape {part.shape}, "
                f"expected {ndim} axes of floats"
            )
        if part.nbytes > limit:
            raise DataError(f"{where}/{name}: claims {part.nbytes} bytes, more than the file holds")
    weight, bias = (np.asarray(part) for part in parts.values())
    if weight.shape[0] != bias.shape[0]:
        raise DataError(
            f"{where}/bias: found {bias.shape[0]} entries, expected {weight.shape[0]}, "
            "the rows of weight"
        )
    joined = np.concatenate([weight, bias[:, None]], axis=1).astype(dtype, copy=False)
    if not np.isfinite(joined).all():
        raise DataError(f"{where}: holds numbers that are not finite")
    return joined


def load_state(path: Path) -> Any:
    """Read the tree at ``/state``, every value with the type it was saved with."""
    with _open(path) as file:
        return read_tree(file, "state", path.stat().st_size)


def check_fits(stored: StoredNetwork, sizes: list[int], path: Path) -> None:
    """Raise DataError for the first layer of ``stored`` that does not fit the widths ``sizes``."""
    if len(stored.weights) != len(sizes) - 1:
        raise DataError(f"{path}: found {len(stored.weights)} layers, expected {len(sizes) - 1}")
    for index, weights in enumerate(stored.weights, start=1):
        found, expected = (weights.shape[0], weights.shape[1] - 1), (sizes[index], sizes[index - 1])
        if found != expected:
            raise DataError(
                f"{path}:/network/layers/{index}/weight: found shape {found}, expected {expected}"
            )


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint at ``step``."""
    return f"step-{step:06d}.h5"


def step_of(path: Path) -> int | None:
    """Return the step in a checkpoint's file name, or None for any other file."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def listed(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first, without temporary and other files."""
    numbered = [
        (step, path) for path in folder.glob("step-*.h5") if (step := step_of(path)) is not None
    ]
    return [path for _, path in sorted(numbered)]


def point(folder: Path, pointer: str, target: Path) -> None:
    """Write the name of ``target`` into the text file ``pointer``, ``latest`` or ``best``."""
    write_text(folder / pointer, target.name + "\n")


def pointed(folder: Path, pointer: str) -> Path | None:
    """Return the checkpoint that ``pointer`` names, or None if it names none."""
    step = named(folder, pointer)
    path = None if step is None else folder / checkpoint_name(step)
    return path if path is not None and path.is_file() else None


def named(folder: Path, pointer: str) -> int | None:
    """Return the step of the checkpoint that ``pointer`` names, whether it is there or not."""
    try:
        return step_of(Path((folder / pointer).read_text().strip()))
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def prune(folder: Path, keep: int, period: int, also: Path) -> None:
    """Delete old checkpoints after a new one was written.

    The newest ``keep`` on the regular schedule (every ``period`` steps) stay, and so does the one
    that ``latest`` names. Of ``also`` and of the one that ``best`` names, the network stays. A
    checkpoint off the schedule, written when a run was interrupted, is deleted as soon as there is
    a newer one; the folder then ends up as that of a run that was never interrupted.
    """
    paths = listed(folder)
    scheduled = [
        path
        for path in paths
        if path == paths[-1] or (period and (step_of(path) or 0) % period == 0)
    ]
    whole = {*scheduled[-keep:], pointed(folder, "latest")}
    networks = {pointed(folder, "best"), also}
    for path in paths:
        if path in whole:
            continue
        if path in networks:
            with contextlib.suppress(DataError):  # a damaged file is left to its reader
                slim(path)
        else:
            path.unlink()
