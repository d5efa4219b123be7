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
    sets: tuple[str, ...] = ()

    def perform(self) -> Result:
        """Make the run; called in the process of a worker."""
        return run(problem(self.index, self.seed), self.entrant, self.limit, self.sets)

    def lost(self) -> Result:
        """Return the result of a run whose process died."""
        constant, floor = problem(self.index, self.seed).constant()
        return Result(
            problem=self.index,
            entrant=self.entrant.name,
            budget=self.limit.seconds,
            seconds=0.0,
            updates=0,
            exit=1,
            objective=nan,
            constant=constant,
            floor=floor,
            message="the process was lost",
            notes="",
        )


def perform(tasks: Sequence[Task], jobs: int) -> Iterator[Result]:
    """Yield the results of ``tasks`` as they come, from ``jobs`` processes.

    When a process dies, all that run at this moment are lost with it. Each of their tasks is then
    performed once more, alone, which shows whose process it was.
    """
    waiting = iter(tasks)
    while True:
        suspects: list[Task] = []
        yield from _in_a_pool(waiting, jobs, suspects)
        if not suspects:
            return
        for task in suspects:
            guilty: list[Task] = []
            yield from _in_a_pool(iter([task]), 1, guilty)
            yield from (task.lost() for task in guilty)


def _in_a_pool(waiting: Iterator[Task], jobs: int, lost: list[Task]) -> Iterator[Result]:
    """Yield results until no task waits or a process dies; ``lost`` gets the tasks of that moment.

    Not more tasks than processes are handed over, so that those that wait can go to another pool.
    """
    running: dict[Future[Result], Task] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < jobs and not lost and (task := next(waiting, None)):
                running[pool.submit(task.perform)] = task
            if not running:
                return
            for future in wait(running, return_when="FIRST_COMPLETED").done:
                task = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(task)
