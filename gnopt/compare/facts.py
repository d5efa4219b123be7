"""Record what the results depend on besides the settings: machine, versions, use of cores."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Sequence
from typing import Any

from gnopt import machine, provenance
from gnopt.compare.choice import RULE, VariantResult
from gnopt.compare.grid import DECAY_SHARE
from gnopt.compare.plan import ComparisonPlan
from gnopt.errors import DataError
from gnopt.files import inside, write_text
from gnopt.training.csv_table import read_columns
from gnopt.workers.cores import Allocation

_NEEDED = {"argv", "busy", "jobs", "runs", "share", "versions"}  # what is read of a record


def record(plan: ComparisonPlan, argv: list[str], allocation: Allocation, runs: int) -> None:
    """Record a call of ``gnopt compare`` that makes ``runs`` runs, in a new file in history/."""
    document = {
        "argv": argv,
        "time": provenance.now(),
        "engine": allocation.engine,
        "jobs": allocation.jobs,
        "runs": runs,
        "threads": allocation.threads,
        "cores": allocation.cores,
        "share": allocation.text(),
        "busy": round(machine.busy_cores(0), 2),
        "versions": {**provenance.versions(), "processor": machine.processor()},
    }
    name = re.sub(r"[^\w.-]", "-", f"{document['time']}-{platform.node()}-{os.getpid()}.json")
    folder = inside(plan.directory, "history")
    folder.mkdir(exist_ok=True)
    write_text(folder / name, json.dumps(document, indent=1) + "\n")


def history(plan: ComparisonPlan) -> list[dict[str, Any]]:
    """Return the records of all calls, oldest first; DataError for one that is damaged."""
    records = []
    for path in sorted((plan.directory / "history").glob("*.json")):
        try:
            record = json.loads(inside(plan.directory, f"history/{path.name}").read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not isinstance(record, dict) or not record.keys() >= _NEEDED:
            raise DataError(f"{path}: not the record of a call of gnopt compare")
        records.append(record)
    return records


def notes(plan: ComparisonPlan, chosen: Sequence[VariantResult]) -> list[str]:
    """Return the notes below the results, one line each: how the numbers were obtained."""
    seeds = sorted({run.seed for run in plan.runs})
    budget = (
        " and ".join(f"{value:g} {name}" for name, value in plan.budget.items())
        or "that of the configuration"
    )
    calls = [entry for entry in history(plan) if entry["runs"]]
    lines = [
        f"{len(plan.runs)} runs, seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}: the same initial weights and order of examples for every "
        "method",
        f"budget: {budget}; seconds are those of training alone, evaluation aside",
        f"timing: {'; then '.join(dict.fromkeys(entry['share'] for entry in calls))}",
        *(f"device: {text}" for text in _gpus(plan)),
    ]
    if any(entry["busy"] > 0.5 for entry in calls):
        lines.append(
            "timing: other work was running on the machine at the start: take seconds with care"
        )
    if any(variant.grid for variant in plan.variants):
        lines.append(RULE)
    if any(DECAY_SHARE in variant.grid for variant in plan.variants):
        lines.append(
            f"{DECAY_SHARE}: the learning rate halves each time this share of training.updates "
            "is over"
        )
    grown = [text for one in chosen if (text := _growth(plan, one))]
    if grown:
        lines.append(f"rows per batch grew: {'; '.join(grown)}")
    return lines


def _gpus(plan: ComparisonPlan) -> list[str]:
    """Return device, name and CuPy version of the GPUs used, as the runs recorded them."""
    gpus: dict[str, None] = {}
    for run in plan.runs if plan.gpus() else ():
        # A run that has not started, or did not use a GPU, is left out.
        with contextlib.suppress(OSError, ValueError, KeyError):
            info = json.loads((plan.run_path(run) / "run.json").read_text())
            versions = info["versions"]
            gpus[f"{info['device']}, {versions['gpu']}, CuPy {versions['cupy']}"] = None
    return sorted(gpus)


def _growth(plan: ComparisonPlan, one: VariantResult) -> str:
    """Return from how many rows to how many the batches of the best point's first run grew.

    The text is empty if they did not grow.
    """
    rows = read_columns(plan.run_path(one.best.runs[0]) / "steps.csv", ("batch",))["batch"]
    if not len(rows) or not rows[-1] > rows[0]:
        return ""
    return f"{one.variant.name} from {rows[0]:.0f} to {rows[-1]:.0f}"
