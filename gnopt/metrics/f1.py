"""F1 of a class: 2 precision · recall / (precision + recall) = 2 both / (true + predicted)."""

import numpy as np

from gnopt.metrics import Score, number, numbers
from gnopt.metrics.tallies import TallyMetric


class F1(TallyMetric):
    """The mean over the classes that are true or predicted somewhere (macro); parts by class."""

    name = "f1"
    summary = "mean over classes of the harmonic mean of precision and recall (macro)"
    other_names = ("f1_score", "f1_macro", "macro_f1")
    higher = True

    def score(self, true: np.ndarray, predicted: np.ndarray, both: np.ndarray) -> Score:
        met = true + predicted > 0.0
        f1 = np.where(met, 2.0 * both / np.where(met, true + predicted, 1.0), np.nan)
        return Score(number(np.nanmean(f1)), numbers(f1))


METRIC = F1()
