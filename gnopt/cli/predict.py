"""``gnopt predict``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import (
    allow_plugins,
    as_json,
    claim_beside,
    follow_links,
    given_flags,
    member,
    of_member,
    overwrite,
    print_json,
    run_argument,
    tell,
    warn,
    which_checkpoint,
)


@click.command("predict")
@run_argument
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--layer",
    default="output",
    show_default=True,
    metavar="output|logits|code|N",
    help="Predicted means, h_L, the narrowest hidden layer, or layer N.",
)
@which_checkpoint
@member
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Device.")
@overwrite
@follow_links
@allow_plugins
@as_json
@verbosity
def command(
    run: Path,
    data: Path,
    out: Path,
    layer: str,
    which: str | None,
    member: int | None,
    device: str | None,
    follow_links: bool | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Apply the network of RUN to every row of DATA; the result OUT is itself a data file
    (`/x`).

    An ensemble predicts the mean of its members, with the standard deviation beside it (`/std`).
    """
    from gnopt.ensemble.load import load_trained
    from gnopt.files import is_stdout
    from gnopt.training.predict import predict

    run = of_member(run, member)
    target = claim_beside([run], out, overwrite, data)
    trained = load_trained(run, which, given_flags(device=device, follow_links=follow_links))
    written = predict(trained, data, target, layer)
    if as_json:
        print_json(
            {
                "out": str(out),
                "layer": layer,
                **trained.facts(),
                "datasets": written,
            }
        )
    else:
        for path, shape in written.items():
            line = f"{out}:{path}  {shape[0]:,} rows of {shape[1]:,}"
            click.echo(line, err=is_stdout(out))
    tell(trained.told(), which)
    warn(trained.shortcomings())
