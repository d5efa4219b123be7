"""Print the findings of an inspection as tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from gnopt.formatting import number, plain_console, with_prefix
from gnopt.inspection.alignment import Alignment
from gnopt.inspection.check import Verdict
from gnopt.inspection.inspect import Findings
from gnopt.inspection.subject import Subject
from gnopt.inspection.summary import Row, Summary


def headline(subject: Subject) -> str:
    """Return the subject in one line."""
    net = subject.net
    return (
        f"{subject.name}: {'-'.join(map(str, net.sizes))}, {net.size:,} parameters, first "
        f"{subject.rows:,} training rows, {net.dtype}"
    )


def _number(value: float | None) -> str:
    return number(value, 3)


def _with_error(value: float | None, error: float | None) -> str:
    """Return "value ± error", or the value alone if it is exact."""
    return f"{_number(value)} ±{error:.1g}" if error else _number(value)


def _console() -> Any:
    # A pipe has no width, so nothing is cut off there.
    return plain_console(None if sys.stdout.isatty() else 250)


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """Print a table; its first ``left`` columns are words, aligned to the left."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = _console()
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)
    console.print()


def print_findings(subject: Subject, findings: Findings) -> None:
    """Print all findings to stdout."""
    for summary in findings.summaries:
        _print_summary(subject, summary)
    if findings.alignments:
        _print_alignment(findings.alignments)
    for kind, d in findings.densities.items():
        what = "eigenvalues" if d.exact else "nodes of Lanczos' quadrature"
        print(
            f"whole {kind.replace('_', '-')} matrix: {what} from {d.low:.4g} to {d.high:.4g}, "
            f"trace {d.trace:.4g}, {100 * d.negative:.2g}% of the spectrum below zero"
        )
    for s in findings.surfaces:
        what = f"layer {s.layer}" if s.layer else "layers jointly"
        print(
            f"surface of {what}: {s.values.min():.5g} to {s.values.max():.5g} over {s.rows} rows, "
            f"{s.maxima} local maxima on the grid"
        )


def _print_summary(subject: Subject, s: Summary) -> None:
    at = f"step {s.step}"
    first = {row["layer"]: row for row in s.layers if row["A_dim"] is not None}
    if first:
        _print(
            f"Input factors A at {at}",
            ("layer", "out × in+1", "rank", "eff. rank", "trace", "λ min", "λ max", "cond."),
            [_input_row(row) for row in first.values()],
            2,
        )
    factored = [row for row in s.layers if row["G_dim"] is not None]
    if factored:
        _print(
            f"Output factors G at {at}",
            (
                "layer",
                "method",
                "rank",
                "eff. rank",
                "trace",
                "λ min",
                "λ max",
                "cond.",
                "π",
                "bytes",
            ),
            [_output_row(row) for row in factored],
            2,
        )
    _print(
        f"Blocks at {at}; distance and cosine to the exact Gauss-Newton block",
        (
            "layer",
            "method",
            "trace",
            "rank",
            "λ min",
            "λ max",
            "damped from",
            "to",
            "distance",
            "cosine",
        ),
        [_layer_row(row) for row in s.layers],
        2,
    )
    if s.methods:
        _print(
            f"Methods over all shown layers, {subject.rows:,} rows",
            (
                "method",
                "distance",
                "cosine",
                "seconds",
                "flops: statistics",
                "inverses",
                "solve",
                "bytes",
                "exact blocks",
            ),
            [_method_row(row) for row in s.methods],
            1,
        )
    if s.ranks is not None:
        _print_ranks(s)
    if s.signs is not None:
        print(s.signs.text())
        if s.signs.premise and not (s.signs.definite and s.signs.trace_definite):
            print("warning: the theorem says that they are positive semi-definite for this network")
    print()


def _input_row(row: Row) -> tuple[str, ...]:
    return (
        str(row["layer"]),
        f"{row['outputs']} × {row['inputs'] + 1}",
        _number(row["A_rank"]),
        _number(row["A_effective_rank"]),
        _number(row["A_trace"]),
        _number(row["A_min"]),
        _number(row["A_max"]),
        _number(row["A_condition"]),
    )


def _output_row(row: Row) -> tuple[str, ...]:
    return (
        str(row["layer"]),
        row["method"],
        _number(row["G_rank"]),
        _number(row["G_effective_rank"]),
        _number(row["G_trace"]),
        _number(row["G_min"]),
        _number(row["G_max"]),
        _number(row["G_condition"]),
        _number(row["pi"]),
        with_prefix(row["bytes"]),
    )


def _layer_row(row: Row) -> tuple[str, ...]:
    return (
        str(row["layer"]),
        row["method"],
        _number(row["trace"]),
        _number(row["rank"]),
        _number(row["eig_min"]),
        _number(row["eig_max"]),
        _number(row["damped_min"]),
        _number(row["damped_max"]),
        _with_error(row["distance"], row["distance_error"]),
        _with_error(row["cosine"], row["cosine_error"]),
    )


def _method_row(row: Row) -> tuple[str, ...]:
    return (
        row["method"],
        _with_error(row["distance"], row["distance_error"]),
        _with_error(row["cosine"], row["cosine_error"]),
        f"{row['seconds']:.2f}",
        with_prefix(row["flops_statistics"]),
        with_prefix(row["flops_inverse"]),
        with_prefix(row["flops_solve"]),
        with_prefix(row["bytes"]),
        with_prefix(row["exact_bytes"]),
    )


def _print_ranks(s: Summary) -> None:
    r = s.ranks
    assert r is not None
    points = f"{r.rows} data point{'s' if r.rows > 1 else ''}"
    print(
        f"rank of the exact Gauss-Newton matrix over {points}: {r.whole}, by layer "
        f"{', '.join(map(str, r.layers))}; bound N · rank(H_L) = {r.bound}"
    )


def _print_alignment(alignments: Sequence[Alignment]) -> None:
    places = list(dict.fromkeys((a.step, a.damping) for a in alignments))
    methods = list(dict.fromkeys(a.method for a in alignments))
    table = {(a.step, a.damping, a.method, a.layer): a for a in alignments}

    def cells(step: int, damping: float, layer: int) -> list[str]:
        return [
            f"{a.cosine:.3f} / {a.gn_cosine:.3f}"
            for a in (table[step, damping, m, layer] for m in methods)
        ]

    rows = [
        (
            str(step),
            _number(damping),
            _number(table[step, damping, methods[0], 0].residual),
            *cells(step, damping, 0),
        )
        for step, damping in places
    ]
    _print(
        f"{alignments[0].run}: alignment with the exact Gauss-Newton update; cosines, Euclidean / "
        "Gauss-Newton",
        ("step", "λ", "residual", *methods),
        rows,
        1,
    )
    if len(places) == 1:
        layers = sorted({a.layer for a in alignments if a.layer})
        _print(
            "Layer by layer",
            ("layer", *methods),
            [(str(l), *cells(*places[0], l)) for l in layers],
            1,
        )


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print the table of ``--check``."""
    rows = [
        (
            "pass" if v.passed and v.error is not None else "–" if v.passed else "FAIL",
            v.part,
            v.check,
            "" if v.error is None else f"{v.error:.1e}",
            f"{v.tolerance:.0e}" if v.tolerance else "0",
            v.reason,
        )
        for v in verdicts
    ]
    _print("Self-test, float64", ("", "part", "check", "error", "tolerance", "remark"), rows, 3)
    failed = sum(not v.passed for v in verdicts)
    print(f"{len(verdicts) - failed} of {len(verdicts)} checks passed")
