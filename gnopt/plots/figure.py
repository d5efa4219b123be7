"""The base of every figure: matplotlib without a display, one style, files written atomically."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from gnopt.errors import ConfigError, GnoptError
from gnopt.files import replacement
from gnopt.notes import note
from gnopt.optimizers import methods
from gnopt.training.rundir import read_info

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

Drawing = ParamSpec("Drawing")
FORMATS = ("png", "pdf", "svg")
# The colours of Okabe and Ito (2008), which colour-blind readers can tell apart: dark ones first,
# without the pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "gnopt",
    "font.family": "sans-serif",
}


@contextmanager
def style() -> Iterator[None]:
    """Use the style of gnopt's figures inside the ``with`` block; GnoptError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise _absent(error) from None
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches; GnoptError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _absent(error) from None
    return Figure(figsize=(width, height), layout="constrained")


def _absent(error: ImportError) -> GnoptError:
    return GnoptError(f"figures need matplotlib: pip install 'gnopt[plot]' ({error})")


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix names the format: png, pdf or svg. ConfigError for any other."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise ConfigError(
            f"{path}: the suffix {path.suffix!r} names no picture format; "
            "expected .png, .pdf or .svg"
        )
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150, metadata=dated)


def save_all(figure: Figure, path: Path) -> list[Path]:
    """Write a figure, as PNG and SVG if ``path`` has no suffix; return the files."""
    paths = picture_files(path)
    for each in paths:
        save(figure, each)
    return paths


def picture_files(path: Path) -> list[Path]:
    """Return the files that `save_all` writes for ``path``."""
    if path.suffix:
        return [path]
    return [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]


def colour(index: int) -> str:
    """Return the ``index``-th colour; the colours repeat."""
    return COLOURS[index % len(COLOURS)]


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Return name → colour for the lines of one figure.

    A method has the same colour in every figure, its own. Other names, and methods without a colour
    of their own, get colours that are free in this figure, in the order of ``names``.
    """
    table = methods()
    own = {name: table[name].colour if name in table else "" for name in names}
    unused = [shade for shade in COLOURS if shade not in own.values()]
    free = itertools.cycle(unused or COLOURS)
    return {name: shade or next(free) for name, shade in own.items()}


def lighter(base: str, place: int, count: int) -> str:
    """Return the colour of one of ``count`` lines that share a base colour: the first has the base,
    the others are lighter and lighter.
    """
    white = 0.7 * place / max(1, count - 1)
    parts = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + white * (255 - part)):02X}" for part in parts)


def log_axis(axis: XAxis | YAxis) -> None:
    """Make an ``Axis`` (x or y) logarithmic, with plain numbers at ticks even within a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("log")
    low, high = sorted(axis.get_view_interval())
    ratio = high / low if low > 0 else 1e9
    steps: tuple[float, ...] = (1,)
    for longest, digits in (
        (300, (1, 3)),
        (30, (1, 2, 5)),
        (12, (1, 1.5, 2, 3, 5, 7)),
        (3, (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)),
    ):
        if ratio < longest:
            steps = digits
    if ratio >= 1.6:
        axis.set_major_locator(LogLocator(subs=steps, numticks=14))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:  # the axis is too short for two such ticks: use evenly spaced numbers
        from matplotlib.ticker import MaxNLocator, NullLocator

        axis.set_major_locator(MaxNLocator(6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plain(name: str) -> str:
    """Return a user's name as matplotlib has to be given it: ``$`` would begin a formula, ``_``
    at the start would leave it out of the legend, and some characters cannot be drawn.
    """
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def drawn(
    what: str, draw: Callable[Drawing, list[Path]], *args: Drawing.args, **more: Drawing.kwargs
) -> list[Path]:
    """Call ``draw`` and return its files; a failure of the drawing costs this figure alone.

    It is said in a note with ``what`` was to be drawn. What gnopt itself refuses, such as a run
    without updates, stays an error.
    """
    try:
        return draw(*args, **more)
    except (GnoptError, ImportError):
        raise
    except Exception as error:  # matplotlib meets a user's names and numbers here
        reason = str(error).strip().splitlines()
        note(f"no {what}: {type(error).__name__}: {reason[0] if reason else 'failed'}")
        return []


def legend_below(figure: Figure, axes: Axes) -> None:
    """Draw one legend, of the lines in ``axes``, below all panels of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    legend(figure, handles, labels)


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Draw a legend of these lines and names below all panels, in as many columns as fit."""
    labels = [plain(label) for label in labels]
    if handles:
        longest = 0.068 * max(len(label) for label in labels) + 0.6  # inches, about
        columns = max(1, min(len(handles), int(figure.get_figwidth() / longest)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def colours_of_runs(runs: Sequence[Path]) -> list[str]:
    """Return a colour for each run directory: that of its method, lighter for each further run of
    the same method.
    """
    used = [str(read_info(run).get("method", "")) for run in runs]
    bases = colours_of(dict.fromkeys(used))
    return [
        lighter(bases[method], used[:place].count(method), used.count(method))
        for place, method in enumerate(used)
    ]


def distinct(runs: Sequence[Path]) -> list[str]:
    """Return the names of run directories, with their parents' names if two are the same."""
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [
            f"{run.resolve().parent.name}/{name}" for run, name in zip(runs, names, strict=True)
        ]
    # matplotlib leaves lines out of the legend whose names begin with _.
    return [f" {name}" if name.startswith("_") else name for name in names]
