"""Make one run of a comparison: ``python -m gnopt.compare.worker DIRECTORY RUN``.

The process trains as ``gnopt train`` does, from the newest checkpoint if there is one. The process
that starts a worker holds the worker's standard input open. When the input ends, because the other
process died, the worker ends too; its checkpoints stay.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from gnopt.compare.plan import ComparisonPlan, Run, read_plan
from gnopt.config import load
from gnopt.errors import GnoptError
from gnopt.training import checkpoint, rundir, start
from gnopt.training.estimate import check_memory
from gnopt.training.loop import Reporter, Trainer, run_to_end

PATIENCE = 60.0  # seconds to wait until an earlier, dying worker releases its run directory


def train(plan: ComparisonPlan, run: Run) -> None:
    """Make or finish ``run``, and keep at most its last checkpoint; raises what training raises."""
    trainer = _begin(plan, run)
    try:
        run_to_end(trainer)
    finally:
        trainer.experiment.data.close()
    _tidy(trainer.run.checkpoints, trainer.saved if plan.keep else None)


def _begin(plan: ComparisonPlan, run: Run) -> Trainer:
    path, seed = plan.run_path(run), {"training.seed": ("--seed", run.seed)}
    argv = train_command(plan, run)
    if rundir.is_run(path):
        _wait_for(path)
        return start.resume(plan.problem_path, run.sets, seed, path, Reporter(), argv, check_memory)
    if path.is_dir():  # an interrupted start: run.json is the first file that a run writes
        shutil.rmtree(path)
    return start.begin(
        load(plan.problem_path, run.sets, seed), path, None, False, Reporter(), argv, check_memory
    )


def train_command(plan: ComparisonPlan, run: Run) -> list[str]:
    """Return the ``gnopt train`` command that makes the same run."""
    sets = [part for text in run.sets for part in ("--set", text)]
    return [
        "gnopt",
        "train",
        str(plan.problem_path),
        *sets,
        "--seed",
        str(run.seed),
        "--out",
        str(plan.run_path(run)),
    ]


def _wait_for(path: Path) -> None:
    """Wait until no other process locks the run, but no longer than ``PATIENCE``."""
    try:
        import fcntl
    except ImportError:
        return
    end = time.monotonic() + PATIENCE
    with (path / "log.txt").open("a") as log:
        while time.monotonic() < end:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return  # closing the file releases the lock
            except BlockingIOError:
                time.sleep(0.2)
            except OSError:
                return


def _tidy(folder: Path, last: Path | None) -> None:
    for path in checkpoint.listed(folder):
        if last is None or path.name != last.name:
            path.unlink()
    for pointer in ("latest", "best"):
        if checkpoint.pointed(folder, pointer) is None:
            (folder / pointer).unlink(missing_ok=True)


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(1)


def main() -> int:
    """Make the run named by the arguments; return the exit code of ``gnopt train``.

    The reason of a failure is printed to stderr.
    """
    directory, name = Path(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        plan = read_plan(directory)
        train(plan, next(run for run in plan.runs if run.id == name))
    except GnoptError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    # A full disk, a failing plug-in, anything: the other runs go on.
    except (Exception, SystemExit) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
