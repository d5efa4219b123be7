"""What the networks of a run are compared by: the objective, or a metric (``training.judge``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from gnopt.metrics import AnyMetric, get_metric
from gnopt.settings import OBJECTIVE
from gnopt.training.evaluate import Evaluation

EVIDENCE = "log_evidence"  # the column of a network that the evidence judges
_LOSS = "loss"  # the objective, in the names of columns
Rank = tuple[float, float]
_ROWS = {"train": "training", "validation": "validation"}


@dataclass(frozen=True)
class Judged:
    """How good a network is: a column of eval.csv, such as "validation_loss" or "train_accuracy",
    its number, None if the rows do not define it, and the loss on the same rows.
    """

    column: str
    value: float | None
    loss: float

    @property
    def rank(self) -> Rank:
        """The order of networks: a better one has a lower rank; of equals, that of lower loss."""
        return self.cost, self.loss

    @classmethod
    def by_evidence(cls, log_evidence: float, loss: float) -> Judged:
        """Judge a network by its log evidence (nats a row), −∞ while that is not known, and by its
        training objective.
        """
        return cls(EVIDENCE, log_evidence, loss)

    @property
    def cost(self) -> float:
        """A number that is the lower the better the network is; infinite where it is not known."""
        if self.value is None or self.value != self.value:
            return inf
        if self.column == EVIDENCE:
            return -self.value
        return self.value if self._metric is None else self._metric.cost(self.value)

    @property
    def quantity(self) -> str:
        """What is compared, on which rows: "validation loss", "training accuracy"."""
        if self.column == EVIDENCE:
            return "log evidence"
        what = self.column.partition("_")[2]
        if what == _LOSS and self._rows == "train":
            return "training objective"
        return f"{_ROWS[self._rows]} {what}"

    def words(self) -> str:
        """Return the quantity and its value as that of the best network."""
        if self.value is None:
            loss = Judged(f"{self._rows}_{_LOSS}", self.loss, self.loss)
            return f"{loss.words()}; {self.quantity} is not defined"
        best = "lowest" if self._metric is None else self._metric.best
        best = "highest" if self.column == EVIDENCE else best
        return f"{best} {self.quantity} {self.value:.6g}"

    @staticmethod
    def loss_column(column: str) -> str:
        """Return the column of the loss on the rows that this one is about."""
        rows = "train" if column == EVIDENCE else column.partition("_")[0]
        return f"{rows}_{_LOSS}"

    @property
    def _rows(self) -> str:
        return self.loss_column(self.column).partition("_")[0]

    @property
    def _metric(self) -> AnyMetric | None:
        name = self.column.partition("_")[2]
        return None if name == _LOSS or self.column == EVIDENCE else get_metric(name)


@dataclass(frozen=True)
class Judge:
    """The quantity that decides, by its name in the configuration."""

    name: str = OBJECTIVE

    @property
    def by_objective(self) -> bool:
        """Whether the objective decides, and not a metric."""
        return self.name == OBJECTIVE

    def judged(self, rows: str, evaluation: Evaluation) -> Judged:
        """Return how good the evaluated network is; ``rows`` is "train" or "validation"."""
        if self.name == OBJECTIVE:
            return Judged(f"{rows}_{_LOSS}", evaluation.loss, evaluation.loss)
        value = evaluation.scores[self.name].value
        return Judged(f"{rows}_{self.name}", value, evaluation.loss)
