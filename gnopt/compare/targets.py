"""How many updates and seconds each method needs to bring the objective down to a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from gnopt.compare.choice import VariantResult, curve_of
from gnopt.compare.loss_curves import run_curve
from gnopt.compare.plan import ComparisonPlan

MOST = 4  # targets chosen where none is given


@dataclass(frozen=True)
class TimeToTarget:
    """Mean updates and seconds over the runs that reached the target; ``runs`` is how many did, of
    ``of``.
    """

    target: float
    why: str
    variant: str
    updates: float
    seconds: float
    runs: int
    of: int


def times_to(
    plan: ComparisonPlan, chosen: Sequence[VariantResult], given: Sequence[float]
) -> list[TimeToTarget]:
    """When the sliding mean of the batches' loss first is at or below each target, at the best
    points.

    Without given targets, they are what the methods reached in the end.
    """
    wanted = [(target, "--target") for target in given] or _reached_in_the_end(plan, chosen)
    found = []
    for target, why in sorted(wanted, reverse=True):
        for one in chosen:
            curves = [run_curve(plan.run_path(run)) for run in one.best.runs]
            below = [(curve, np.flatnonzero(curve.loss <= target)) for curve in curves]
            hits = [
                (float(curve.updates[at[0]]), float(curve.seconds[at[0]]))
                for curve, at in below
                if len(at)
            ]
            updates, seconds = np.mean(hits, axis=0).tolist() if hits else (nan, nan)
            found.append(
                TimeToTarget(
                    target, why, one.variant.name, updates, seconds, len(hits), len(curves)
                )
            )
    return found


def _reached_in_the_end(
    plan: ComparisonPlan, chosen: Sequence[VariantResult]
) -> list[tuple[float, str]]:
    found = []
    for one in chosen:
        curve, cut = curve_of(plan, [one.best])
        if curve is not None and not cut:  # rounded up, so that the method itself surely gets there
            found.append((_rounded_up(float(curve.high[-1])), f"reached by {one.variant.name}"))
    found.sort(reverse=True)
    places = np.unique(np.linspace(0, len(found) - 1, min(MOST, len(found))).round().astype(int))
    return [found[i] for i in places]


def _rounded_up(number: float) -> float:
    """At most half a percent above ``number``, in three digits."""
    if number <= 0.0:
        return number
    unit = 10.0 ** (np.floor(np.log10(number)) - 2)
    return float(f"{np.ceil(number / unit) * unit:.3g}")
