"""A network measured on training and validation rows, beside the best constant predictor there."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from gnopt.engine.arrays import Array
from gnopt.engine.predictions import Noise
from gnopt.training.constant import ConstantLoss, shortcomings
from gnopt.training.evaluate import Evaluation, evaluate
from gnopt.training.judge import Judge, Judged
from gnopt.training.setup import Experiment


@dataclass(frozen=True)
class Measured:
    """The evaluations of one network."""

    train: Evaluation
    validation: Evaluation | None
    judge: Judge
    # Loss of the best constant predictor on the same rows, where it is known.
    train_constant: ConstantLoss | None = None
    validation_constant: ConstantLoss | None = None
    log_evidence: float | None = None  # nats a row; −∞ where it is not known yet

    def losses(self) -> dict[str, float]:
        """Return the attributes of a checkpoint that say how good its weights are."""
        found = {"train_loss": self.train.loss}
        if self.validation:
            found["validation_loss"] = self.validation.loss
        if self.log_evidence is not None and isfinite(self.log_evidence):
            found["log_evidence"] = self.log_evidence
        for name, constant in self._constants():
            found |= {f"{name}_constant": constant.loss, f"{name}_floor": constant.floor}
        return found

    def scores(self) -> dict[str, float | None]:
        """Return the metrics as columns of eval.csv, such as "train_rmse" and "validation_rmse"."""
        validation = self.validation.scores if self.validation else {}
        columns: dict[str, float | None] = {}
        for name, score in self.train.scores.items():
            columns[f"train_{name}"] = score.value
            columns[f"validation_{name}"] = validation[name].value if validation else None
        return columns

    @property
    def noise(self) -> Noise | None:
        """The noise by the validation rows, or by the training rows where there are none."""
        return self.validation.noise if self.validation else self.train.noise

    @property
    def judged(self) -> Judged:
        """By what, and with which number, the network is compared with others of its run."""
        if self.validation:
            return self.judge.judged("validation", self.validation)
        if self.log_evidence is not None and self.judge.by_objective:
            return Judged.by_evidence(self.log_evidence, self.train.loss)
        return self.judge.judged("train", self.train)

    @property
    def tells_of_new_data(self) -> bool:
        """Whether `judged` says how good the network is on rows that it was not fitted to."""
        known = self.log_evidence is not None and isfinite(self.log_evidence)
        return self.validation is not None or (known and self.judge.by_objective)

    def _constants(self) -> list[tuple[str, ConstantLoss]]:
        pairs = ("train", self.train_constant), ("validation", self.validation_constant)
        return [(name, constant) for name, constant in pairs if constant is not None]

    def shortcomings(self) -> list[str]:
        """Return a line for the training and one for the validation rows on which the network is no
        better than a constant.
        """
        return shortcomings(self.losses())


class Measure:
    """Measures networks of one experiment; the losses of the best constant are found once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.judge = Judge(experiment.config.training.judge)
        self._constants: dict[tuple[str, int], ConstantLoss] = {}

    def __call__(self, theta: Array, limit: int) -> Measured:
        """Measure weights θ on at most so many training rows (0 = all) and all validation rows."""
        e = self.experiment
        validation = e.data.validation
        noise = self._noise(theta, limit)
        return Measured(
            evaluate(e.net, e.loss, theta, e.data.train, limit, e.metrics, noise),
            evaluate(e.net, e.loss, theta, validation, 0, e.metrics, noise) if validation else None,
            self.judge,
            self._constant_loss("train", limit),
            self._constant_loss("validation", 0) if validation else None,
        )

    def _noise(self, theta: Array, limit: int) -> Noise | None:
        """Return the noise that a metric needs before it is computed, or None if none does."""
        e = self.experiment
        if not any(metric.needs_noise for metric in e.metrics):
            return None
        split = e.data.validation
        rows = (split, 0) if split else (e.data.train, limit)
        return evaluate(e.net, e.loss, theta, *rows).noise

    def _constant_loss(self, rows: str, limit: int) -> ConstantLoss | None:
        """Return the loss of the best constant on the rows that an evaluation takes."""
        e, data = self.experiment, self.experiment.data
        split = data.train if rows == "train" else data.validation
        if self.experiment.constant is None or split is None:
            return None
        if (rows, limit) not in self._constants:
            self._constants[rows, limit] = self.experiment.constant.loss_on(
                e.loss, e.ops, split, limit
            )
        return self._constants[rows, limit]
