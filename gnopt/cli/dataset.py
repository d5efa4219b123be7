"""``gnopt dataset``: make, import and describe data files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import Command, as_json, print_json, quiet, warn
from gnopt.data.formats import listing
from gnopt.formatting import in_bytes, plain_console

_path = click.Path(path_type=Path)
_overwrite = click.option("--overwrite", is_flag=True, help="Replace an existing file.")


def _out(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--out",
        type=_path,
        default=Path(default),
        show_default=True,
        metavar="FILE",
        help="HDF5 file to write.",
    )


_seed = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random draws."
)


@click.group("dataset")
def dataset() -> None:
    """Make, import and describe the HDF5 files that gnopt trains on."""


command = dataset


@dataset.group("make", short_help="Make the CURVES and FACES sets.")
def make() -> None:
    """Make data sets that come from a recipe."""


@make.command("curves", short_help="Pen strokes through three random points, 28x28.")
@_out("datasets/curves.h5")
@click.option(
    "--count", type=click.IntRange(1), default=20000, show_default=True, help="Training images."
)
@click.option(
    "--validation",
    type=click.IntRange(0),
    default=5000,
    show_default=True,
    help="Validation images.",
)
@click.option(
    "--test", type=click.IntRange(0), default=10000, show_default=True, help="Test images."
)
@_seed
@_overwrite
@as_json
@quiet
@verbosity
def curves(
    out: Path,
    count: int,
    validation: int,
    test: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw the CURVES set: smooth grey strokes through three random points of a 28 by 28 plane."""
    from gnopt.data.make_curves import make_curves

    with _bar(quiet) as bar:
        rows = make_curves(out, count, test, validation, seed, overwrite, bar)
    _report(out, rows, as_json)


@make.command("faces", short_help="Random rotations and scales of face pictures, 25x25.")
@click.argument("source", type=_path)
@_out("datasets/faces.h5")
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=414,
    show_default=True,
    help="Rotations and scales of each picture.",
)
@_seed
@_overwrite
@as_json
@quiet
@verbosity
def faces(
    source: Path, out: Path, pairs: int, seed: int, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Make a FACES set from SOURCE: rotated by -90 to 90 degrees, enlarged 1.4 to 1.8 times, 25 by
    25 pixels.

    SOURCE is olivettifaces.mat, an NPY, NPZ or HDF5 file with a stack of grey pictures, or a folder
    of pictures (with one subfolder for each person, as in the AT&T set).
    """
    from gnopt.data.make_faces import make_faces

    with _bar(quiet) as bar:
        rows = make_faces(out, source, pairs, seed, overwrite, bar)
    _report(out, rows, as_json)


def _parse_size(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"'{value}': expected WIDTHxHEIGHT, such as 28x28")
    return int(width), int(height)


def _parse_scale(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    above, _, below = value.partition("/")
    try:
        scale = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        scale = 0.0
    if not 0 < abs(scale) < float("inf"):
        raise click.BadParameter(
            f"'{value}': expected a number other than 0, or a fraction such as 1/255"
        )
    return scale


IMPORT_HELP = f"""Convert SOURCE to an HDF5 file that gnopt can train on.

The format is told by content: {listing()}, or a folder of pictures with one subfolder for each
class. MNIST, for example:

\b
gnopt dataset import train-images-idx3-ubyte.gz \\
    --labels train-labels-idx1-ubyte.gz --validation 10000 \\
    --test-images t10k-images-idx3-ubyte.gz \\
    --test-labels t10k-labels-idx1-ubyte.gz --out datasets/mnist.h5
"""


@dataset.command("import", help=IMPORT_HELP, short_help=f"Convert {listing()} or pictures to HDF5.")
@click.argument("source", type=_path)
@click.option("--out", type=_path, required=True, metavar="FILE", help="HDF5 file to write.")
@click.option(
    "--labels", type=_path, metavar="FILE", help="File with the targets of SOURCE (IDX, NPY, ...)."
)
@click.option(
    "--inputs", metavar="NAME", help="Array of an NPZ or MAT file, or columns of a CSV file."
)
@click.option(
    "--targets", metavar="NAME", help="The same for the targets, such as y, species or -1."
)
@click.option(
    "--weights",
    metavar="NAME",
    help="The same for the weight of each row, which becomes the dataset w (data.weights).",
)
@click.option(
    "--test-images", "--test", "test", type=_path, metavar="FILE", help="Source of the test rows."
)
@click.option(
    "--test-labels", type=_path, metavar="FILE", help="File with the targets of the test rows."
)
@click.option(
    "--test-inputs", metavar="NAME", help="Array with the test inputs, in --test-images or SOURCE."
)
@click.option("--test-targets", metavar="NAME", help="Array with the test targets.")
@click.option(
    "--validation",
    metavar="ROWS|FRACTION",
    help="Rows at the end of SOURCE to keep for validation.",
)
@click.option(
    "--split",
    metavar="TRAIN:VALIDATION:TEST",
    help="Rows, or fractions, of each group, in the order of --order.",
)
@click.option(
    "--order",
    type=click.Choice(["random", "file"]),
    help="Order of the rows that are shared out: random (default for a table), with a share of "
    "each class everywhere, or that of the file (default otherwise).",
)
@click.option("--drop", metavar="NAMES", help="Columns of a table that are no inputs.")
@click.option(
    "--categories", metavar="NAMES", help="Columns of a table whose numbers stand for words."
)
@click.option(
    "--header",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    help="Whether the first line of a table names the columns.",
)
@click.option("--separator", default="auto", metavar="CHAR", help="What separates cells of text.")
@click.option(
    "--decimal", type=click.Choice(["auto", ".", ","]), default="auto", help="The decimal mark."
)
@click.option(
    "--encoding", default="auto", metavar="NAME", help="Encoding of text, such as latin-1."
)
@click.option(
    "--scale",
    callback=_parse_scale,
    metavar="NUMBER",
    help="Factor on reading; 1/255 for byte pictures.",
)
@click.option("--transpose", is_flag=True, help="Data points are along the last axis (columns).")
@click.option(
    "--size", callback=_parse_size, metavar="WxH", help="Resize the pictures of a folder."
)
@click.option("--color", is_flag=True, help="Keep the pictures of a folder in color.")
@_overwrite
@as_json
@quiet
@verbosity
def import_(
    source: Path,
    out: Path,
    labels: Path | None,
    inputs: str | None,
    targets: str | None,
    weights: str | None,
    test: Path | None,
    test_labels: Path | None,
    test_inputs: str | None,
    test_targets: str | None,
    validation: str | None,
    split: str | None,
    order: str | None,
    drop: str | None,
    categories: str | None,
    header: str,
    separator: str,
    decimal: str,
    encoding: str,
    scale: float | None,
    transpose: bool,
    size: tuple[int, int] | None,
    color: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Import SOURCE; what the user reads is ``IMPORT_HELP``."""
    from gnopt.data.formats import ImportSettings
    from gnopt.data.importing import import_data

    notes: list[str] = []
    with _bar(quiet) as bar:
        settings = ImportSettings(
            inputs,
            targets,
            transpose,
            size,
            color,
            weights,
            drop,
            categories,
            (header, separator, decimal, encoding),
            mix=(split or validation) is not None and order != "file",
        )
        rows = import_data(
            source,
            out,
            settings,
            labels=labels,
            test=test,
            test_labels=test_labels,
            test_inputs=test_inputs,
            test_targets=test_targets,
            split=split,
            validation=validation,
            scale=scale,
            overwrite=overwrite,
            progress=bar,
            note=notes.append,
        )
    warn(dict.fromkeys(notes))
    _report(out, rows, as_json)


@dataset.command("info", short_help="What a data file holds, and how training sees it.")
@click.argument("file", type=_path)
@as_json
@verbosity
def info(file: Path, as_json: bool) -> None:
    """Describe the HDF5 file FILE: datasets, ranges, splits, and anything that training would
    refuse.
    """
    from gnopt.data.info import describe_file

    facts = describe_file(file)
    if as_json:
        print_json(facts)
        return
    from rich.table import Table

    table = Table(
        title=f"{file}, {in_bytes(facts['bytes'])}", title_justify="left", title_style="bold"
    )
    for name in (
        "dataset",
        "shape",
        "type",
        "scale",
        "least",
        "greatest",
        "mean",
        "chunk",
        "compression",
    ):
        table.add_column(name, overflow="fold")
    for entry in facts["datasets"]:
        usual = "scale" in entry and "min" in entry
        numbers = (
            [f"{entry[key]:.6g}" for key in ("scale", "min", "max", "mean")] if usual else [""] * 4
        )
        chunk = "x".join(map(str, entry.get("chunks") or [])) or "-"
        shape = "x".join(map(str, entry["shape"])) or "one value"
        table.add_row(
            entry["path"],
            shape,
            entry.get("dtype", "?"),
            *numbers,
            chunk,
            entry.get("compression") or "-",
        )
    console = plain_console(None if sys.stdout.isatty() else 120)
    console.print(table)
    for entry in facts["datasets"]:
        if entry.get("sampled"):
            console.print(f"{entry['path']}: range and mean of a sample")
        if entry.get("classes"):
            console.print(f"{entry['path']}: classes {', '.join(entry['classes'])}")
        if entry.get("note"):
            console.print(f"{entry['path']}: {entry['note']}")
        if entry.get("problem"):
            console.print(f"cannot be used: {entry['problem']}")
    if facts["source"]:
        console.print(f"source: {facts['source']}")
    for name, split in facts["splits"].items():
        console.print(f"{name}: {split['rows']:,} rows of {split['inputs']:,} inputs")
    if facts["problem"]:
        console.print(f"cannot be trained on with default settings: {facts['problem']}")


class _bar:
    """A progress bar of rows on stderr, shown only on a terminal and without --quiet."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            unit=" rows", unit_scale=True, leave=False, disable=quiet or not sys.stderr.isatty()
        )

    def __enter__(self) -> Callable[[int], object]:
        update: Callable[[int], object] = self._bar.update
        return update

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _report(out: Path, rows: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json({"file": str(out), "rows": rows})
    else:
        click.echo(
            f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in rows.items()) + " rows"
        )
