"""``gnopt export``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, print_json, run_argument, tell, warn, which_checkpoint


@click.command("export")
@run_argument
@click.argument("out", type=click.Path(path_type=Path))
@which_checkpoint
@as_json
@verbosity
def command(run: Path, out: Path, which: str | None, as_json: bool) -> None:
    """Write the network of RUN to OUT, whose suffix names the format: .h5, .npz or .onnx."""
    from gnopt.training.constant import shortcomings
    from gnopt.training.export import export_network
    from gnopt.training.load import load_stored

    path, network, handed = load_stored(run, which)
    export_network(network, out)
    if as_json:
        print_json(
            {
                "out": str(out),
                "checkpoint": str(path),
                "step": network.step,
                "handed_out": handed.facts(),
                "sizes": network.sizes,
            }
        )
    else:
        click.echo(
            f"{out}: {'-'.join(map(str, network.sizes))} at step {network.step}, from {path}"
        )
    tell(run, handed, which)
    warn(shortcomings(network.losses))
