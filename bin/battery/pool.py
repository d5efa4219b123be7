"""Runs in processes of their own, several at once; a process that is lost stops nothing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import nan

from battery.problems import problem
from battery.runs import Entrant, Limit, Result, run


@dataclass(frozen=True)
class Task:
    """A run that is still to be made."""

    seed: int
    index: int
    entrant: Entrant
    limit: Limit
    sets: tuple[str, ...]

    def perform(self) -> Result:
        """Make the run; called in the process of a worker."""
        return run(problem(self.index, self.seed), self.entrant, self.limit, self.sets)

    def lost(self) -> Result:
        """Return the result of a run whose process died."""
        return Result(
            self.index, self.entrant.name, self.limit.seconds, 0.0, 0, 1, nan, nan, nan,
            "the process was lost", "",
        )  # fmt: skip


def perform(tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    """Yield the results of ``tasks`` as they come, from ``jobs`` processes."""
    left = list(tasks)
    while left:
        done: set[Task] = set()
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for task, result in _results(pool, left, jobs):
                done.add(task)
                yield result
        left = [task for task in left if task not in done]


def _results(
    pool: ProcessPoolExecutor, tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[Task, Result]]:
    """Yield results until the tasks end or a process is lost, with the lost runs as the last."""
    waiting = iter(tasks)
    running: dict[Future[Result], Task] = {}
    broken = False
    while True:
        while len(running) < jobs and not broken:
            task = next(waiting, None)
            if task is None:
                break
            running[pool.submit(task.perform)] = task
        if not running:
            return
        for future in wait(running, return_when="FIRST_COMPLETED").done:
            task = running.pop(future)
            try:
                yield task, future.result()
            except BrokenProcessPool:
                broken = True
                yield task, task.lost()
