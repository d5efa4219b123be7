"""``gnopt init``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, given_flags, overwrite, print_json, roles, sets, target
from gnopt.errors import ConfigError


@click.command("init")
@click.argument("data", type=click.Path(path_type=Path))
@target
@roles
@sets
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration to write (the name of DATA with .toml, in the working directory).",
)
@overwrite
@as_json
@verbosity
def command(
    data: Path,
    target: str | None,
    group: str | None,
    weights: str | None,
    sets: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Look at DATA, a table or an HDF5 file, and write a commented configuration for it.

    It holds what gnopt train DATA would decide, each line with its reason.
    """
    from gnopt.config import load
    from gnopt.deciding import is_data
    from gnopt.errors import DataError
    from gnopt.files import claim, write_text

    if not data.is_file():
        raise DataError(f"{data}: no such file")
    if not is_data(data):
        raise ConfigError(f"{data}: expected a table or an HDF5 file")
    place = out or Path(f"{data.name.partition('.')[0]}.toml")
    place = claim(place, overwrite, (data,))
    config = load(data, sets, given_flags(target=target, group=group, weights=weights))
    decisions = config.decisions
    assert decisions is not None
    write_text(place, decisions.document(place.parent))
    if as_json:
        print_json({"config": str(place), "decisions": decisions.values()})
        return
    for line in decisions.lines():
        click.echo(line)
    click.echo(f"next: gnopt train {place}")
