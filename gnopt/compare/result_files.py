"""Write the results of a comparison: summary.csv, curves.csv and targets.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan, nan
from pathlib import Path

from gnopt.compare.choice import PointResult, VariantResult, curve_of
from gnopt.compare.loss_curves import Curve, run_curve, thinned
from gnopt.compare.plan import ComparisonPlan
from gnopt.compare.targets import TimeToTarget
from gnopt.files import write_text
from gnopt.training.csv_table import Cell, cell

CURVES = (
    "variant",
    "role",
    "runs",
    "diverged",
    "updates",
    "seconds",
    "loss",
    "loss_low",
    "loss_high",
)
TARGETS = ("target", "why", "variant", "updates", "seconds", "runs", "of")


@dataclass(frozen=True)
class SummaryRow:
    """A row of summary.csv: what the runs of a point came to, or those of the best few points.

    ``role`` is best, default or grid, or single where there is no grid. Numbers are means over the
    runs that are done; None where none is.
    """

    variant: str
    method: str
    role: str
    point: str
    runs: int
    done: int
    diverged: int
    failed: int
    updates: float | None
    objective: float | None
    objective_low: float | None
    objective_high: float | None
    error: float | None
    validation_objective: float | None
    validation_error: float | None
    lowest_validation_objective: float | None  # of all evaluations, not the last one
    seconds: float | None
    seconds_per_update: float | None


SUMMARY = tuple(f.name for f in fields(SummaryRow))


def summary_rows(chosen: Sequence[VariantResult]) -> list[SummaryRow]:
    """Return one row for each point, and one for the best few of each grid."""
    rows = []
    for one in chosen:
        for result in one.ranked():
            role = "default" if result is one.default else "best" if result is one.best else "grid"
            rows.append(_row(result, role if one.default else "single"))
        if one.few:
            rows.append(_few_row(one))
    return rows


def _row(result: PointResult, role: str) -> SummaryRow:
    done = [outcome for outcome in result.outcomes if outcome.done]
    objectives = [outcome.objective for outcome in done]
    updates, seconds = result.mean("updates"), result.mean("seconds")
    return SummaryRow(
        variant=result.variant.name,
        method=result.variant.method,
        role=role,
        point=result.point.label,
        runs=len(result.runs),
        done=len(done),
        diverged=result.count("diverged"),
        failed=len(result.runs) - len(done) - result.count("diverged"),
        updates=_known(updates),
        objective=_known(result.mean("objective")),
        objective_low=_known(min(objectives, default=nan)),
        objective_high=_known(max(objectives, default=nan)),
        error=_known(result.mean("error")),
        validation_objective=_known(result.mean("validation_objective")),
        validation_error=_known(result.mean("validation_error")),
        lowest_validation_objective=_known(result.mean("lowest_validation")),
        seconds=_known(seconds),
        seconds_per_update=_known(seconds / updates) if done and updates else None,
    )


def _few_row(one: VariantResult) -> SummaryRow:
    """Return a row with the mean over the best few points, each a mean over its seeds."""
    rows = [_row(result, "") for result in one.few]
    return SummaryRow(
        variant=one.variant.name,
        method=one.variant.method,
        role=f"best {len(rows)}",
        point=f"mean of the best {len(rows)} points",
        runs=sum(row.runs for row in rows),
        done=sum(row.done for row in rows),
        diverged=sum(row.diverged for row in rows),
        failed=sum(row.failed for row in rows),
        updates=_mean(row.updates for row in rows),
        objective=_mean(row.objective for row in rows),
        objective_low=min(_given(row.objective_low for row in rows), default=None),
        objective_high=max(_given(row.objective_high for row in rows), default=None),
        error=_mean(row.error for row in rows),
        validation_objective=_mean(row.validation_objective for row in rows),
        validation_error=_mean(row.validation_error for row in rows),
        lowest_validation_objective=_mean(row.lowest_validation_objective for row in rows),
        seconds=_mean(row.seconds for row in rows),
        seconds_per_update=_mean(row.seconds_per_update for row in rows),
    )


def _known(number: float) -> float | None:
    return None if isnan(number) else number


def _mean(numbers: Iterable[float | None]) -> float | None:
    known = _given(numbers)
    return sum(known) / len(known) if known else None


def _given(numbers: Iterable[float | None]) -> list[float]:
    return [number for number in numbers if number is not None]


def shown_curves(
    plan: ComparisonPlan,
    chosen: Sequence[VariantResult],
    read: Callable[[Path], Curve] = run_curve,
) -> list[tuple[VariantResult, str, Curve, bool]]:
    """Return (variant, role, curve, whether it is cut short) of every curve that figures show;
    ``read`` returns the curve of a run directory.
    """
    curves = []
    for one in chosen:
        roles: list[tuple[str, list[PointResult]]] = [
            ("best" if one.default else "single", [one.best])
        ]
        if one.few:
            roles.append((f"best {len(one.few)}", one.few))
        if one.default:
            roles.append(("default", [one.default]))
        for role, results in roles:
            curve, cut = curve_of(plan, results, read)
            if curve is not None:
                curves.append((one, role, curve, cut))
    return curves


def curve_rows(plan: ComparisonPlan, chosen: Sequence[VariantResult]) -> Iterable[dict[str, Cell]]:
    """Yield the rows of curves.csv: the shown curves, thinned to about 150 rows each."""
    for one, role, curve, cut in shown_curves(plan, chosen):
        for i in thinned(curve):
            yield {
                "variant": one.variant.name,
                "role": role,
                "runs": curve.runs,
                "diverged": int(cut),
                "updates": int(curve.updates[i]),
                "seconds": curve.seconds[i],
                "loss": curve.loss[i],
                "loss_low": curve.low[i],
                "loss_high": curve.high[i],
            }


def write_tables(
    plan: ComparisonPlan, chosen: Sequence[VariantResult], times: Sequence[TimeToTarget]
) -> None:
    """Write the three files into the comparison's directory, each atomically."""
    _write(plan.directory / "summary.csv", SUMMARY, map(asdict, summary_rows(chosen)))
    _write(plan.directory / "curves.csv", CURVES, curve_rows(plan, chosen))
    rows = [asdict(r) | {"updates": _known(r.updates), "seconds": _known(r.seconds)} for r in times]
    _write(plan.directory / "targets.csv", TARGETS, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Cell]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row[name]) for name in columns] for row in rows)
    write_text(path, text.getvalue())
