"""How a method ended on a problem beside the best Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from battery.runs import Result
from battery.table import Table

SOLVED = 1e-6  # of the best constant's gap: both below it are equal
_PRECISION = {"float32": 1e-6, "float64": 1e-12}  # of an objective


@dataclass(frozen=True)
class Verdict:
    """One method and the best Adam on one problem. Gaps are objectives less the floor."""

    result: Result
    adam: Result
    dtype: str

    @property
    def equal(self) -> bool:
        """Whether both are solved, or differ by less than the precision of an objective."""
        gaps = self.result.gap, self.adam.gap
        if max(gaps) <= SOLVED * self.result.constant_gap:
            return True
        largest = max(abs(self.result.objective), abs(self.adam.objective))
        return abs(gaps[0] - gaps[1]) <= _PRECISION[self.dtype] * largest

    @property
    def ratio(self) -> float:
        """The method's gap over Adam's: 1 where they are equal, infinite without a result."""
        if self.result.gap == math.inf:
            return math.inf
        if self.equal:
            return 1.0
        if self.adam.gap == math.inf:
            return 0.0
        return self.result.gap / self.adam.gap if self.adam.gap > 0.0 else math.inf

    @property
    def strictly(self) -> bool:
        """Whether the method ended at or below Adam, whatever counts as equal."""
        return self.result.gap <= self.adam.gap and self.result.gap < math.inf

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if self.result.exit == 3:
            return "diverged"
        if self.result.exit:
            return "error"
        if not math.isfinite(self.result.objective):
            return "not finite"
        if self.ratio <= 1.0:
            return "equal" if self.equal else "below"
        return "within 10%" if self.ratio <= 1.1 else "above" if self.ratio <= 3.0 else "above 3x"


def verdicts(table: Table, method: str, dtypes: dict[int, str]) -> list[Verdict]:
    """Return the verdicts on ``method`` for all problems that it and Adam were run on."""
    best: dict[int, Result] = {}
    for (index, entrant), result in table.results.items():
        if entrant.split()[0] == "adam" and (index not in best or result.gap < best[index].gap):
            best[index] = result
    return [
        Verdict(result, best[index], dtypes[index])
        for (index, entrant), result in sorted(table.results.items())
        if entrant == method and index in best
    ]


@dataclass(frozen=True)
class Summary:
    """Counts over the verdicts on a method."""

    problems: int
    below: int  # at or below Adam, equal ones included
    strictly: int
    close: int  # at most 1 % above, those below included
    within: int  # at most 10 % above, those below included
    above: int  # by more than 3 times
    stands: int  # no better than the best constant, and more than 10 % above Adam
    diverged: int  # exit 3
    errors: int  # another exit code
    infinite: int  # not finite
    ratio: float  # median

    @classmethod
    def of(cls, all_of: Iterable[Verdict]) -> Summary:
        """Count the verdicts."""
        found = list(all_of)
        ratios = [v.ratio for v in found]
        return cls(
            len(found),
            sum(r <= 1.0 for r in ratios),
            sum(v.strictly for v in found),
            sum(r <= 1.01 for r in ratios),
            sum(r <= 1.1 for r in ratios),
            sum(r > 3.0 for r in ratios),
            sum(v.result.stands and v.ratio > 1.1 for v in found),
            sum(v.result.exit == 3 for v in found),
            sum(v.result.exit not in (0, 3) for v in found),
            sum(v.result.exit == 0 and not math.isfinite(v.result.objective) for v in found),
            median(ratios) if ratios else math.nan,
        )
