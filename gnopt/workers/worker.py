"""The process that makes one run: it trains as ``gnopt train`` does, from the newest checkpoint if
there is one.

The process that starts a worker holds the worker's standard input open. When the input ends,
because the other process died, the worker ends too; its checkpoints stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from gnopt import plug_ins
from gnopt.config import Flags, load
from gnopt.errors import GnoptError
from gnopt.files import inside
from gnopt.notes import shown_by
from gnopt.training import rundir, start
from gnopt.training.estimate import check_memory
from gnopt.training.loop import Reporter, Trainer, run_to_end

PATIENCE = 60.0  # seconds to wait until an earlier, dying worker releases its run directory


def make_run(
    config: Path,
    sets: Sequence[str],
    flags: Flags,
    out: Path,
    argv: list[str],
    init_from: Path | None = None,
) -> Trainer:
    """Make the run in ``out``, or finish it, and return its trainer; raises what training raises.

    ``config``, ``sets`` and ``flags`` are its configuration, and ``argv`` the command that makes
    the same run. A new run begins with the weights of the checkpoint ``init_from``, if given.
    """
    trainer = _begin(config, sets, flags, out, argv, init_from)
    try:
        run_to_end(trainer)
    finally:
        trainer.experiment.data.close()
    return trainer


def _begin(
    config: Path,
    sets: Sequence[str],
    flags: Flags,
    out: Path,
    argv: list[str],
    init_from: Path | None,
) -> Trainer:
    if rundir.is_run(out):
        _wait_for(out)
        return start.resume(config, tuple(sets), flags, out, Reporter(), argv, check_memory)
    loaded = load(config, sets, flags)
    return start.begin(loaded, out, init_from, False, Reporter(), argv, check_memory)


def _wait_for(path: Path) -> None:
    """Wait until no other process locks the run, but no longer than ``PATIENCE``."""
    try:
        import fcntl
    except ImportError:
        return
    end = time.monotonic() + PATIENCE
    with inside(path, "log.txt").open("a") as log:
        while time.monotonic() < end:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return  # closing the file releases the lock
            except BlockingIOError:
                time.sleep(0.2)
            except OSError:
                return


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(1)


def serve(make: Callable[[Path, str], object]) -> int:
    """Call ``make`` with the directory and the name of a run, as the arguments of the process say.

    A third argument says which plug-ins to load first.

    Returns the exit code of ``gnopt train``. The reason of a failure is printed to stderr.
    """
    directory, name, files = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    warnings.simplefilter("ignore")  # what comes on stderr is the reason of a failure
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with shown_by(lambda text: None):  # notes on the run stand in its log
            plug_ins.load_recorded(files)
            make(directory, name)
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
