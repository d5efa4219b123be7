"""The double under the name ``cupy``, for child processes: with ``cupy_double/site`` and ``tests``
on PYTHONPATH (`cupy_double.python_path`), ``import cupy`` finds the double instead of the wheel.

``GNOPT_DOUBLE_DEVICES`` is how many devices there are (1), or ``none`` for a machine without CuPy.
At its end a process that asked for CuPy appends a line to the file ``GNOPT_DOUBLE_LOG``: its
command line, what crossed the bus, the device it was on, and ``contexts``, how often it did what
makes CUDA set up a context, which takes memory of the device.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import sys

_COUNT = os.environ.get("GNOPT_DOUBLE_DEVICES", "1")
if _COUNT == "none":
    raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

from cupy_double.counters import COUNTERS  # noqa: E402 (a machine without CuPy has no double of it either)
from cupy_double.modules import Device, build  # noqa: E402

_contexts = 0


def _noted(function):
    def call(self):
        global _contexts
        _contexts += 1
        return function(self)

    return call


def _log() -> None:
    line = {
        "argv": sys.argv,
        "device": Device.current,
        "contexts": _contexts,
        "limit": os.environ.get("CUPY_GPU_MEMORY_LIMIT"),
        **dataclasses.asdict(COUNTERS),
    }
    with open(
        os.environ["GNOPT_DOUBLE_LOG"], "ab", buffering=0
    ) as file:  # one write: workers share the file
        file.write((json.dumps(line) + "\n").encode())


if "GNOPT_DOUBLE_LOG" in os.environ:
    Device.use, Device.synchronize = _noted(Device.use), _noted(Device.synchronize)
    Device.mem_info = property(_noted(Device.mem_info.fget))
    atexit.register(_log)
sys.modules.update(build(int(_COUNT), driver=13020 if _COUNT != "0" else 0, version=None))
