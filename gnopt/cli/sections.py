"""Options of a command under headings, so that a long --help can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., object])
_HEADING = "gnopt_heading"


def under(heading: str, *options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Return a decorator that adds these options to a command, below ``heading`` in its help.

    The command must be a `SectionedCommand`; any other shows the options below "Options".
    """

    def decorate(function: Function) -> Function:
        before = list(getattr(function, "__click_params__", []))
        for option in reversed(options):
            function = option(function)
        for parameter in getattr(function, "__click_params__", []):
            if parameter not in before:
                setattr(parameter, _HEADING, heading)
        return function

    return decorate


class SectionedCommand(click.Command):
    """A command whose help has a section for each heading, in the order of the options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, _HEADING, "Options"), []).append(record)
        others = sections.pop("Options", [])
        for heading, records in [*sections.items(), ("Options", others)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
