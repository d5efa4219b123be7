"""``gnopt config show|check|keys``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gnopt.cli import verbosity
from gnopt.cli.common import as_json, config_flags, given_flags, print_json
from gnopt.options import REQUIRED, Option

if TYPE_CHECKING:
    from gnopt.config import Config


@click.group("config")
def command() -> None:
    """Show, check and explain configurations."""


def _load(path: Path, sets: tuple[str, ...], given: Mapping[str, object]) -> Config:
    from gnopt.config import load

    return load(
        path, sets, given_flags(**{k: given[k] for k in ("data", "seed", "device", "dtype")})
    )


@command.command("show", short_help="The resolved configuration, and where each value came from.")
@click.argument("config", type=click.Path(path_type=Path))
@config_flags
def show(config: Path, sets: tuple[str, ...], as_json: bool, **given: object) -> None:
    """Every value of the resolved configuration with where it came from; the output is valid
    TOML.
    """
    from gnopt.toml import to_toml

    resolved = _load(config, sets, given)
    if as_json:
        print_json(
            {
                key: {"value": value, "source": resolved.sources[key]}
                for key, value in resolved.flat().items()
            }
        )
        return
    for section, part in resolved.values().items():
        lines = to_toml({section: part}).splitlines()
        width = min(60, max(len(line) for line in lines))
        click.echo(lines[0])
        for line in lines[1:]:
            source = resolved.sources.get(f"{section}.{line.partition(' = ')[0]}", "")
            click.echo(f"{line:<{width}}  # {source}" if source else line)


@command.command("check", short_help="Check a configuration and the data it names.")
@click.argument("config", type=click.Path(path_type=Path))
@config_flags
def check(config: Path, sets: tuple[str, ...], as_json: bool, **given: object) -> None:
    """Check a configuration, open its data and make its network; nothing is trained or written."""
    from gnopt.training.setup import build

    experiment = build(_load(config, sets, given))
    experiment.data.close()
    sizes = list(experiment.net.sizes)
    if as_json:
        print_json(
            {
                "ok": True,
                "sizes": sizes,
                "parameters": experiment.net.size,
                "rows": experiment.data.train.rows,
            }
        )
    else:
        click.echo(
            f"{config}: ok: {'-'.join(map(str, sizes))}, {experiment.net.size:,} parameters, "
            f"{experiment.data.train.rows:,} training rows"
        )


@command.command("keys", short_help="Every key with type, default and meaning.")
@click.option("--method", metavar="NAME", help="Only this method's options in [optimizer].")
@click.option("--markdown", is_flag=True, help="A page of Markdown: docs/configuration.md.")
@as_json
@verbosity
def keys(method: str | None, markdown: bool, as_json: bool) -> None:
    """Every key with type, default and meaning; [optimizer] once for each method."""
    from gnopt import optimizers
    from gnopt.cli.config_page import page
    from gnopt.settings import DEFAULT_METHOD, sections

    if markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other")
    parts = dict(sections(method or DEFAULT_METHOD))
    chosen, *_ = parts.pop("optimizer")
    names = [optimizers.get_method(method).name] if method else list(optimizers.methods())
    of_methods = {name: optimizers.options_of(name) for name in names}
    shown: dict[str, Sequence[Option]] = {**parts, "optimizer": [chosen]}
    if markdown:
        click.echo(page(shown, of_methods), nl=False)
        return
    shown |= {f"optimizer ({name})": options for name, options in of_methods.items()}
    if as_json:
        print_json(
            {title: {o.name: _facts(o) for o in options} for title, options in shown.items()}
        )
        return
    for title, options in shown.items():
        click.echo(f"[{title}]")
        for o in options:
            facts = _facts(o)
            default = "required" if facts["required"] else f"default {facts['default']!r}"
            click.echo(f"  {o.name}: {facts['type']}; {default}")
            click.echo(click.wrap_text(o.doc, 100, "      ", "      "))
        click.echo()


def _facts(option: Option) -> dict[str, object]:
    required = option.default is REQUIRED
    return {
        "type": option.expected,
        "default": None if required else option.default,
        "required": required,
        "meaning": option.doc,
    }
