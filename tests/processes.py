"""Waiting for child processes: one limit for all tests, far beyond what any of them needs.

``GNOPT_TEST_TIMEOUT`` sets it, in seconds, for machines that are slower still.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

LIMIT = float(os.environ.get("GNOPT_TEST_TIMEOUT", "600"))


def finish(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a child to end; return its stdout and stderr."""
    try:
        return child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        raise


def wait_until(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until a condition holds; fail at once where the child ends before."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < end, f"still waiting after {LIMIT:g} s"
        time.sleep(0.02)


def has_lines(path: os.PathLike[str], count: int) -> bool:
    """Whether a file that another process writes has more than ``count`` lines by now."""
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n") > count
    except FileNotFoundError:
        return False
