"""Make runs in worker processes on this machine, each on its own cores."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from gnopt.errors import Interrupted
from gnopt.training.signals import Signals
from gnopt.workers.child import Task, WorkerExit, perform
from gnopt.workers.cores import Allocation
from gnopt.workers.engines import TaskEnded


class LocalEngine:
    """A pool of threads; each starts one worker process at a time and waits for it."""

    name = "local"
    summary = "worker processes on this machine"

    def check(self) -> None:
        """Do nothing: this engine needs only gnopt itself."""

    def run(self, tasks: Sequence[Task], allocation: Allocation, ended: TaskEnded) -> None:
        """Perform ``allocation.jobs`` tasks at a time.

        Raises Interrupted when a signal arrives, once all workers have stopped.
        """
        slots: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
        for slot in allocation.slots():
            slots.put(slot)
        workers = _Workers()
        # With several GPUs, too, a run gets an equal part of a GPU's memory: which runs will meet
        # on one GPU is not known beforehand.
        sharing = min(allocation.jobs, len(tasks)) if allocation.gpus else 1

        def one(task: Task) -> WorkerExit | None:
            slot = slots.get()
            try:
                return (
                    None
                    if workers.stopped
                    else perform(replace(task, cores=slot, sharing=sharing), workers.add)
                )
            finally:
                slots.put(slot)

        with ThreadPoolExecutor(allocation.jobs) as pool, Signals() as signals:
            waiting: dict[Future[WorkerExit | None], Task] = {
                pool.submit(one, task): task for task in tasks
            }
            while waiting:
                done, _ = wait(waiting, timeout=0.3, return_when=FIRST_COMPLETED)
                if signals.received is not None:
                    workers.stop()
                for future in done:
                    task, worker_exit = waiting.pop(future), future.result()
                    if worker_exit is not None:
                        ended(task, worker_exit)
        if signals.received is not None:
            raise Interrupted(f"{signal.Signals(signals.received).name}: stopped", signals.received)


class _Workers:
    """The worker processes that run now. After ``stop``, new ones are terminated at once."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Add a process that has just started."""
        with self._lock:
            self._running = [p for p in self._running if p.poll() is None] + [process]
            if self.stopped:
                process.terminate()

    def stop(self) -> None:
        """Ask every worker, once, to write a checkpoint and end."""
        with self._lock:
            if not self.stopped:
                self.stopped = True
                for process in self._running:
                    process.terminate()


ENGINE = LocalEngine()
