"""Results of benches in words: tables of at most 80 columns, sentences, JSON and CSV rows."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gnopt.bench.bench import BenchResult
from gnopt.optimizers.timing import PHASES

COLUMNS = 80
LONGEST_NAME = 19  # of a method in the widest table; longer names are cut


def text(results: Sequence[BenchResult]) -> str:
    """Return all that the command prints; tables are those of the best number of threads."""
    best = best_result(results)
    parts = [headline(best), phase_table(best), work_table(best)]
    if len(results) > 1:
        parts.append(thread_table(results))
    lines = [*not_timed(best), *sentences(results)]
    return "\n\n".join([*parts, "\n".join(_wrapped(line) for line in lines)])


def headline(result: BenchResult) -> str:
    """Return a line that says what was timed."""
    facts = result.problem
    return _wrapped(
        f"{'-'.join(map(str, facts.network))}, {facts.loss}, {facts.batch} rows an update, "
        f"{facts.dtype} on {facts.device}, {_threads(result.threads)} of {facts.processor}"
    )


def phase_table(result: BenchResult) -> str:
    """Return a table with the milliseconds of an update and its phases, cheapest first."""
    rows = [
        [
            cost.method[:LONGEST_NAME],
            three_digits(1e3 * cost.seconds),
            *[three_digits(1e3 * cost.phases[p]) if p in cost.phases else "" for p in PHASES],
        ]
        for cost in result.costs
    ]
    title = "Milliseconds per update, on average over a period, and of its phases"
    legend = "; ".join(f"{name}: {meaning}" for name, meaning in PHASES.items())
    return f"{_table(title, ['method', 'update', *PHASES], rows)}\n{_wrapped(legend)}"


def work_table(result: BenchResult) -> str:
    """Return a table of the flops and bytes of an update, and of the speed reached."""
    cheapest = result.costs[0].seconds
    rows = [
        [
            cost.method[:LONGEST_NAME],
            f"{cost.seconds / cheapest:.2f}",
            three_digits(1e-9 * cost.flops),
            f"{100.0 * cost.share:.0f} %",
            three_digits(1e-6 * cost.state_bytes),
            f"{cost.updates}{'*' if cost.updates < cost.period else ''}",
        ]
        for cost in result.costs
    ]
    product = "sgemm" if result.problem.dtype == "float32" else "dgemm"
    header = ["method", "/ cheapest", "GFLOP", f"of {product}", "state MB", "timed"]
    title = f"Work per update; of {product}: flops per second over those of matrix products"
    table = _table(title, header, rows)
    if any(cost.updates < cost.period for cost in result.costs):
        table += "\n* fewer updates than the period of the method's work: a rough average"
    return table


def thread_table(results: Sequence[BenchResult]) -> str:
    """Return a table with the milliseconds of an update for each number of threads."""
    names = [cost.method for cost in best_result(results).costs]
    rows = []
    for name in names:
        seconds = {r.threads: cost.seconds for r in results if (cost := r.cost_of(name))}
        cells = [
            three_digits(1e3 * seconds[r.threads]) if r.threads in seconds else "" for r in results
        ]
        rows.append([name[:LONGEST_NAME], *cells, str(min(seconds, key=lambda n: seconds[n]))])
    header = ["method", *[str(result.threads) for result in results], "best"]
    return _table("Milliseconds per update by number of threads", header, rows)


def not_timed(result: BenchResult) -> list[str]:
    """Return a line for each reason why methods were left out."""
    names: dict[str, list[str]] = {}
    for name, reason in result.left_out.items():
        names.setdefault(reason, []).append(name)
    return [f"Not timed: {', '.join(own)}: {reason}." for reason, own in names.items()]


def sentences(results: Sequence[BenchResult]) -> list[str]:
    """Return sentences with the conclusions from the tables."""
    threads, cheapest = min(
        ((result.threads, result.costs[0]) for result in results), key=lambda p: p[1].seconds
    )
    found = [
        f"Cheapest per update: {cheapest.method}, {three_digits(1e3 * cheapest.seconds)} ms with "
        f"{_threads(threads)}. Cheaper per update is not better per result: gnopt compare tells "
        "which method gets furthest in the same seconds."
    ]
    if auto := results[0].problem.auto:
        found.append(f'optimizer.method = "auto" takes {auto.removeprefix("method ")}.')
    if len(results) > 1:
        best = best_result(results)
        subject = subject_of(results)
        times = ", ".join(
            f"{three_digits(1e3 * cost.seconds)} ms with {result.threads}"
            for result in results
            if (cost := result.cost_of(subject))
        )
        found.append(
            f"Best number of threads for {subject}: {best.threads} ({times}). "
            f"Set OMP_NUM_THREADS={best.threads}."
        )
    return found


def subject_of(results: Sequence[BenchResult]) -> str:
    """Return the method for which a number of threads is recommended.

    This is the configured method, or the cheapest if the configured one was not always timed.
    """
    configured = results[0].problem.method
    everywhere = all(result.cost_of(configured) for result in results)
    return configured if everywhere else results[0].costs[0].method


def best_result(results: Sequence[BenchResult]) -> BenchResult:
    """Return the result with the best number of threads for the method of `subject_of`."""
    subject = subject_of(results)

    def seconds(result: BenchResult) -> float:
        cost = result.cost_of(subject)
        return cost.seconds if cost else float("inf")

    return min(results, key=seconds)


def as_json(results: Sequence[BenchResult]) -> dict[str, Any]:
    """Return the object that ``--json`` prints; ``threads.bench_with`` reads it back."""
    return {
        "problem": asdict(results[0].problem),
        "results": [
            {
                "threads": result.threads,
                "methods": [asdict(cost) for cost in result.costs],
                "left_out": result.left_out,
            }
            for result in results
        ],
        "advice": sentences(results),
    }


def as_csv(results: Sequence[BenchResult]) -> str:
    """Return CSV with a row for each number of threads, method and phase; "update" is the sum."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ("threads", "method", "phase", "seconds", "flops", "share_of_gemm", "state_bytes")
    writer.writerow([*names, "updates"])
    for result in results:
        for cost in result.costs:
            whole = [cost.seconds, cost.flops, cost.share, cost.state_bytes, cost.updates]
            writer.writerow([result.threads, cost.method, "update", *whole])
            for phase, seconds in cost.phases.items():
                rest = [seconds, cost.work.get(phase, ""), "", "", cost.updates]
                writer.writerow([result.threads, cost.method, phase, *rest])
    return file.getvalue()


def three_digits(value: float) -> str:
    """Return a number in three digits, or as a whole number."""
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:#.3g}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns under a title, the first aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [title]
    for first, *rest in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
