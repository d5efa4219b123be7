"""What each member of an ensemble scores, and the score of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt

import numpy as np

from gnopt.data.split import Split
from gnopt.metrics import AnyMetric
from gnopt.training.evaluate import Evaluation, evaluate_predictor
from gnopt.training.load import TrainedNetwork


@dataclass(frozen=True)
class MemberScores:
    """The objective of every member on each split."""

    objectives: Mapping[str, Sequence[float]]  # by name of the split

    def facts(self) -> dict[str, object]:
        """Return fields for JSON."""
        return {"member_objectives": {name: list(v) for name, v in self.objectives.items()}}

    def lines(self) -> Iterator[str]:
        """Yield a table: mean, lowest and highest objective of the members."""
        yield f"{'one member':<18}{'mean objective':>16}{'lowest':>14}{'highest':>14}"
        for name, values in self.objectives.items():
            yield f"{name:<18}{np.mean(values):>16.8g}{min(values):>14.6g}{max(values):>14.6g}"


@dataclass(frozen=True)
class FoldScores:
    """The scores of every member on the fold that it did not see, by name: the objective, the
    error and the metrics.
    """

    values: Mapping[str, Sequence[float]]

    def mean(self, name: str) -> float:
        """Return the mean over the folds."""
        return float(np.mean(self.values[name]))

    def standard_error(self, name: str) -> float:
        """Return the standard error of the mean; NaN where a single fold is left."""
        values = self.values[name]
        return float(np.std(values, ddof=1)) / sqrt(len(values)) if len(values) > 1 else nan

    def facts(self) -> dict[str, object]:
        """Return fields for JSON."""
        return {"folds": {name: self.facts_of(name) for name in self.values}}

    def facts_of(self, name: str) -> dict[str, object]:
        """Return one score as fields for JSON."""
        error = self.standard_error(name)
        return {
            "mean": self.mean(name),
            "standard_error": None if isnan(error) else error,
            "values": list(self.values[name]),
        }

    def lines(self) -> Iterator[str]:
        """Yield a table: mean over the folds and its standard error."""
        folds = len(self.values["objective"])
        yield f"{f'{folds} folds, unseen':<24}{'mean':>14}{'standard error':>18}"
        for name in self.values:
            yield f"{name:<24}{self.mean(name):>14.6g}{self.standard_error(name):>18.3g}"


def score_members(
    networks: Sequence[TrainedNetwork], splits: Mapping[str, Sequence[Split]], limit: int = 0
) -> MemberScores:
    """Evaluate every network on ``splits``, each as the networks see it.

    ``limit`` is the number of rows to use, 0 for all.
    """
    return MemberScores(
        {
            name: [
                evaluate_predictor(network, split, limit).loss
                for network, split in zip(networks, seen, strict=True)
            ]
            for name, seen in splits.items()
        }
    )


def score_folds(networks: Sequence[TrainedNetwork], metrics: Sequence[AnyMetric]) -> FoldScores:
    """Evaluate every network on its validation rows, the fold that it did not see."""
    found = [_on_fold(network, metrics) for network in networks]
    values = {
        "objective": [evaluation.loss for evaluation in found],
        "error": [evaluation.error for evaluation in found],
    }
    for metric in metrics:
        scores = [evaluation.scores[metric.name].value for evaluation in found]
        known = [score for score in scores if score is not None]
        if len(known) == len(scores):
            values[metric.name] = known
    return FoldScores(values)


def _on_fold(network: TrainedNetwork, metrics: Sequence[AnyMetric]) -> Evaluation:
    with network.open_data() as data:
        assert data.validation is not None
        return evaluate_predictor(network, data.validation, metrics=metrics)
