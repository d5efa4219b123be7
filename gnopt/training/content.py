"""What ``gnopt export`` writes: networks, and what a reader of the written file wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnopt.data.table.encoding import Encoding
from gnopt.engine.arrays import get_backend
from gnopt.engine.losses import Loss, get_loss
from gnopt.engine.predictions import Classes
from gnopt.errors import GnoptError
from gnopt.training.checkpoint import StoredNetwork

ALONE = 0  # the number of a network that is no member of an ensemble


@dataclass(frozen=True)
class Content:
    """One network, or the networks of an ensemble, whose predictions are averaged.

    Networks have the number of their member; a single network has the number ``ALONE``.
    """

    title: str  # the networks and where they come from, in a line
    networks: Mapping[int, StoredNetwork]

    @property
    def ensemble(self) -> bool:
        """Whether the networks are members of an ensemble, which may be a single one."""
        return ALONE not in self.networks

    @property
    def first(self) -> StoredNetwork:
        """Any network: loss, type, number of inputs and of outputs are the same for all."""
        return next(iter(self.networks.values()))

    @cached_property
    def loss(self) -> Loss:
        """The loss, whose prediction turns the outputs h of a network into a mean."""
        return get_loss(self.first.loss)

    @property
    def dtype(self) -> np.dtype:
        """Type of the weights."""
        return self.first.weights[0].dtype

    @property
    def inputs(self) -> int:
        """D, the numbers that a network takes."""
        return self.first.sizes[0]

    @property
    def encoding(self) -> Encoding | None:
        """How the columns of a table become these numbers, if the data were a table.

        Raises GnoptError if the networks of an ensemble disagree.
        """
        encoding = self.first.encoding
        if any(one.encoding != encoding for one in self.networks.values()):
            raise GnoptError(
                "the members were trained on tables with other columns: export each by --member N"
            )
        return encoding

    @cached_property
    def outputs(self) -> int:
        """K, the numbers of a prediction; the loss may make fewer of them than there are h."""
        h = np.zeros((1, self.first.sizes[-1]), self.dtype)
        return int(self.loss.prediction(get_backend("cpu"), h).shape[1])

    @property
    def noise(self) -> np.ndarray | None:
        """The mean variance of the targets about the predictions, (K,), if every network knows its
        own.
        """
        known = [one.noise.variance for one in self.networks.values() if one.noise is not None]
        return np.mean(known, axis=0) if len(known) == len(self.networks) else None

    @property
    def has_deviation(self) -> bool:
        """Whether a standard deviation of the prediction is known: that of the networks about their
        mean, with the noise (law of total variance).
        """
        return self.ensemble or self.noise is not None

    @property
    def class_count(self) -> int:
        """C, the number of classes that are told apart; 0 where numbers are predicted.

        A single probability is that of the second one of two classes.
        """
        if not issubclass(self.loss.predicts(self.first.sizes[-1]), Classes):
            return 0
        return max(self.outputs, 2)

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes as far as they are known, else their numbers from 0."""
        return self._names(self.class_count) or [str(number) for number in range(self.class_count)]

    @property
    def output_names(self) -> Sequence[str]:
        """The names of the numbers that are predicted; empty if they have none, and for classes."""
        return () if self.class_count else self._names(self.outputs)

    def _names(self, count: int) -> Sequence[str]:
        known = self.first.classes
        return known.names if known is not None and len(known.names) == count else ()
