"""Write the findings of an inspection as CSV files, and put them into one JSON object."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gnopt.files import write_text
from gnopt.inspection.alignment import COLUMNS as ALIGNMENT_COLUMNS
from gnopt.inspection.factors import Factors
from gnopt.inspection.inspect import Findings
from gnopt.inspection.subject import Subject
from gnopt.inspection.summary import COLUMNS, METHOD_COLUMNS, Summary

Row = dict[str, Any]

# The tables of --out.
LAYERS, METHODS, SPECTRA = "layers.csv", "methods.csv", "spectra.csv"
ALIGNMENT, DENSITY = "alignment.csv", "density.csv"
TABLES = (LAYERS, METHODS, SPECTRA, ALIGNMENT, DENSITY)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write rows atomically, with floats in full precision and None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def _cell(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, (float, np.floating)) else value


def write_all(findings: Sequence[Findings], layers: Path | None, folder: Path | None) -> list[Path]:
    """Write tables and return the files.

    ``layers`` is the file of --csv: it gets the summary, and a file beside it the alignment.
    ``folder`` is that of --out: it gets every table.
    """
    rows = [row for one in findings for s in one.summaries for row in s.layers]
    methods = [row for one in findings for s in one.summaries for row in s.methods]
    aligned = [a.row() for one in findings for a in one.alignments]
    files = []
    if layers is not None:
        if rows or not aligned:
            files.append(write_csv(layers, COLUMNS, rows))
        if aligned:
            place = alignment_beside(layers) if rows else layers
            files.append(write_csv(place, ALIGNMENT_COLUMNS, aligned))
    if folder is not None:
        if rows:
            files += [
                write_csv(folder / LAYERS, COLUMNS, rows),
                write_csv(folder / METHODS, METHOD_COLUMNS, methods),
            ]
            factors = findings[-1].factors
            if factors is not None:
                files.append(
                    write_csv(
                        folder / SPECTRA,
                        ("layer", "method", "factor", "index", "eigenvalue"),
                        spectra_rows(factors, findings[-1].layers),
                    )
                )
        if aligned:
            files.append(write_csv(folder / ALIGNMENT, ALIGNMENT_COLUMNS, aligned))
        densities = density_rows(findings[-1])
        if densities:
            files.append(write_csv(folder / DENSITY, ("matrix", "node", "weight"), densities))
    return files


def alignment_beside(layers: Path) -> Path:
    """Return the file for the alignment where ``layers``, the file of --csv, gets the summary."""
    return layers.with_name(f"{layers.stem}-alignment{layers.suffix}")


def spectra_rows(factors: Factors, layers: Sequence[int]) -> list[Row]:
    """Return a row for every eigenvalue of the factors, descending.

    A has rows without a method, because it is the same for all.
    """
    rows = []
    for l in layers:
        series = [("", "A", factors.A[l - 1].spectrum.values)]
        for name, method in factors.methods.items():
            pair = method.blocks[l - 1].factored
            if pair is not None:
                series.append((name, "G", pair[1].spectrum.values))
        for name, factor, values in series:
            rows += [
                {
                    "layer": l,
                    "method": name,
                    "factor": factor,
                    "index": k,
                    "eigenvalue": float(value),
                }
                for k, value in enumerate(values[::-1], start=1)
            ]
    return rows


def density_rows(findings: Findings) -> list[Row]:
    """Return a row for every node of the spectral densities."""
    return [
        {"matrix": kind, "node": float(node), "weight": float(weight)}
        for kind, d in findings.densities.items()
        for node, weight in zip(d.nodes, d.weights, strict=True)
    ]


def as_json(subject: Subject, findings: Findings) -> Row:
    """Return the findings of one inspection as plain values."""
    training = subject.config.training
    return {
        "target": subject.name,
        "sizes": list(subject.net.sizes),
        "loss": subject.config.network.loss,
        "activations": [f.name for f in subject.net.activations],
        "dtype": training.dtype,
        "seed": training.seed,
        "rows": findings.rows,
        "kfac_samples": findings.samples,
        "checkpoints": [summary_json(s) for s in findings.summaries],
        "alignment": [a.row() for a in findings.alignments],
        "density": {
            kind: {
                "exact": d.exact,
                "eig_min": d.low,
                "eig_max": d.high,
                "trace": d.trace,
                "negative_share": d.negative,
                "nodes": d.nodes.tolist(),
                "weights": d.weights.tolist(),
            }
            for kind, d in findings.densities.items()
        },
        "surfaces": [
            {
                "layer": s.layer or "all",
                "rows": s.rows,
                "low": float(s.values.min()),
                "high": float(s.values.max()),
                "local_maxima": s.maxima,
            }
            for s in findings.surfaces
        ],
    }


def summary_json(s: Summary) -> Row:
    """Return one summary as plain values."""
    values: Row = {
        "step": s.step,
        "layers": s.layers,
        "methods": s.methods,
        "distance_sketched": s.sketched,
        "exact_norms": s.exact_norms,
    }
    if s.ranks is not None:
        values["rank"] = asdict(s.ranks)
    if s.signs is not None:
        values["theorem"] = {
            **asdict(s.signs),
            "applies": s.signs.premise,
            "definite": s.signs.definite,
            "trace_definite": s.signs.trace_definite,
        }
    return values
