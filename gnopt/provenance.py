"""Facts that a result is filed with: the time, the command as given, and the versions in use."""

from __future__ import annotations

import datetime
import platform
import sys

import h5py
import numpy as np
import scipy

from gnopt import __version__


def now() -> str:
    """Return the local time in ISO format, with the time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def command_line() -> list[str]:
    """Return the command as the user gave it, for run.json and the history of a comparison."""
    return ["gnopt", *sys.argv[1:]]


def versions() -> dict[str, str]:
    """Return the versions of gnopt, Python, the numerical libraries and the operating system."""
    return {
        "gnopt": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "h5py": h5py.__version__,
        "platform": platform.platform(),
    }
