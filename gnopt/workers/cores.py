"""Share the machine's cores out among runs, so that their times can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from gnopt.machine import usable_cores


@dataclass(frozen=True)
class Allocation:
    """What each run gets of the machine."""

    jobs: int  # runs at a time
    threads: int  # of each run
    cores: int  # of the machine, for all runs together
    engine: str = "local"
    gpus: tuple[str, ...] = ()  # that the runs use

    @property
    def pinned(self) -> bool:
        """Whether each run has cores of its own."""
        return self.jobs * self.threads <= self.cores

    def slots(self) -> list[tuple[int, ...]]:
        """Return the cores of each job; empty tuples if there are too few for each to have own."""
        if not self.pinned:
            return [()] * self.jobs
        usable = usable_cores()
        return [tuple(usable[i * self.threads : (i + 1) * self.threads]) for i in range(self.jobs)]

    def text(self) -> str:
        """Return the allocation in words, for the summary."""
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
