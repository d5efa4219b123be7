"""One bench in this process: open the problem, let the methods take turns, gather the result."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gnopt import machine, optimizers
from gnopt.bench.entrants import BenchRequest, build_methods, read_config
from gnopt.bench.made_problem import FULL, QUICK, write
from gnopt.bench.product_rate import ProductRate
from gnopt.bench.timed_method import TimedMethod
from gnopt.bench.turns import UpdateCost, take_turns
from gnopt.errors import Diverged
from gnopt.training.batches import Batches
from gnopt.training.setup import build


@dataclass(frozen=True)
class ProblemFacts:
    """What was timed, for the headline and for JSON."""

    network: list[int]
    loss: str
    batch: int
    dtype: str
    device: str
    processor: str
    method: str  # the configured one
    auto: str = ""  # which method is taken where the method is left open, and why


@dataclass(frozen=True)
class BenchResult:
    """What updates cost in one process, dearest last, and why a method was left out.

    ``threads`` is the number of threads that linear algebra had.
    """

    problem: ProblemFacts
    threads: int
    costs: list[UpdateCost]
    left_out: dict[str, str]

    def cost_of(self, method: str) -> UpdateCost | None:
        """Return the cost of this method's update, or None if it was not timed."""
        return next((cost for cost in self.costs if cost.method == method), None)


@contextlib.contextmanager
def configuration(config: Path | None, quick: bool) -> Iterator[Path]:
    """Give the ``with`` block the path of ``config``, or of a temporary built-in problem."""
    if config is not None:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="gnopt-bench-") as folder:
        yield write(QUICK if quick else FULL, Path(folder))


def run_bench(request: BenchRequest, rounds: int, note: Callable[[str], None]) -> BenchResult:
    """Time the methods of ``request`` in ``rounds`` rounds.

    Raises ConfigError and DataError for the problem, Diverged where no method could be timed.
    """
    experiment = build(read_config(request))
    batches = Batches(experiment.data.train, experiment.loss, experiment.ops)
    try:
        built, left_out = build_methods(request, experiment)
        methods = [TimedMethod(name, o, experiment, batches) for name, o in built.items()]
        rate = ProductRate(experiment.ops, experiment.net.dtype)
        costs, failed = take_turns(methods, rate, rounds, note)
    finally:
        batches.close()
        experiment.data.close()
    if not costs:
        raise Diverged("; ".join(f"{name} {reason}" for name, reason in failed.items()))
    training = experiment.config.training
    facts = ProblemFacts(
        list(experiment.net.sizes),
        experiment.config.network.loss,
        min(training.batch_size, experiment.data.train.rows),
        training.dtype,
        training.device,
        machine.processor(),
        experiment.config.method,
        optimizers.choose(experiment.optimizer.problem, 0.0)[1],
    )
    dearest_last = sorted(costs, key=lambda cost: cost.seconds)
    return BenchResult(facts, blas_threads(), dearest_last, left_out | failed)


def blas_threads() -> int:
    """Return the threads of linear algebra: as the environment says, or one for each core."""
    given = (int(text) for text in machine.chosen_threads().values() if text.isdigit())
    return next(given, len(machine.usable_cores()))
