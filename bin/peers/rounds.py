"""Interleaved rounds, and what they come to: medians, and ratios to the rate of the same moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from gnopt.optimizers.timing import PHASES
from peers.rates import Rates
from peers.subjects import Seconds, Subject

PERIODIC = ("statistics", "inverses", "update")  # not the same in every update


@dataclass
class Figure:
    """A phase: seconds, least flops, the seconds that these take at the rate of the moment, and the
    ratio to them.

    ``relative`` is the ratio to the forward and backward passes of the same rounds.
    """

    seconds: float
    flops: float | None = None
    floor: float | None = None
    ratio: float | None = None
    relative: float | None = None


@dataclass
class Row:
    """All figures of a subject: those of its phases, and of the whole "update"."""

    name: str
    note: str
    figures: dict[str, Figure] = field(default_factory=dict)
    samples: int = 0


@dataclass
class Sample:
    """One measurement: its place in the subject's cycle, GFLOP/s around it, seconds of the passes
    of the round.
    """

    place: int
    rate: float
    reference: float
    seconds: Seconds


def measure(
    subjects: Sequence[Subject], rates: Rates, rounds: int, tell: Callable[[int], None]
) -> tuple[list[Row], dict[str, list[float]]]:
    """Rows in the order of ``subjects``, the first of which is the reference, and the rates of
    every round.
    """
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    seen: dict[str, list[float]] = {}
    for number in range(rounds):
        tell(number)
        for name, rate in rates.all().items():
            seen.setdefault(name, []).append(rate)
        before, reference = seen["gemm"][-1], 0.0
        for position, subject in enumerate(subjects):
            if number % subject.every:
                continue
            seconds = subject.measure(number)
            after = rates.gemm(2)
            if seconds is not None:
                if position == 0:
                    reference = seconds["update"]
                rate = 0.5 * (before + after)
                samples[subject.name].append(
                    Sample(number % subject.cycle, rate, reference, seconds)
                )
            before = after
    return [summarise(subject, samples[subject.name]) for subject in subjects], seen


def summarise(subject: Subject, samples: Sequence[Sample]) -> Row:
    """Median seconds by phase, for work that is not the same in every update the mean of the
    medians of a cycle.
    """
    row = Row(subject.name, subject.note, samples=len(samples))
    if not samples:
        return row
    least = dict(subject.floor)
    if "update" not in least and least:
        least["update"] = sum(least.values())
    for phase in [*PHASES, "update"]:
        if not any(phase in s.seconds for s in samples):
            continue
        cycle = phase in PERIODIC
        # An update without this phase counts with no time at all.
        seconds = [s.seconds.get(phase, 0.0) for s in samples]
        timed = list(zip(samples, seconds, strict=True))
        figure = Figure(_average([(s.place, t) for s, t in timed], cycle))
        if all(s.reference > 0.0 for s in samples):
            figure.relative = _average([(s.place, t / s.reference) for s, t in timed], cycle)
        if least.get(phase):
            figure.flops = least[phase]
            worked = _average([(s.place, t * s.rate * 1e9) for s, t in timed], cycle)
            figure.ratio = worked / least[phase]
            figure.floor = figure.seconds / figure.ratio
        row.figures[phase] = figure
    return row


def _average(pairs: Sequence[tuple[int, float]], cycle: bool) -> float:
    if not cycle:
        return median(value for _, value in pairs)
    groups: dict[int, list[float]] = {}
    for place, value in pairs:
        groups.setdefault(place, []).append(value)
    return fmean(median(values) for values in groups.values())
