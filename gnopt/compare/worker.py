"""One run of a comparison, as a process of its own: ``python -m gnopt.compare.worker DIRECTORY
RUN``.

It trains as ``gnopt train`` does, from the newest checkpoint where there is one. Its standard input
is held open by whoever started it: at its end, when that process has died, the worker ends as well;
its checkpoints stay.
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

PATIENCE = 60.0  # seconds to wait for a directory that a dying worker still holds


def train(plan: ComparisonPlan, run: Run) -> None:
    """Make or finish ``run``; raises what training raises. At most its last checkpoint is kept."""
    trainer = _begin(plan, run)
    try:
        run_to_end(trainer)
    finally:
        trainer.experiment.data.close()
    _tidy(trainer.run.checkpoints, trainer.saved if plan.keep else None)


def _begin(plan: ComparisonPlan, run: Run) -> Trainer:
    path, seed = plan.run_path(run), {"training.seed": ("--seed", run.seed)}
    argv = command(plan, run)
    if rundir.is_run(path):
        _wait_for(path)
        return start.resume(plan.problem_path, run.sets, seed, path, Reporter(), argv, check_memory)
    if path.is_dir():  # a start cut short: a run writes run.json before anything of worth
        shutil.rmtree(path)
    return start.begin(
        load(plan.problem_path, run.sets, seed), path, None, False, Reporter(), argv, check_memory
    )


def command(plan: ComparisonPlan, run: Run) -> list[str]:
    """The ``gnopt train`` command that makes the same run."""
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
    """Wait until no other process holds the run, for a while."""
    try:
        import fcntl
    except ImportError:
        return
    end = time.monotonic() + PATIENCE
    with (path / "log.txt").open("a") as log:
        while time.monotonic() < end:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return  # let go of on closing
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
    """Make the run that the arguments name; exit code as of ``gnopt train``, the reason on
    stderr.
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
    except (
        Exception,
        SystemExit,
    ) as error:  # such as a full disk or a plug-in that fails: the others go on
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
