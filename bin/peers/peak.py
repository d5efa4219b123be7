"""Peak resident memory of a command: a small process between, so that nobody else's memory is
counted.

``python peak.py RESULT.json COMMAND...``. Linux counts the memory of the process that starts
another as that one's own peak, so a command started from a large process would seem large. This
file imports nothing of gnopt for that reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def main() -> int:
    """Run the command; write its exit code, peak bytes, processor and wall seconds."""
    result, command = sys.argv[1], sys.argv[2:]
    start = time.perf_counter()
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    _, status, usage = os.wait4(child.pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(result, "w") as file:
        json.dump(
            {
                "code": os.waitstatus_to_exitcode(status),
                "peak_bytes": usage.ru_maxrss * unit,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "wall_seconds": time.perf_counter() - start,
            },
            file,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
