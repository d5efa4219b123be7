"""The scores of an ensemble that has just been trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gnopt.ensemble.scores import FoldScores, MemberScores, score_folds, score_members
from gnopt.ensemble.trained import TrainedEnsemble
from gnopt.training.evaluate import Evaluation, evaluate_predictor


@dataclass(frozen=True)
class EnsembleScores:
    """The ensemble on training and validation rows beside its members, and the score of its folds.

    The training rows are as many as evaluations at the end of a run use.
    """

    evaluations: Mapping[str, Evaluation]  # by name of the split
    members: MemberScores
    folds: FoldScores | None

    def facts(self) -> dict[str, object]:
        """Return fields for JSON."""
        found: dict[str, object] = {
            name: {
                "rows": evaluation.rows,
                "objective": evaluation.loss,
                "error": evaluation.error,
                "member_objectives": list(self.members.objectives[name]),
            }
            for name, evaluation in self.evaluations.items()
        }
        return {**found, "folds": self.folds.facts_of("objective") if self.folds else None}

    def rows(self) -> list[tuple[str, str]]:
        """Return a cell with the name, and one with the score, for each score."""
        names = {"train": "objective", "validation": "validation"}
        rows = [
            (
                names[name],
                f"{evaluation.loss:.6g} on {evaluation.rows} {name} rows; one member "
                f"{np.mean(self.members.objectives[name]):.6g}",
            )
            for name, evaluation in self.evaluations.items()
        ]
        if self.folds is not None:
            rows.append(
                (
                    "unseen folds",
                    f"{self.folds.mean('objective'):.6g} by one member, standard error "
                    f"{self.folds.standard_error('objective'):.2g}",
                )
            )
        return rows


def score_ensemble(ensemble: TrainedEnsemble) -> EnsembleScores:
    """Evaluate the ensemble and each of its members on the rows of the run."""
    limit = ensemble.config.training.evaluate_rows
    with ensemble.open_data() as data:
        splits = {"train": (data.train, limit)}
        if data.validation is not None:
            splits["validation"] = data.validation, 0
        evaluations: dict[str, Evaluation] = {}
        objectives: dict[str, Sequence[float]] = {}
        for name, (split, rows) in splits.items():
            evaluations[name] = evaluate_predictor(ensemble, split, rows)
            seen = {name: ensemble.seen_by(split)}
            objectives.update(score_members(ensemble.networks, seen, rows).objectives)
    folds = score_folds(ensemble.networks, []) if ensemble.config.training.folds else None
    return EnsembleScores(evaluations, MemberScores(objectives), folds)
