"""Flags that several commands share, and how they reach the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click

from gnopt.cli import verbosity

Command = TypeVar("Command", bound=Callable[..., object])

# Flag → the key it sets.
KEYS = {
    "data": "data.file",
    "seed": "training.seed",
    "device": "training.device",
    "dtype": "training.dtype",
    "max_updates": "training.updates",
    "max_seconds": "training.max_seconds",
}

quiet = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
as_json = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else."
)
sets = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override a setting; repeatable.",
)
run_argument = click.argument("run", type=click.Path(path_type=Path))


def problem_flags(command: Command) -> Command:
    """The flags of every command that reads a configuration."""
    return _decorated(command, [*_PROBLEM, *_OUTPUT])


def config_flags(command: Command) -> Command:
    """The flags that train, compare and inspect-curvature share."""
    out = click.option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="Output directory."
    )
    return _decorated(command, [*_PROBLEM, out, *_OUTPUT])


_PROBLEM = [
    sets,
    click.option("--data", metavar="FILE", help="Data file (data.file)."),
    click.option("--seed", type=int, help="Seed (training.seed)."),
    click.option("--device", metavar="cpu|cuda|cuda:N", help="Device (training.device)."),
    click.option("--dtype", metavar="float32|float64", help="Precision (training.dtype)."),
]
_OUTPUT = [as_json, quiet, verbosity]


def _decorated(command: Command, decorators: Sequence[Callable[[Command], Command]]) -> Command:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def given_flags(**values: object) -> dict[str, tuple[str, object]]:
    """Key → (flag, value) for the flags that were given, as `gnopt.config.load` takes them."""
    return {
        KEYS[name]: (f"--{name.replace('_', '-')}", value)
        for name, value in values.items()
        if value is not None
    }


def print_json(result: Mapping[str, object]) -> None:
    """Write one JSON object to stdout; numbers that are not finite, which JSON lacks, become
    null.
    """
    click.echo(json.dumps(_finite(result)))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def table(rows: list[tuple[str, str]]) -> str:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def size(number: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
