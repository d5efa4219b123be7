"""``gnopt export``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import (
    allow_plugins,
    as_json,
    claim_beside,
    member,
    of_member,
    overwrite,
    print_json,
    run_argument,
    tell,
    warn,
    which_checkpoint,
)


@click.command("export")
@run_argument
@click.argument("out", type=click.Path(path_type=Path))
@which_checkpoint
@member
@overwrite
@allow_plugins
@as_json
@verbosity
def command(
    run: Path, out: Path, which: str | None, member: int | None, overwrite: bool, as_json: bool
) -> None:
    """Write the network of RUN to OUT, whose suffix names the format: .onnx, .c, .f90, .h5 or .npz.

    .onnx, .c (C99) and .f90 (Fortran 2008) take raw inputs and give predictions with their standard
    deviation where that is known, .c and .f90 derivatives too. Of an ensemble, they give the mean
    of all predictions; .h5 and .npz hold the weights of every network.
    """
    from gnopt.ensemble.load import load_stored
    from gnopt.export import format_of

    run = of_member(run, member)
    target = claim_beside([run], out, overwrite)
    stored = load_stored(run, which)
    form = format_of(target)
    form.write(stored.content(), target)
    if as_json:
        print_json({"out": str(out), **stored.facts()})
    else:
        click.echo(f"{out}: {stored.title()}")
        if step := form.next_step(out):
            click.echo(f"next: {step}")
    tell(stored.told(), which)
    warn(stored.shortcomings())
