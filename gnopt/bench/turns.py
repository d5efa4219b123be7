"""Rounds in which the methods take turns, and what an update costs on average over a period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from gnopt.bench.product_rate import ProductRate
from gnopt.bench.timed_method import TimedMethod, TimedUpdate
from gnopt.errors import Diverged

DEAR = 10.0  # a method of this many times the flops of the cheapest sits out rounds


@dataclass(frozen=True)
class Reading:
    """A timed update with the rate of matrix products around it, in flops per second."""

    update: TimedUpdate
    rate: float


@dataclass(frozen=True)
class UpdateCost:
    """What an update of a method costs once its periods are reached.

    ``phases`` is name of a phase → seconds and ``work`` → flops; these, ``flops`` of the whole and
    ``state_bytes`` are those of the account of cost. ``share`` is flops per second over the rate of
    matrix products; ``updates`` says how many updates were timed.
    """

    method: str
    seconds: float
    phases: dict[str, float]
    work: dict[str, float]
    flops: float
    share: float
    state_bytes: int
    updates: int
    period: int


def take_turns(
    methods: Sequence[TimedMethod], rate: ProductRate, rounds: int, note: Callable[[str], None]
) -> tuple[list[UpdateCost], dict[str, str]]:
    """Time ``rounds`` updates of each method in turn; return costs, and why a method has none."""
    readings: dict[str, list[Reading]] = {}
    failed: dict[str, str] = {}
    turns = turns_of(methods)
    for method in methods:
        note(f"first updates of {method.name}")
        try:
            method.settle()
        except Diverged as error:
            failed[method.name] = f"diverged: {error}"
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        before = rate.measure()
        for method in methods:
            if method.name in failed or number % turns[method.name]:
                continue
            try:
                update = method.measure()
            except Diverged as error:
                failed[method.name] = f"diverged: {error}"
                continue
            after = rate.measure()
            reading = Reading(update, 0.5 * (before + after))
            readings.setdefault(method.name, []).append(reading)
            before = after
    costs = [average(m, readings[m.name]) for m in methods if m.name not in failed]
    return costs, failed


def turns_of(methods: Sequence[TimedMethod]) -> dict[str, int]:
    """Return {method: rounds between its updates}: 1, or more for very expensive updates."""
    flops = {method.name: method.optimizer.cost(method.rows).flops for method in methods}
    cheapest = min(flops.values())
    return {name: max(1, round(own / (DEAR * cheapest))) for name, own in flops.items()}


def average(method: TimedMethod, readings: Sequence[Reading]) -> UpdateCost:
    """Return the mean over a period of the medians at each place; undone steps do not count."""
    used = [r for r in readings if not r.update.rejected] or readings
    cost, period = method.optimizer.cost(method.rows), method.optimizer.period()
    phases = dict.fromkeys(name for r in used for name in r.update.phases)

    def over_period(value: Callable[[Reading], float]) -> float:
        places: dict[int, list[float]] = {}
        for reading in used:
            places.setdefault(reading.update.place, []).append(value(reading))
        return fmean(median(values) for values in places.values())

    def in_phase(name: str) -> float:
        return over_period(lambda r: r.update.phases.get(name, 0.0))

    possible = over_period(lambda r: r.update.seconds * r.rate)  # flops, at the rate of products
    return UpdateCost(
        method.name,
        over_period(lambda r: r.update.seconds),
        {name: in_phase(name) for name in phases},
        cost.phases,
        cost.flops,
        cost.flops / possible,
        int(cost.state),
        len(used),
        period,
    )
