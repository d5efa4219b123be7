"""Choose the point of a grid that is shown as a method's best, and collect warnings.

The best point has the lowest training objective at the end of the budget, averaged over seeds. A
point with a diverged or failed run is chosen only if no point is complete. The settings outside the
grid are shown as "default" and are never chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np

from gnopt.compare.grid import DECAY_SHARE, GridPoint, Variant
from gnopt.compare.loss_curves import Curve, mean_curve, run_curve
from gnopt.compare.outcome import RunOutcome, read_outcome
from gnopt.compare.plan import ComparisonPlan, Run

RULE = (
    "best of a grid = lowest training objective at the end of the budget, mean over seeds; "
    "points with diverged or failed runs come last"
)
FEW = 5  # points in the mean of the best few


@dataclass(frozen=True)
class PointResult:
    """A grid point of a variant with its runs, one for each seed, and how they ended."""

    variant: Variant
    point: GridPoint
    runs: list[Run]
    outcomes: list[RunOutcome]

    @property
    def complete(self) -> bool:
        """Whether all runs used up their budget."""
        return all(outcome.done for outcome in self.outcomes)

    def mean(self, name: str) -> float:
        """Return the mean of a field of `RunOutcome` over the runs that are done, or NaN."""
        return _mean([float(getattr(outcome, name)) for outcome in self.outcomes if outcome.done])

    @property
    def rank(self) -> tuple[bool, float]:
        """Sort key of the rule above: complete points first, then by objective."""
        objective = self.mean("objective")
        return (not self.complete, objective if objective == objective else inf)

    def count(self, *statuses: str) -> int:
        """Return how many runs have one of these statuses."""
        return sum(outcome.status in statuses for outcome in self.outcomes)


@dataclass
class VariantResult:
    """All results of a variant and the choice of what is shown.

    Without a grid, ``best`` is the variant's only point and ``default`` is None.
    """

    variant: Variant
    results: list[PointResult]
    best: PointResult
    few: list[PointResult] = field(default_factory=list)  # the best ``FEW`` points, if complete
    default: PointResult | None = None  # the settings outside the grid

    def ranked(self) -> list[PointResult]:
        """Return the points, best first."""
        return sorted(self.results, key=lambda result: result.rank)


def evaluate_plan(plan: ComparisonPlan) -> list[VariantResult]:
    """Read how every run ended and return the result of each variant, in the plan's order."""
    outcomes = {run.id: read_outcome(plan, run) for run in plan.runs}
    chosen = []
    for variant in plan.variants:
        groups: dict[str, list[Run]] = {}
        for run in plan.runs:
            if run.variant == variant.name:
                groups.setdefault(GridPoint(run.point).slug, []).append(run)
        results = [
            PointResult(variant, GridPoint(runs[0].point), runs, [outcomes[run.id] for run in runs])
            for runs in groups.values()
        ]
        chosen.append(_choose(variant, results))
    return chosen


def _choose(variant: Variant, results: list[PointResult]) -> VariantResult:
    grid = [result for result in results if result.point.values]
    if not grid:
        return VariantResult(variant, results, results[0])
    ranked = sorted(grid, key=lambda result: result.rank)
    default = next((result for result in results if not result.point.values), None)
    few = [result for result in ranked[:FEW] if result.complete]
    return VariantResult(variant, results, ranked[0], few if len(grid) > FEW else [], default)


def curve_of(
    plan: ComparisonPlan,
    results: Sequence[PointResult],
    read: Callable[[Path], Curve] = run_curve,
) -> tuple[Curve | None, bool]:
    """Return the mean curve over the runs of some points, and whether it is cut short; ``read``
    returns the curve of a run directory.

    Only runs that used up their budget count. If there are none, the curve is that of the others:
    it ends where they diverged or stopped, and is cut short.
    """
    pairs = [pair for result in results for pair in zip(result.runs, result.outcomes, strict=True)]
    done = [run for run, outcome in pairs if outcome.done]
    rest = [run for run, outcome in pairs if outcome.status != "missing"]
    return mean_curve([read(plan.run_path(run)) for run in done or rest]), not done


def warnings(chosen: Sequence[VariantResult]) -> list[str]:
    """Return what a reader must know before trusting the results, one line for each warning."""
    lines = []
    for one in chosen:
        name = one.variant.name
        bad = {
            status: sum(result.count(status) for result in one.results)
            for status in ("diverged", "failed", "interrupted", "running", "missing")
        }
        total = sum(len(result.runs) for result in one.results)
        lines += [
            f"{name}: {count} of {total} runs {status}" for status, count in bad.items() if count
        ]
        if one.default is None or not one.best.complete:
            continue
        lines += [
            f"{name}: the best point has {text}: the grid may be too narrow"
            for text in on_edge(one)
        ]
        if one.default.complete and one.default.rank < one.best.rank:
            lines.append(
                f"{name}: the default settings beat the whole grid "
                f"({one.default.mean('objective'):.6g} against {one.best.mean('objective'):.6g})"
            )
    return lines


def on_edge(one: VariantResult) -> list[str]:
    """Return a phrase for each axis of the grid on whose edge the best point lies.

    A decay share of 1 never halves the rate: there is nothing beyond, so this is not an edge.
    """
    edges = []
    for name, values in one.variant.grid.items():
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) < len(values) or len(numbers) < 2:
            continue
        value = one.best.point.values[name]
        if value == min(numbers):
            edges.append(f"the lowest {name} of the grid ({value:g})")
        elif value == max(numbers) and not (name == DECAY_SHARE and value == 1):
            edges.append(f"the highest {name} of the grid ({value:g})")
    return edges


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else float("nan")
