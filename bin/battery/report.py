"""Tables of the verdicts as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from battery.problems import problem
from battery.verdicts import SOLVED, Summary, Verdict

ROWS = {
    "problems": "problems",
    "below": "at or below the best Adam",
    "strictly": "the same, strictly",
    "close": "at most 1 % above it",
    "within": "at most 10 % above it",
    "above": "above 3 times",
    "stands": "no better than a constant, Adam better",
    "diverged": "exit 3",
    "errors": "other errors",
    "infinite": "not finite",
    "ratio": "median ratio to the best Adam",
}
LEGEND = (
    "Compared are final objectives on all training rows less the least that the targets allow. "
    f"Equal: both below {SOLVED:g} of the best constant predictor's, or as close as the float type "
    "tells; strictly: without this rule."
)


def _cell(name: str, value: float, problems: int) -> str:
    if name in ("problems", "ratio"):
        return f"{value:.3g}"
    return f"{value:.0f} ({100.0 * value / max(1, problems):.1f} %)"


def summaries(columns: dict[str, Summary]) -> str:
    """Return the counts of several methods or variants side by side."""
    lines = [f"{'':40}" + "".join(f"{name:>18}" for name in columns)]
    for name, text in ROWS.items():
        cells = [_cell(name, asdict(s)[name], s.problems) for s in columns.values()]
        lines.append(f"{text:40}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def _share(gap: float, verdict: Verdict) -> str:
    """A gap as a share of the best constant predictor's."""
    return f"{gap / verdict.result.constant_gap:.2e}" if gap < math.inf else "-"


def line(verdict: Verdict) -> str:
    """Return one problem's line: gaps as shares of the best constant's, and the verdict."""
    result, adam = verdict.result, verdict.adam
    rate = adam.entrant.partition(" ")[2]
    return (
        f"{result.problem:>4} {_share(result.gap, verdict):>9} {_share(adam.gap, verdict):>9} "
        f"{rate:>6} {verdict.ratio:>9.3g} {result.updates:>6} {adam.updates:>6}  {verdict.word}"
    )


HEADER = f"{'':>4} {'method':>9} {'Adam':>9} {'rate':>6} {'ratio':>9} {'upd.':>6} {'Adam':>6}"


def losers(found: Sequence[Verdict], seed: int) -> str:
    """Return the problems on which the method ended above Adam, the worst first, described."""
    worse = sorted((v for v in found if v.ratio > 1.0), key=lambda v: -v.ratio)
    texts = [
        f"{line(v)}{'; no better than a constant' if v.result.stands else ''}\n"
        f"       {problem(v.result.problem, seed)}"
        + (f"\n       {v.result.message}" if v.result.message else "")
        for v in worse
    ]
    return "\n".join([HEADER, *texts])


def changes(before: Sequence[Verdict], after: Sequence[Verdict], seed: int, most: int = 20) -> str:
    """Return the problems whose ratio changed most, the worsened first."""
    old = {v.result.problem: v for v in before}
    pairs = [(old[v.result.problem], v) for v in after if v.result.problem in old]

    def change(pair: tuple[Verdict, Verdict]) -> float:
        low, high = 1e-6, 1e6
        a, b = (min(high, max(low, v.ratio)) for v in pair)
        return math.log10(b / a)

    pairs.sort(key=change, reverse=True)
    shown = [p for p in pairs if abs(change(p)) > 0.02]
    chosen = shown if len(shown) <= 2 * most else shown[:most] + shown[-most:]
    texts = [
        f"{b.result.problem:>4} ratio {a.ratio:>9.3g} -> {b.ratio:<9.3g} {a.word} -> {b.word}\n"
        f"       {problem(b.result.problem, seed)}"
        for a, b in chosen
    ]
    return "\n".join(texts)
