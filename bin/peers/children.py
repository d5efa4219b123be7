"""Commands in processes of their own, with their peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnopt.errors import GnoptError

PEAK = Path(__file__).with_name("peak.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it took."""

    code: int
    peak_bytes: int
    cpu_seconds: float
    wall_seconds: float
    output: str


def run(
    command: Sequence[str], stop: Callable[[], bool] = lambda: False, poll: float = 0.3
) -> Ended:
    """Run ``command``, asking ``stop`` now and then whether to end it by SIGTERM; GnoptError if it
    fails otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="gnopt-benchmark-") as folder:
        result, output, errors = (
            Path(folder) / name for name in ("result.json", "output", "errors")
        )
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", str(PEAK), str(result), *command],
                stdout=out,
                stderr=err,
            )
            stopped = False
            try:
                while process.poll() is None:
                    time.sleep(poll)
                    if not stopped and stop():
                        process.terminate()
                        stopped = True
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        if not result.is_file():
            raise GnoptError(
                f"{' '.join(command)}: the process was lost: {errors.read_text()[-2000:]}"
            )
        ended = Ended(**json.loads(result.read_text()), output=output.read_text())
        if ended.code and not stopped:
            raise GnoptError(
                f"{' '.join(command)}: exit code {ended.code}: {errors.read_text()[-2000:]}"
            )
        return ended
