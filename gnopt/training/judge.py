"""What the networks of a run are compared by: the objective, or a metric (``training.judge``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from gnopt.metrics import AnyMetric, get_metric
from gnopt.settings import OBJECTIVE
from gnopt.training.evaluate import Evaluation

_LOSS = "loss"  # the objective, in the names of columns
_ROWS = {"train": "training", "validation": "validation"}


@dataclass(frozen=True)
class Judged:
    """How good a network is: a column of eval.csv, such as "validation_loss" or "train_accuracy",
    and its number; None if the rows do not define it.
    """

    column: str
    value: float | None

    @property
    def cost(self) -> float:
        """A number that is the lower the better the network is; infinite where it is not known."""
        if self.value is None or self.value != self.value:
            return inf
        return self.value if self._metric is None else self._metric.cost(self.value)

    @property
    def quantity(self) -> str:
        """What is compared, on which rows: "validation loss", "training accuracy"."""
        rows, _, what = self.column.partition("_")
        if what == _LOSS and rows == "train":
            return "training objective"
        return f"{_ROWS[rows]} {what}"

    def words(self) -> str:
        """Return the quantity and its value as that of the best network."""
        best = "lowest" if self._metric is None else self._metric.best
        value = "not defined" if self.value is None else f"{self.value:.6g}"
        return f"{best} {self.quantity} {value}"

    @property
    def _metric(self) -> AnyMetric | None:
        name = self.column.partition("_")[2]
        return None if name == _LOSS else get_metric(name)


@dataclass(frozen=True)
class Judge:
    """The quantity that decides, by its name in the configuration."""

    name: str = OBJECTIVE

    def judged(self, rows: str, evaluation: Evaluation) -> Judged:
        """Return how good the evaluated network is; ``rows`` is "train" or "validation"."""
        if self.name == OBJECTIVE:
            return Judged(f"{rows}_{_LOSS}", evaluation.loss)
        return Judged(f"{rows}_{self.name}", evaluation.scores[self.name].value)
