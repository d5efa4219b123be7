"""Put results into the cells of tables, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence

from gnopt.compare.result_files import SummaryRow
from gnopt.compare.targets import TimeToTarget
from gnopt.formatting import number

HEADER = (
    "method",
    "settings",
    "training loss",
    "training error",
    "validation loss",
    "validation error",
    "lowest validation",
    "updates",
    "seconds",
    "seconds per update",
    "runs",
)


def summary_cells(row: SummaryRow) -> list[str]:
    """Return a row of the summary as text, in the order of ``HEADER``."""
    objective = number(row.objective)
    if row.runs > 1 and row.objective is not None:
        objective += f" ({number(row.objective_low)} to {number(row.objective_high)})"
    name = row.variant if row.role in ("single", "default") else f"{row.variant}, {row.role}"
    point = "" if row.role == "single" else row.point
    runs = f"{row.done}/{row.runs}" + (f", {row.diverged} diverged" if row.diverged else "")
    return [
        name,
        point,
        objective,
        number(row.error),
        number(row.validation_objective),
        number(row.validation_error),
        number(row.lowest_validation_objective),
        number(row.updates, 7),
        number(row.seconds, 4),
        number(row.seconds_per_update, 3),
        runs,
    ]


def target_rows(times: Sequence[TimeToTarget]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of targets: a row a target, a column a variant."""
    names = list(dict.fromkeys(r.variant for r in times))
    rows: dict[tuple[float, str], list[str]] = {}
    for r in times:
        text = "not reached" if not r.runs else f"{r.updates:.0f}, {r.seconds:.3g} s"
        if 0 < r.runs < r.of:
            text += f" ({r.runs} of {r.of} runs)"
        title = f"{r.target:g}" + ("" if r.why == "--target" else f" ({r.why})")
        rows.setdefault((r.target, r.why), [title]).append(text)
    return ["target", *names], list(rows.values())
