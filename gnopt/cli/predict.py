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
    from_stdin,
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

_SHOWN = 12  # columns that a line names


def _listed(columns: list[str]) -> str:
    more = len(columns) - _SHOWN
    return ", ".join(columns[:_SHOWN]) + (f" and {more:,} more columns" if more > 0 else "")


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
@click.option(
    "--jacobian",
    is_flag=True,
    help="Also write the derivatives of the output or logits by the inputs.",
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
    jacobian: bool,
    which: str | None,
    member: int | None,
    device: str | None,
    follow_links: bool | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Apply the network of RUN to every row of DATA, a table or an HDF5 file, and write OUT by its
    suffix: .csv, .tsv, .parquet, .feather, .h5, or - for CSV on stdout. DATA of - is CSV on stdin.

    A table has the names of the rows, the prediction (a class by its name), the probability of each
    class, and the standard deviation of numbers where it is known. HDF5 is itself a data file, with
    `/x`. An ensemble predicts the mean of its members, and its standard deviation (`/std`).

    With --jacobian, derivatives by the numbers of DATA as they are there, not standardised, follow:
    columns such as `d prediction / d age`, or `/jacobian` (N, K, D), for K outputs and D inputs. Of
    a table the inputs are the columns of numbers and dates (by the day).
    """
    from gnopt.ensemble.load import load_trained
    from gnopt.files import is_stdout
    from gnopt.training.predict import predict, table_writer

    run = of_member(run, member)
    on_stdout = str(out) == "-"
    writer = table_writer(Path("stdout.csv") if on_stdout else out)
    target = claim_beside([run], Path("/dev/stdout") if on_stdout else out, overwrite, data)
    trained = load_trained(run, which, given_flags(device=device, follow_links=follow_links))
    with from_stdin(data) as file:
        predicted = predict(trained, file, target, layer, writer, jacobian)
    written = predicted.shapes
    warn(predicted.notes)
    if as_json:
        print_json(
            {
                "out": str(out),
                "layer": layer,
                **trained.facts(),
                "datasets": written,
            }
        )
    elif writer is not None:
        rows = next(iter(written.values()))[0]
        if not on_stdout:
            click.echo(f"{out}  {rows:,} rows: {_listed(list(written))}", err=is_stdout(out))
    else:
        for path, shape in written.items():
            row = " x ".join(f"{size:,}" for size in shape[1:])
            line = f"{out}:{path}  {shape[0]:,} rows of {row}"
            click.echo(line, err=is_stdout(out))
    tell(trained.told(), which)
    warn(trained.shortcomings())
