"""Which of the training rows a run sees: all of them, those outside a fold, or a bootstrap sample.

A selection is drawn by a seed of its own, so that the folds of several runs fit together: the runs
"fold 1/5" to "fold 5/5" of one ``data.rows_seed`` hold out every row once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from gnopt.errors import ConfigError
from gnopt.rng import generator

FORMS = '"all", "bootstrap" or "fold I/N" with 1 <= I <= N and N >= 2'


@dataclass(frozen=True)
class Chosen:
    """Numbers of the rows, ascending: to train on, (n,), and to validate on if there are such."""

    train: np.ndarray
    validation: np.ndarray | None = None


class Selection(Protocol):
    """A choice of some of the training rows."""

    validates: ClassVar[bool]  # choose the validation rows, too, in place of data.validation

    def choose(
        self, rows: int, labels: np.ndarray | None, seed: int, groups: np.ndarray | None = None
    ) -> Chosen:
        """Choose among rows 0 .. ``rows`` − 1.

        ``labels`` (rows,) are the targets of the rows, where these are whole numbers. Rows of one
        of the ``groups`` (rows,) stay together. Raises ConfigError where there are too few rows.
        """


class Bootstrap:
    """As many rows as there are, drawn with replacement (Efron 1979)."""

    validates: ClassVar[bool] = False

    def choose(
        self, rows: int, labels: np.ndarray | None, seed: int, groups: np.ndarray | None = None
    ) -> Chosen:
        """Draw rows, or, where there are groups, as many groups with all their rows."""
        if groups is not None:
            members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
            drawn = generator(seed, "bootstrap").integers(0, len(members), len(members))
            return Chosen(np.sort(np.concatenate([members[k] for k in drawn])))
        return Chosen(np.sort(generator(seed, "bootstrap").integers(0, rows, rows)))


@dataclass(frozen=True)
class Fold:
    """The rows outside the ``number``-th of ``of`` folds; those in it are for validation.

    Folds are equally large up to one row. Each holds the same number of rows of every class, up to
    one, where the targets are whole numbers.

    >>> folds = [Fold(i, 3).choose(7, None, seed=0) for i in (1, 2, 3)]
    >>> sorted(int(row) for fold in folds for row in fold.validation)
    [0, 1, 2, 3, 4, 5, 6]
    >>> [len(fold.train) for fold in folds]
    [4, 5, 5]
    """

    number: int
    of: int

    validates: ClassVar[bool] = True

    def choose(
        self, rows: int, labels: np.ndarray | None, seed: int, groups: np.ndarray | None = None
    ) -> Chosen:
        if groups is not None:
            return self._whole_groups(groups, seed)
        if rows < self.of:
            raise ConfigError(f"{self.of} folds of {rows:,} rows: expected a row or more in each")
        dealt = generator(seed, "folds").permutation(rows)
        if labels is not None:
            dealt = dealt[np.argsort(labels[dealt], kind="stable")]
        held = np.zeros(rows, dtype=bool)
        held[dealt[self.number - 1 :: self.of]] = True
        return Chosen(np.flatnonzero(~held), np.flatnonzero(held))

    def _whole_groups(self, groups: np.ndarray, seed: int) -> Chosen:
        """Deal the groups, the largest first, each to the fold with the fewest rows so far."""
        _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(sizes) < self.of:
            raise ConfigError(f"{self.of} folds of {len(sizes)} groups: expected a group in each")
        order = generator(seed, "folds").permutation(len(sizes))
        order = order[np.argsort(-sizes[order], kind="stable")]
        rows, fold = np.zeros(self.of), np.empty(len(sizes), dtype=int)
        for group in order:
            fold[group] = int(rows.argmin())
            rows[fold[group]] += sizes[group]
        held = (fold == self.number - 1)[number]
        return Chosen(np.flatnonzero(~held), np.flatnonzero(held))


def read_selection(text: str) -> Selection | None:
    """Return the selection that ``data.rows`` names, None for all rows; ConfigError for any other
    text.
    """
    words = text.split()
    if words == ["all"]:
        return None
    if words == ["bootstrap"]:
        return Bootstrap()
    number, _, of = words[1].partition("/") if len(words) == 2 else ("", "", "")
    if words[:1] == ["fold"] and number.isdecimal() and of.isdecimal():
        fold = Fold(int(number), int(of))
        if fold.of >= 2 and 1 <= fold.number <= fold.of:
            return fold
    raise ConfigError(f"{text!r}: expected {FORMS}")
