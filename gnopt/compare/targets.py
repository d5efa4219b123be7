"""Find how many updates and seconds each method needs to reach a target objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from gnopt.compare.choice import VariantResult, curve_of
from gnopt.compare.loss_curves import run_curve
from gnopt.compare.plan import ComparisonPlan

MOST = 4  # targets chosen if none is given, at most


@dataclass(frozen=True)
class TimeToTarget:
    """What one variant needed to reach one target, on average over the runs that reached it."""

    target: float
    why: str  # where the target comes from
    variant: str
    updates: float
    seconds: float
    runs: int  # how many runs reached the target
    of: int  # of how many


def times_to(
    plan: ComparisonPlan, chosen: Sequence[VariantResult], given: Sequence[float]
) -> list[TimeToTarget]:
    """Return the times that the best point of each variant needed to reach each target.

    A target is reached when the sliding mean of the batches' loss first is at or below it. Without
    given targets, the final losses of the variants are the targets.
    """
    wanted = [(target, "--target") for target in given] or _reached_in_the_end(plan, chosen)
    times = []
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
            times.append(
                TimeToTarget(
                    target, why, one.variant.name, updates, seconds, len(hits), len(curves)
                )
            )
    return times


def _reached_in_the_end(
    plan: ComparisonPlan, chosen: Sequence[VariantResult]
) -> list[tuple[float, str]]:
    ends = []
    for one in chosen:
        curve, cut = curve_of(plan, [one.best])
        if curve is not None and not cut:  # rounded up, so that the method itself surely gets there
            ends.append((_rounded_up(float(curve.high[-1])), f"reached by {one.variant.name}"))
    ends.sort(reverse=True)
    places = np.unique(np.linspace(0, len(ends) - 1, min(MOST, len(ends))).round().astype(int))
    return [ends[i] for i in places]


def _rounded_up(number: float) -> float:
    """Return ``number`` rounded up to three digits."""
    if number <= 0.0:
        return number
    unit = 10.0 ** (np.floor(np.log10(number)) - 2)
    return float(f"{np.ceil(number / unit) * unit:.3g}")
