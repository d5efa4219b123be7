"""What every figure shares: matplotlib without a display, and files that appear whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnopt.errors import ConfigError
from gnopt.training.files import write_atomically


def new_figure(width: float, height: float) -> Any:
    """A figure of this size in inches; ConfigError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib, which the extra 'plot' installs: "
                          f"pip install 'gnopt[plot]' ({error})") from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure in the format of the suffix (png, pdf, svg); ConfigError for any other."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in ("png", "pdf", "svg"):
        raise ConfigError(f"{path}: the suffix {path.suffix!r} names no picture format; "
                          "expected .png, .pdf or .svg")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=suffix, dpi=150))
