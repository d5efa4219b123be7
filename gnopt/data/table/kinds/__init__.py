"""The kinds of columns that become inputs: one module for each, found by `gnopt.registry`.

A kind looks at a column of the training table and returns how its cells become numbers, a record
that is stored with the network and applied to every table that the network sees later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

import numpy as np

from gnopt.registry import discover

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Findings:
    """What was met in the cells of one table, in words, each with how often."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, times: int = 1) -> None:
        """Count a thing that the user should know of."""
        if times:
            self.counts[what] += int(times)

    def lines(self) -> list[str]:
        """Return a line for each thing."""
        return [what.format(n=f"{times:,}") for what, times in self.counts.items()]


@dataclass(frozen=True, kw_only=True)
class InputColumn:
    """How the cells of one column become ``width`` numbers."""

    name: str  # of the column in the table

    kind: ClassVar[str]
    order: ClassVar[int]  # kinds are asked in this order; the last takes every column
    continuous: ClassVar[bool] = False  # cells are numbers, by which `slopes` differentiates

    @classmethod
    def learn(
        cls, series: pd.Series, decimal: str, notes: list[str], exact: bool = False
    ) -> Self | None:
        """Return how to encode the column, or None if it is not of this kind.

        ``notes`` takes a line for each decision that the user should know of. With ``exact``,
        numbers stay as they are.
        """
        raise NotImplementedError

    @property
    def features(self) -> list[str]:
        """The names of the numbers that the column becomes."""
        raise NotImplementedError

    def encode(self, series: pd.Series, decimal: str, findings: Findings) -> np.ndarray:
        """Return the column of a table as numbers, (N, width) float64."""
        raise NotImplementedError

    def slopes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the derivatives of the column's ``numbers`` by its cells, (N, width) float64, for
        a kind whose cells are ``continuous``.

        They are 0 at a cell that the numbers show to be missing.
        """
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return the record as plain values, for a file."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Measured(InputColumn):
    """A column of amounts: a missing cell becomes ``median``, and ``missing`` adds a number that is
    1 there and 0 elsewhere.
    """

    median: float
    missing: bool = False

    continuous = True

    @property
    def features(self) -> list[str]:
        return [self.name, f"{self.name} missing"] if self.missing else [self.name]

    def beside(self, x: np.ndarray, absent: np.ndarray) -> np.ndarray:
        """Return the numbers x (N,), with what tells the missing cells where that is wanted."""
        return np.stack([x, absent], axis=1) if self.missing else x[:, None]


def where_known(numbers: np.ndarray) -> np.ndarray:
    """Return the `InputColumn.slopes` of a number that stands as it is in the first column of
    ``numbers``: 1, or 0 where a second column tells that the cell is missing.
    """
    slopes = np.zeros(numbers.shape)
    slopes[:, 0] = 1.0 if numbers.shape[1] == 1 else numbers[:, 1] == 0.0
    return slopes


class Kind(Protocol):
    """What a module of this package defines as ``KIND``: the class of a record, with a name."""

    name: str
    column: type[InputColumn]


@dataclass(frozen=True)
class KindOf:
    """The class of the columns of one kind."""

    column: type[InputColumn]

    @property
    def name(self) -> str:
        return self.column.kind


def all_kinds() -> list[type[InputColumn]]:
    """Return the classes of all kinds in the order in which they are asked."""
    kinds = cast("dict[str, Kind]", discover(__name__, "KIND"))
    return sorted((kind.column for kind in kinds.values()), key=lambda column: column.order)


def column_of(facts: dict[str, Any]) -> InputColumn:
    """Return the record with these plain values; KeyError and TypeError for unknown ones."""
    kinds = cast("dict[str, Kind]", discover(__name__, "KIND"))
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in facts.items() if key != "kind"
    }
    return kinds[facts["kind"]].column(**values)
