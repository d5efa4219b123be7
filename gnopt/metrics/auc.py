"""Area under the ROC curve: the probability that a data point of a class gets a higher score for it
than one of another class, ties counted half (Mann & Whitney 1947).
"""

import numpy as np

from gnopt.engine.predictions import Classes
from gnopt.metrics import Accumulator, Metric, Score, number, numbers
from gnopt.metrics.tallies import true_labels

# Numbers that are kept, at most (800 MB): ranks need the scores of all data points.
MOST = 10**8


class AUC(Metric[Classes]):
    """Of class 1 where there are two; else the mean over classes, each against the rest.

    A class without data points, or with all of them, is left out. The score of a class is the
    logarithm of its odds, log p − log (1 − p), which tells apart what p rounds to 1.
    """

    name = "auc"
    summary = "area under the ROC curve, by ranks; of many classes the mean, each against the rest"
    other_names = ("roc_auc", "roc_auc_score", "auroc")
    kind = Classes
    higher = True

    def start(self) -> Accumulator[Classes]:
        return _Scores()


class _Scores(Accumulator[Classes]):
    """The scores of all rows so far, or none once there are more than ``MOST``."""

    def __init__(self) -> None:
        self._scores: list[np.ndarray] = []  # (N, 1) for two classes, else (N, C)
        self._labels: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._kept, self._full = 0, False

    def add(self, prediction: Classes, truth: np.ndarray, weight: np.ndarray) -> None:
        scores = log_odds(prediction)
        self._kept += scores.size
        self._full = self._full or self._kept > MOST
        if self._full:
            self._scores.clear()
            return
        self._scores.append(scores)
        self._labels.append(true_labels(truth))
        self._weights.append(weight)

    def result(self) -> Score:
        if not self._scores:
            return Score()
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        weights = np.concatenate(self._weights)
        if scores.shape[1] == 1:
            return Score(number(area(scores[:, 0], labels == 1, weights)))
        areas = np.array([area(column, labels == c, weights) for c, column in enumerate(scores.T)])
        defined = areas[~np.isnan(areas)]
        return Score(float(defined.mean()) if len(defined) else None, numbers(areas))


def log_odds(prediction: Classes) -> np.ndarray:
    """Return log p_c − log Σ_{j≠c} p_j: of class 1 of two, (N, 1), else of each class, (N, C).

    Sums before and after column c are added, because 1 − p_c would round.
    """
    log_p = prediction.log_probabilities
    if log_p.shape[1] == 2:
        two: np.ndarray = log_p[:, 1:] - log_p[:, :1]
        return two
    p = prediction.probabilities
    rest = np.zeros_like(p)
    rest[:, 1:] += p[:, :-1].cumsum(axis=1)
    rest[:, :-1] += p[:, :0:-1].cumsum(axis=1)[:, ::-1]
    with np.errstate(divide="ignore"):
        odds: np.ndarray = log_p - np.log(rest)
    return odds


def area(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """Return the area for scores (N,), with rows for which ``positive``; NaN without either kind.

    Pairs of a positive and a negative row count by the product of their weights.
    """
    values, group = np.unique(scores, return_inverse=True)
    up = np.bincount(group, weights * positive, len(values))
    down = np.bincount(group, weights * ~positive, len(values))
    pairs = up.sum() * down.sum()
    below = down.cumsum() - 0.5 * down
    return float(up @ below / pairs) if pairs > 0.0 else np.nan


METRIC = AUC()
