"""``gnopt example``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, overwrite, print_json, table
from gnopt.cli.paths import listed, shown


@click.command("example")
@click.argument(
    "name", required=False, shell_complete=lambda ctx, param, incomplete: _names(incomplete)
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where to write the files; default: the current directory.",
)
@overwrite
@as_json
@verbosity
def command(name: str | None, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write the example NAME: a configuration that is ready to run, and its data beside it.

    Without NAME, list the examples. The data are small, and made by code: they are the same every
    time.
    """
    from gnopt.examples import all_examples, get_example

    if name is None:
        found = {name: example.summary for name, example in all_examples().items()}
        if as_json:
            print_json({"examples": found})
        else:
            click.echo(table(list(found.items())))
            click.echo("\ngnopt example NAME writes one")
        return
    example = get_example(name)
    paths = example.write(out, overwrite)
    if as_json:
        print_json({"files": [str(path) for path in paths], "commands": list(example.commands)})
        return
    click.echo(f"wrote {' and '.join(shown(path) for path in paths)}")
    here = [f"cd {shown(out)}"] if out.resolve() != Path.cwd() else []
    click.echo("\n".join(listed("next: ", [*here, *example.commands])))


def _names(incomplete: str) -> list[str]:
    """Return the examples that begin so, for the completion of a shell."""
    from gnopt.examples import all_examples

    return [name for name in all_examples() if name.startswith(incomplete)]
