"""summary.csv, curves.csv and targets.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gnopt.compare.choice import PointResult, VariantResult, curve_of
from gnopt.compare.loss_curves import Curve, thinned
from gnopt.compare.plan import ComparisonPlan
from gnopt.compare.targets import TimeToTarget
from gnopt.files import write_text
from gnopt.training.csv_table import cell

SUMMARY = (
    "variant",
    "method",
    "role",
    "point",
    "runs",
    "done",
    "diverged",
    "failed",
    "updates",
    "objective",
    "objective_low",
    "objective_high",
    "error",
    "validation_objective",
    "validation_error",
    "seconds",
    "seconds_per_update",
)
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
_MEANS = ("error", "validation_objective", "validation_error")


def summary_rows(chosen: Sequence[VariantResult]) -> list[dict[str, Any]]:
    """One row for each point; ``role`` is best, default or grid, or single where there is no
    grid.
    """
    rows = []
    for one in chosen:
        for result in one.ranked():
            role = "default" if result is one.default else "best" if result is one.best else "grid"
            rows.append(_row(result, role if one.default else "single"))
        if one.few:
            rows.append(_few_row(one))
    return rows


def _row(result: PointResult, role: str) -> dict[str, Any]:
    done = [outcome for outcome in result.outcomes if outcome.done]
    objectives = [outcome.objective for outcome in done]
    row: dict[str, Any] = {
        "variant": result.variant.name,
        "method": result.variant.method,
        "role": role,
        "point": result.point.label,
        "runs": len(result.runs),
        "done": len(done),
        "diverged": result.count("diverged"),
        "failed": len(result.runs) - len(done) - result.count("diverged"),
        "updates": result.mean("updates"),
        "objective": result.mean("objective"),
        "objective_low": min(objectives, default=None),
        "objective_high": max(objectives, default=None),
        **{name: result.mean(name) for name in _MEANS},
        "seconds": result.mean("seconds"),
        "seconds_per_update": None,
    }
    if done and row["updates"]:
        row["seconds_per_update"] = row["seconds"] / row["updates"]
    return {name: None if value != value else value for name, value in row.items()}


def _few_row(one: VariantResult) -> dict[str, Any]:
    """The mean of the best few points, each being the mean over its seeds."""
    rows = [_row(result, "") for result in one.few]
    row: dict[str, Any] = {
        "variant": one.variant.name,
        "method": one.variant.method,
        "role": f"best {len(rows)}",
        "point": f"mean of the best {len(rows)} points",
    }
    row |= {name: sum(r[name] for r in rows) for name in ("runs", "done", "diverged", "failed")}
    for name in ("updates", "objective", *_MEANS, "seconds", "seconds_per_update"):
        values = [r[name] for r in rows if r[name] is not None]
        row[name] = sum(values) / len(values) if values else None
    row["objective_low"] = min(r["objective_low"] for r in rows)
    row["objective_high"] = max(r["objective_high"] for r in rows)
    return row


def shown_curves(
    plan: ComparisonPlan, chosen: Sequence[VariantResult]
) -> list[tuple[VariantResult, str, Curve, bool]]:
    """(variant, role, curve, whether it ends where its runs diverged) of everything that figures
    show.
    """
    found = []
    for one in chosen:
        roles: list[tuple[str, list[PointResult]]] = [
            ("best" if one.default else "single", [one.best])
        ]
        if one.few:
            roles.append((f"best {len(one.few)}", one.few))
        if one.default:
            roles.append(("default", [one.default]))
        for role, results in roles:
            curve, cut = curve_of(plan, results)
            if curve is not None:
                found.append((one, role, curve, cut))
    return found


def curve_rows(plan: ComparisonPlan, chosen: Sequence[VariantResult]) -> Iterable[dict[str, Any]]:
    """The shown curves, thinned to at most 150 rows each; ``loss`` is the sliding mean."""
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
    """Write the three files into the comparison's directory, each whole or not at all."""
    _write(plan.directory / "summary.csv", SUMMARY, summary_rows(chosen))
    _write(plan.directory / "curves.csv", CURVES, curve_rows(plan, chosen))
    rows = [
        {name: None if (value := getattr(r, name)) != value else value for name in TARGETS}
        for r in times
    ]
    _write(plan.directory / "targets.csv", TARGETS, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row[name]) for name in columns] for row in rows)
    write_text(path, text.getvalue())
