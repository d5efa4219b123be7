"""Which processor cores each run of a comparison may use, so that times mean what they say."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def available() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Share:
    """What each of ``jobs`` runs at a time gets out of ``cores``, and the ``gpus`` that they
    use.
    """

    jobs: int
    threads: int
    cores: int
    engine: str = "local"
    gpus: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether each run has cores of its own."""
        return self.jobs * self.threads <= self.cores

    def slots(self) -> list[tuple[int, ...]]:
        """The cores of each job; empty where they are not its own."""
        if not self.pinned:
            return [()] * self.jobs
        found = available()
        return [tuple(found[i * self.threads : (i + 1) * self.threads]) for i in range(self.jobs)]

    def text(self) -> str:
        """In words, as the summary states it."""
        return self._of_cores() + self._of_gpus()

    def _of_gpus(self) -> str:
        if not self.gpus:
            return ""
        names = ", ".join(self.gpus)
        if self.jobs == 1:  # with MPI, as many as there are workers on a machine
            return f", on {names}"
        return f", taking turns on {names}: the more runs at a time, the more seconds each"

    def _of_cores(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.engine != "local":
            return f"as many runs at a time as {self.engine} has workers, {threads} each"
        if self.jobs == 1:
            return f"one run at a time, {threads}, {self.cores} cores"
        own = (
            f"{self.threads} of {self.cores} cores each"
            if self.pinned
            else f"{self.cores / self.jobs:.2g} of {self.cores} cores each: fewer than threads"
        )
        return f"{self.jobs} runs at a time, {threads} each, {own}"


def environment(threads: int) -> dict[str, str]:
    """The variables that give BLAS this many threads."""
    return {name: str(threads) for name in THREADS}


def pin(pid: int, cores: tuple[int, ...]) -> None:
    """Keep a process that has just started on these cores, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(
            OSError
        ):  # it may have ended already, or the cores are not ours to give
            os.sched_setaffinity(pid, cores)


def busy(own: int) -> float:
    """Cores that other work keeps busy, about: the load of the last minute less ``own`` threads."""
    try:
        return max(0.0, os.getloadavg()[0] - own)
    except (OSError, AttributeError):
        return 0.0
