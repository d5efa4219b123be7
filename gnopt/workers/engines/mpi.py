"""Make runs on the nodes of a cluster, through mpi4py's pool of MPI processes.

Start one process more than there are runs at a time; the first process only hands out work:

    mpiexec -n 9 python -m mpi4py.futures -m gnopt compare CONFIG --methods ... --engine mpi
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnopt.errors import GnoptError
from gnopt.workers.child import Task, perform
from gnopt.workers.cores import Allocation
from gnopt.workers.engines import TaskEnded


class MpiEngine:
    """Uses `mpi4py.futures.MPIPoolExecutor`; all nodes must see the comparison's directory."""

    name = "mpi"
    summary = "MPI processes, through mpi4py.futures"

    def check(self) -> None:
        """Raise GnoptError without mpi4py or an MPI library."""
        _pool()

    def run(self, tasks: Sequence[Task], allocation: Allocation, ended: TaskEnded) -> None:
        """Perform as many tasks at a time as MPI has free processes."""
        from concurrent.futures import as_completed

        with _pool()() as pool:
            waiting: dict[Any, Task] = {pool.submit(perform, task): task for task in tasks}
            for future in as_completed(waiting):
                ended(waiting[future], future.result())


def _pool() -> Any:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI library
        raise GnoptError(
            f"--engine mpi needs mpi4py and an MPI library: pip install 'gnopt[mpi]' ({error})"
        ) from None
    return MPIPoolExecutor


ENGINE = MpiEngine()
