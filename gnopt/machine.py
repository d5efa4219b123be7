"""The machine that gnopt runs on: memory, cores, threads and the processor's name.

Everything here asks the operating system and imports nothing, so that any part of the package may
ask before NumPy is loaded.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

# Environment variables by which numerical libraries are told how many threads to use; each library
# reads its own when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_UNKNOWN = 2 * 2**30  # bytes taken to be free where the system does not tell
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (  # of a container: limit and use, in cgroups of version 2 and of version 1
    (_CGROUPS / "memory.max", _CGROUPS / "memory.current"),
    (
        _CGROUPS / "memory/memory.limit_in_bytes",
        _CGROUPS / "memory/memory.usage_in_bytes",
    ),
)


def python_running(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a process of its own.

    The package is the one that runs now. Other modules come from where this Python finds its own:
    neither the working directory nor any folder of a user may bring a ``random.py`` along.
    """
    root = str(Path(__file__).resolve().parents[1])
    start = (
        "import runpy, sys; root, module = sys.argv[1:3]; sys.path.insert(0, root); import gnopt; "
        "sys.path.remove(root); del sys.argv[:2]; "
        "runpy.run_module(module, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-P", "-c", start, root, module, *arguments]


# ---- memory --------------------------------------------------------------------------------------


def free_memory() -> int:
    """Return the bytes that can still be allocated: the least of what the system and its container
    report.
    """
    reports = [_available(), *(_left(limit, used) for limit, used in _LIMITS)]
    known = [report for report in reports if report is not None]
    if known:
        return max(0, min(known))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _available() -> int | None:
    """Return what Linux calls available: free, or used for caches that can be dropped."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _left(limit: Path, used: Path) -> int | None:
    try:
        return int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # there is no limit: no such file, or the word "max"
        return None


def peak_memory() -> int | None:
    """Return the largest resident size of this process so far, in bytes; None where the system does
    not tell.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ---- cores and threads ---------------------------------------------------------------------------


def core_count() -> int | None:
    """Return how many cores the machine has, whether this process may use them or not."""
    return os.cpu_count()


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(core_count() or 1))


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keep a process on these cores, where the system can; no cores leave it free."""
    chosen = set(cores)
    if chosen and hasattr(os, "sched_setaffinity"):
        # The process may have ended already, or the cores may not be ours to give.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, chosen)


def busy_cores(own: int) -> float:
    """Return how many cores other work keeps busy: the load of the last minute less ``own``
    threads.
    """
    try:
        return max(0.0, os.getloadavg()[0] - own)
    except (OSError, AttributeError):
        return 0.0


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment variables that give numerical libraries this many threads."""
    return {name: str(threads) for name in THREAD_VARIABLES}


def chosen_threads() -> dict[str, str]:
    """Return the thread variables that are set in this process's environment."""
    return {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}


# ---- processes -----------------------------------------------------------------------------------


def process_start(pid: int) -> str | None:
    """Return a text that tells this process from a later one with the same number, or None if there
    is no such process, or if the system does not say.
    """
    try:
        # The name, in parentheses, may hold spaces; field 22 is the start, in ticks since the boot.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return None
    ended = after_name[0] in "ZX"
    return None if ended else f"{boot} {after_name[19]}"


def is_alive(pid: int, start: str | None) -> bool:
    """Return whether the process of this machine that began at ``start`` still runs; without a
    ``start``, whether there is a process of this number.
    """
    if start is not None:
        return process_start(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it belongs to somebody else
    return True


# ---- processor -----------------------------------------------------------------------------------


def processor() -> str:
    """Return the processor's name as the system gives it, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
