"""Flags and output that several commands share."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click

from gnopt.cli import verbosity
from gnopt.cli.sections import under
from gnopt.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., object])


def _keys(incomplete: str) -> list[str]:
    """Return the keys of --set that begin so, for the completion of a shell."""
    from gnopt.settings import DEFAULT_METHOD, sections

    keys = (
        f"{name}.{option.name}="
        for name, part in sections(DEFAULT_METHOD).items()
        for option in part
    )
    return [key for key in keys if key.startswith(incomplete)]


quiet = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
as_json = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else."
)
sets = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    shell_complete=lambda ctx, param, incomplete: _keys(incomplete),
    help="Override a setting; repeatable.",
)
which_checkpoint = click.option(
    "--checkpoint",
    "which",
    metavar="best|latest|STEP",
    help="Which weights; default: the best by the validation rows, or by the training objective "
    "without them.",
)
member = click.option(
    "--member", type=click.IntRange(1), metavar="N", help="One network of RUN, an ensemble."
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace files that exist.")


follow_links = click.option(
    "--follow-links",
    is_flag=True,
    default=None,
    help="Read data that refers to other files (data.follow_links).",
)


def _allow_plug_ins(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    from gnopt import plug_ins

    if value:
        plug_ins.allow_everything()


allow_plugins = click.option(
    "--allow-plugins",
    is_flag=True,
    expose_value=False,
    callback=_allow_plug_ins,
    help="Run the Python files that a received configuration or run names as plug-ins.",
)
run_argument = click.argument("run", type=click.Path(path_type=Path))


def problem_flags(command: Command) -> Command:
    """Add the flags of every command that reads a configuration."""
    return _decorated(command, [*_PROBLEM, *_OUTPUT])


def config_flags(command: Command) -> Command:
    """Add the flags that train, compare, config and inspect-curvature share."""
    out = click.option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="Output directory."
    )
    return _decorated(command, [*_PROBLEM, out, *_OUTPUT])


_SETTINGS = [
    sets,
    allow_plugins,
    click.option("--data", metavar="FILE", help="Data file (data.file)."),
    click.option("--seed", type=int, help="Seed (training.seed)."),
    click.option("--device", metavar="cpu|cuda|cuda:N", help="Device (training.device)."),
    click.option("--dtype", metavar="float32|float64", help="Precision (training.dtype)."),
]
_PROBLEM = [under("Settings", *_SETTINGS)]
_OUTPUT = [as_json, quiet, verbosity]


def _decorated(command: Command, decorators: Sequence[Callable[[Command], Command]]) -> Command:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def given_flags(**values: object) -> dict[str, tuple[str, object]]:
    """Return {key: (flag, value)} of the flags that the user gave, for `gnopt.config.load`."""
    from gnopt.settings import SHORT_NAMES

    return {
        SHORT_NAMES[name]: (f"--{name.replace('_', '-')}", value)
        for name, value in values.items()
        if value is not None
    }


def roles(command: Command) -> Command:
    """Add the flags that say what the columns of a file of data are for, beside its target."""
    return _decorated(
        command,
        [
            click.option(
                "--group",
                metavar="NAME",
                help="With DATA: rows with the same value, such as a patient, are held out "
                "together.",
            ),
            click.option("--weights", metavar="NAME", help="With DATA: the weight of each row."),
        ],
    )


target = click.option(
    "--target",
    metavar="NAME",
    help="With DATA: the column, or dataset, to predict; several are joined by commas, and "
    "'inputs' trains an autoencoder.",
)


def of_member(run: Path, number: int | None) -> Path:
    """Return the run directory of a member of the ensemble ``run``; ``run`` itself without a
    number.
    """
    from gnopt.training.rundir import members

    if number is None:
        return run
    found = {int(path.name): path for path in members(run)}
    if number not in found:
        numbers = ", ".join(map(str, found)) or "none, as it is no ensemble"
        raise ConfigError(f"--member {number}: the members of {run} are {numbers}")
    return found[number]


def claim_beside(runs: Iterable[Path], out: Path, overwrite: bool, *inputs: Path) -> Path:
    """Return where a command that reads ``runs`` and ``inputs`` is to write ``out``.

    Raises ConfigError for a file that exists, without ``overwrite``, and for files of the runs,
    their data and ``inputs`` in any case.
    """
    from gnopt.files import claim
    from gnopt.training.rundir import own_files

    kept = [file for run in runs for file in own_files(run)]
    return claim(out, overwrite, [*kept, *inputs])


@contextlib.contextmanager
def from_stdin(data: Path) -> Iterator[Path]:
    """Give the ``with`` block the path of a file with what comes on stdin if ``data`` is "-", else
    ``data``.
    """
    if str(data) != "-":
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
        file = Path(folder) / "stdin.csv"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        yield file


def print_json(result: Mapping[str, object]) -> None:
    """Print one JSON object; NaN and infinities become null, because JSON has no such numbers."""
    click.echo(json.dumps(_finite(result)))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def tell(told: Sequence[str], which: str | None) -> None:
    """Say on stderr which network is handed out and why, where the user left it open."""
    if which is None:
        warn(told)


def warn(lines: Iterable[str]) -> None:
    """Print lines that the user should see beside the result, on stderr."""
    for line in lines:
        click.echo(f"note: {line}", err=True)


def table(rows: list[tuple[str, str]]) -> str:
    """Return rows of two cells as two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
