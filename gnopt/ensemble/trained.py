"""The trained members of an ensemble, used as one: what `gnopt.training.load.Trained` asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gnopt.config import Config
from gnopt.data.classes import LabelRule
from gnopt.data.options import DataSettings
from gnopt.data.source import Data, has_validation_group, open_data
from gnopt.data.split import Split
from gnopt.engine.arrays import Backend
from gnopt.engine.losses import Loss
from gnopt.engine.predictions import Prediction
from gnopt.ensemble.scores import FoldScores, MemberScores, score_folds, score_members
from gnopt.errors import ConfigError
from gnopt.metrics import AnyMetric
from gnopt.training.constant import ConstantLoss
from gnopt.training.evaluate import Answer
from gnopt.training.layers import choose_layer
from gnopt.training.load import TrainedNetwork, check_inputs
from gnopt.training.origin import check_own_data


@dataclass
class TrainedEnsemble:
    """The networks of an ensemble, whose prediction is the mean of theirs.

    Each sees inputs standardised as those of its own training rows. Methods are those of
    `gnopt.training.load.Trained`.
    """

    config: Config
    run: Path
    members: list[int]  # their numbers
    networks: list[TrainedNetwork]
    left_out: list[str]  # a line on members that are not trained, if there are any

    @property
    def loss(self) -> Loss:
        return self.networks[0].loss

    @property
    def ops(self) -> Backend:
        return self.networks[0].ops

    @property
    def outputs(self) -> int:
        return self.networks[0].outputs

    @property
    def noise_is_known(self) -> bool:
        return all(network.noise_is_known for network in self.networks)

    @property
    def output_names(self) -> Sequence[str]:
        return self.networks[0].output_names

    def open_data(self, new: DataSettings | None = None) -> Data:
        """Open the data, or all rows of a ``new`` file, with inputs as they are; `seen_by`
        standardises them for a member.

        With folds data.validation holds out no rows: every row is in a fold.
        """
        settings, training = new or self.config.data, self.config.training
        if new is None and training.folds and not has_validation_group(settings):
            settings = settings.changed(validation=0)
        settings = settings.changed(standardize=False)
        data = open_data(
            settings,
            seed=training.seed,
            dtype=training.dtype,
            labels=LabelRule.of(self.loss),
            classes=self.networks[0].stored.classes,
            encoding=self.networks[0].stored.encoding,
            new=new is not None,
        )
        check_inputs(data, self.networks[0].net, settings)
        if new is None:
            check_own_data(self.run, data)
        return data

    def seen_by(self, split: Split) -> list[Split]:
        """Return the split as each network sees it."""
        return [split.standardized(network.stored.statistics) for network in self.networks]

    def constant_loss(self, split: Split) -> ConstantLoss | None:
        return self.networks[0].constant_loss(self.seen_by(split)[0])

    def answers(self, split: Split, limit: int = 0) -> Iterator[Answer]:
        """Yield the outputs that predict the mean, and the average of the predictions."""
        dtype = self.networks[0].net.dtype
        for answers in self._together(split, limit):
            h = self.loss.mixture(self.ops, [answer.h.astype(np.float64) for answer in answers])
            yield Answer(h.astype(dtype), answers[0].y, partial(_average, answers))

    def _together(self, split: Split, limit: int = 0) -> Iterator[tuple[Answer, ...]]:
        seen = zip(self.networks, self.seen_by(split), strict=True)
        return zip(*(network.answers(part, limit) for network, part in seen), strict=True)

    def layer(self, name: str) -> Callable[[Split], Iterator[dict[str, np.ndarray]]]:
        """Return a function that yields the mean ``x`` and the deviation ``std`` of each row.

        The deviation is that of the prediction with its noise where the members predict normal
        numbers whose noise is known (law of total variance), and else that of the members about
        their mean. Raises ConfigError for a hidden layer: units of different networks have no mean.
        """
        net = self.networks[0].net
        number = choose_layer(net, name)
        if number not in (0, net.layers):
            raise ConfigError(
                f"--layer {name}: hidden units of different networks have no mean; expected output "
                f"or logits, or one network: --member N"
            )
        return partial(self._mean_and_deviation, number == 0)

    def _mean_and_deviation(
        self, predictions: bool, split: Split
    ) -> Iterator[dict[str, np.ndarray]]:
        loss, ops, dtype = self.loss, self.ops, self.networks[0].net.dtype
        for answers in self._together(split):
            outputs = [loss.prediction(ops, a.h) if predictions else a.h for a in answers]
            values = np.array([ops.to_host(output) for output in outputs], dtype=np.float64)
            deviation = _average(answers).deviation() if predictions else None
            if deviation is None:
                deviation = values.std(axis=0)
            yield {"x": values.mean(axis=0).astype(dtype), "std": deviation.astype(dtype)}

    def jacobian(self, name: str) -> Callable[[Split], Iterator[np.ndarray]]:
        """Return a function that yields the mean of the members' derivatives.

        Each member's are by the inputs as they are in the data, which its own mean and deviation
        standardised.
        """
        functions = [network.jacobian(name) for network in self.networks]
        dtype = self.networks[0].net.dtype

        def mean(split: Split) -> Iterator[np.ndarray]:
            seen = zip(functions, self.seen_by(split), strict=True)
            for members in zip(*(function(part) for function, part in seen), strict=True):
                yield np.mean(members, axis=0, dtype=np.float64).astype(dtype)

        return mean

    def asides(
        self, splits: Mapping[str, Split], metrics: Sequence[AnyMetric], folds: bool
    ) -> Sequence[MemberScores | FoldScores]:
        """Return what each member scores on the splits and, with ``folds``, on its own fold."""
        found: list[MemberScores | FoldScores] = [
            score_members(self.networks, {name: self.seen_by(s) for name, s in splits.items()})
        ]
        if folds and self.config.training.folds:
            found.append(score_folds(self.networks, metrics))
        return found

    def title(self) -> str:
        return f"{self.run}, ensemble of {len(self.networks)} members"

    def origin(self) -> dict[str, object]:
        return {"ensemble": str(self.run), "members": self.members}

    def facts(self) -> dict[str, object]:
        members = zip(self.members, self.networks, strict=True)
        return {
            "ensemble": str(self.run),
            "members": [{"member": number, **network.facts()} for number, network in members],
        }

    def told(self) -> list[str]:
        return told([network.stored.step for network in self.networks], self.left_out)

    def shortcomings(self) -> list[str]:
        return [
            f"member {number}: {line}"
            for number, network in zip(self.members, self.networks, strict=True)
            for line in network.shortcomings()
        ]


def told(steps: Sequence[int], left_out: Sequence[str]) -> list[str]:
    """Return lines on what is handed out of an ensemble."""
    return [f"{len(steps)} members, at steps {', '.join(map(str, steps))}", *left_out]


def _average(answers: Sequence[Answer]) -> Prediction:
    predictions = [answer.predicted() for answer in answers]
    return type(predictions[0]).average(predictions)
