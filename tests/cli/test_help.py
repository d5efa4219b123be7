"""--help of every command fits a terminal, and shells complete commands and options."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from gnopt.cli import cli


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, click.Context(found, context, info_name=name))


def contexts() -> list[click.Context]:
    return list(commands(cli, click.Context(cli, info_name="gnopt", terminal_width=80)))


@pytest.mark.parametrize("context", contexts(), ids=lambda context: context.command_path)
def test_help_fits_80_columns_and_shows_every_option_once(context):
    lines = context.command.get_help(context).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    first = next(i for i, line in enumerate(lines) if line[:1].isupper() and line.endswith(":"))
    words = [line.split()[0].rstrip(",") for line in lines[first:] if line.startswith("  -")]
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert words.count(parameter.opts[0]) == 1, parameter.opts


def test_the_options_of_a_comparison_stand_under_headings():
    context = next(c for c in contexts() if c.command_path == "gnopt compare")
    lines = context.command.get_help(context).splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[0] == "What is compared:"
    assert headings[-1] == "Options:"
    assert "--budget-seconds" in lines[lines.index("Budget of every run:") + 2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell, gnopt, monkeypatch):
    if shell == "bash":  # click asks the bash that is there for its version
        monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *_: None)
    monkeypatch.setenv("_GNOPT_COMPLETE", f"{shell}_source")
    script = gnopt()
    assert script.code == 0
    assert f"_GNOPT_COMPLETE={shell}_complete" in script.out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["tr"], {"train"}),
        (["compare", "--budget-s"], {"--budget-seconds"}),
        (["example", "c"], {"classification", "counts", "curvature"}),
        (["train", "--set", "training.up"], {"training.updates="}),
        (["list", "--j"], {"--json"}),
    ],
)
def test_commands_options_and_keys_are_completed(typed, expected, gnopt, monkeypatch):
    monkeypatch.setenv("_GNOPT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["gnopt", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    lines = gnopt().out.splitlines()
    assert {line.partition(",")[2] for line in lines} == expected
