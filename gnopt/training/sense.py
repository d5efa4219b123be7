"""Doubts about data and loss that look like mistakes: each names what is odd, and the cure.

`doubts` are told before training starts; `explained` completes the error of targets that the loss
does not take.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gnopt.config import Config
from gnopt.data.source import Data
from gnopt.data.split import Split
from gnopt.deciding import USUAL_TARGETS
from gnopt.engine.losses import Loss, loss_for
from gnopt.errors import DataError
from gnopt.training.evaluate import CHUNK

MOST_CLASSES = 20  # whole numbers that differ more often are amounts
MOST_ROWS = 1_000_000  # of which targets are looked at


def check(config: Config, data: Data, loss: Loss) -> None:
    """Raise DataError for words as the targets of a loss of numbers."""
    words = data.encoding.classes if data.encoding is not None else ()
    if words and not loss.most_classes and not data.train.autoencoder:
        raise DataError(
            f"{config.data.file}: the target {config.data.targets!r} holds words, such as "
            f"{', '.join(words[:3])}; loss {loss.name} takes numbers ({loss_for('classes').name} "
            "takes words)"
        )


def explained(error: DataError, data: Data, loss: Loss) -> DataError:
    """Return the error of targets that the loss does not take, with what may be meant."""
    if data.train.autoencoder:
        found = _other_targets(data)
        meant = f", such as {' or '.join(found)}" if found else ""
        return DataError(
            f"{error}; data.targets is not set, so that the inputs are the targets: is another "
            f"dataset or column meant{meant}?"
        )
    return DataError(
        f"{error}; loss {loss_for('numbers').name} takes numbers of any size, and an attribute "
        "'scale' of the dataset rescales pixels"
    )


def doubts(config: Config, data: Data, loss: Loss) -> list[str]:
    """Return a line for each doubt."""
    if data.train.autoencoder:
        found = _other_targets(data)
        if not found or config.sources["data.targets"] != "default":
            return []
        return [
            "the inputs are the targets, as data.targets is not set: an autoencoder; to predict "
            f"{found[0]}: data.targets = {found[0]!r}".replace("'", '"')
        ]
    if data.train.rows > MOST_ROWS:
        return []
    y = _targets(data.train)
    if y is None:
        return []
    return [*_of_the_loss(y, loss, data.train.rows), *_of_the_split(y, data, loss)]


def _other_targets(data: Data) -> list[str]:
    """Return datasets beside the inputs that are called like targets, or table columns."""
    names = [name.removeprefix("train/") for name in data.fingerprint.datasets]
    if data.encoding is not None:
        names = list(data.encoding.table_columns)
    by_lower = {name.lower(): name for name in names}
    return [by_lower[name] for name in USUAL_TARGETS if name in by_lower and name != "x"]


def _targets(split: Split) -> np.ndarray | None:
    """Return the targets of a split without weights, (N,), None where rows have several."""
    parts = [getattr(y, "values", y) for y in split.targets(CHUNK)]
    y = np.concatenate([np.asarray(part) for part in parts])
    y = y.reshape(len(y), -1)
    return y[:, 0] if y.shape[1] == 1 else None


def _of_the_loss(y: np.ndarray, loss: Loss, rows: int) -> Iterator[str]:
    values = np.unique(y)
    whole = bool((values == np.rint(values)).all())
    few = whole and 2 <= len(values) <= MOST_CLASSES and rows >= 5 * len(values)
    dense = few and values[0] in (0, 1) and values[-1] - values[0] + 1 == len(values)
    if loss.suits == "numbers" and dense and len(values) <= 10:
        better = loss_for("two classes" if len(values) == 2 else "classes").name
        yield (
            f"the targets are {values[0]:g} to {values[-1]:g}, whole: if these are classes, "
            f'network.loss = "{better}"'
        )
    if loss.suits == "counts" and not whole:
        yield (
            f"loss {loss.name} is for counts, but the targets have fractions: for numbers, "
            f'network.loss = "{loss_for("numbers").name}"'
        )


def _of_the_split(y: np.ndarray, data: Data, loss: Loss) -> Iterator[str]:
    """Yield a line where training or validation rows lack classes that the others have."""
    if loss.most_classes <= 0 or y.dtype.kind not in "biu" or data.validation is None:
        return
    held = _targets(data.validation)
    if held is None:
        return
    train, validation = np.unique(y), np.unique(held)
    known = len(np.union1d(train, validation))
    if known > MOST_CLASSES:
        return
    for rows, found in (("training", train), ("validation", validation)):
        size = data.train.rows if rows == "training" else data.validation.rows
        if len(found) < known and size >= 2 * known:
            yield (
                f"the {rows} rows hold {len(found)} of {known} classes: is the file sorted? "
                'data.split = "random" holds out rows of each'
            )
