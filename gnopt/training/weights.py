"""How much each row counts: by the weights in the data, and by class weights.

Both multiply in the objective, wherever an objective is computed: in training and in evaluations of
training, validation and test rows, which can so be compared with each other. In errors and metrics,
rows count by the weights in the data alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnopt.config import Config
from gnopt.data.source import Data
from gnopt.engine.arrays import get_backend
from gnopt.engine.losses import Loss
from gnopt.engine.predictions import Classes, Prediction
from gnopt.engine.weighted import Weighted, labels_of
from gnopt.errors import ConfigError, DataError
from gnopt.settings import TrainingSettings
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.evaluate import CHUNK
from gnopt.weighting import WeightedTargets

KEY = "training.class_weights"
SHOWN = 10  # class weights in a note, at most


@dataclass(frozen=True)
class Weighting:
    """The loss that counts rows by their weights, and what a user should know of the weights.

    ``classes`` holds the weight of each class, (C,), or is None.
    """

    loss: Loss
    classes: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def listed(self) -> list[float] | None:
        """The class weights for JSON."""
        return None if self.classes is None else self.classes.tolist()


def weighted_loss(loss: Loss, config: Config, stored: StoredNetwork) -> Loss:
    """Return the loss that counts rows as the run of a stored network does.

    It is ``loss`` itself where all rows count the same. Weights are not in units of their mean,
    because evaluations divide by their sum.
    """
    if not config.data.weights and stored.class_weights is None:
        return loss
    return Weighted(loss, config.training.dtype, stored.class_weights)


def weigh(loss: Loss, data: Data, settings: TrainingSettings) -> Weighting:
    """Return the weighting of a run, with weights in units of their mean over the training rows.

    Class weights take one pass over the targets. Raises ConfigError and DataError where
    ``training.class_weights`` does not fit the targets.
    """
    notes = _zero_notes(data)
    own, rows = data.train.weights, data.train.rows
    if settings.class_weights == "none":
        if own is None:
            return Weighting(loss)
        scale = rows / float(own.sum())
        return Weighting(Weighted(loss, settings.dtype, None, scale), None, notes)
    counts = _class_counts(loss, data, settings.dtype)
    if settings.class_weights == "balanced":
        classes, how = balanced(counts), " (balanced)"
    else:
        classes, how = np.array(settings.class_weights, dtype=np.float64), ""
        if len(classes) != len(counts):
            raise ConfigError(
                f"{KEY} has {len(classes)} numbers; expected {len(counts)}, one for each class of "
                f"{data.fingerprint.file}"
            )
    scale = rows / float(counts @ classes)
    shown = ", ".join(f"{weight:.3g}" for weight in classes[:SHOWN])
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    notes = (f"class weights{how}: {shown}{more}", *notes)
    return Weighting(Weighted(loss, settings.dtype, classes, scale), classes, notes)


def balanced(counts: np.ndarray) -> np.ndarray:
    """Return N / (C n_c) of each class by the rows n_c that it has, (C,), as scikit-learn does.

    N are all rows and C the classes that have some; a class without rows gets 1.

    >>> balanced(np.array([90.0, 0.0, 10.0]))
    array([0.55555556, 1.        , 5.        ])
    """
    present = counts > 0.0
    share = counts.sum() / max(int(present.sum()), 1)
    return np.where(present, share / np.where(present, counts, 1.0), 1.0)


def _class_counts(loss: Loss, data: Data, dtype: str) -> np.ndarray:
    """Return how many training rows each class has, (C,); each row counts by its own weight."""
    counts, outputs = np.zeros(0), 0
    if data.largest_label is not None:
        outputs = loss.outputs(loss.convert_targets(np.array([data.largest_label])))
    for y in data.train.targets(CHUNK):
        given = WeightedTargets.of(y, dtype)
        targets = loss.convert_targets(given.values)
        outputs = max(outputs, loss.outputs(targets))
        labels = labels_of(loss, targets) if _is_classes(loss.predicts(outputs)) else None
        if labels is None:
            raise DataError(
                f"{data.fingerprint.file}: {KEY}: loss {loss.name} with these targets: found "
                "targets that are not of one class each; expected labels"
            )
        part = np.bincount(labels, given.own.astype(np.float64), len(counts))
        counts = np.pad(counts, (0, len(part) - len(counts))) + part
    classes = _classes(loss, outputs)
    return np.pad(counts, (0, classes - len(counts)))


def _classes(loss: Loss, outputs: int) -> int:
    """Return how many classes so many outputs tell apart."""
    prediction = loss.predicted(get_backend("cpu"), np.zeros((1, outputs)))
    assert isinstance(prediction, Classes)
    return int(prediction.log_probabilities.shape[1])


def _is_classes(kind: type[Prediction]) -> bool:
    return issubclass(kind, Classes)


def _zero_notes(data: Data) -> tuple[str, ...]:
    """Return a line on rows of weight 0, if there are any."""
    splits = [split for split in (data.train, data.validation, data.test) if split is not None]
    zeros = [
        (int((split.weights == 0.0).sum()), split.name)
        for split in splits
        if split.weights is not None
    ]
    found = [f"{count:,} of {name}" for count, name in zeros if count]
    return (f"rows with weight 0: {', '.join(found)} do not count",) if found else ()
