"""The command line: one module for each command, imported when the command runs.

A command parses flags, calls the rooms below, and prints; no logic lives here.

Reading order: ``lasting`` → ``streams`` → ``sections`` → ``paths`` → ``common`` →
``evaluation_table`` → ``course`` → ``display`` → ``comparing`` → ``scores`` → ``closing`` →
``ensembles`` → ``config_page``; then the commands, in any order.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import click

from gnopt import __version__, notes, plug_ins
from gnopt.cli.lasting import lasting_streams
from gnopt.cli.streams import spell_what_streams_lack
from gnopt.errors import ConfigError, GnoptError, nearest

# Command → (module, help in one line). The module is imported only when its command runs, so that
# `gnopt --help` needs no NumPy.
COMMANDS = {
    "train": ("train", "Train a network and write a run directory."),
    "init": ("init", "Look at a table or an HDF5 file and write a configuration for it."),
    "compare": ("compare", "Run the same problem under several methods and grids."),
    "inspect-curvature": (
        "inspect",
        "Spectra, rank, damping, cost and alignment; export of matrices.",
    ),
    "evaluate": ("evaluate", "Objective, error and metrics of a run on any split."),
    "predict": ("predict", "Network outputs, or any layer's activations, to HDF5."),
    "export": ("export", "Weights to HDF5, NPZ or ONNX, by suffix."),
    "plot": ("plot", "Figures of finished or running runs."),
    "dataset": ("dataset", "Make, import and describe data files."),
    "bench": ("bench", "What an update of each method costs on this machine, phase by phase."),
    "example": ("example", "Write an example that is ready to run, with its data."),
    "list": ("listing", "Methods, losses, activations and initialisers."),
    "config": ("config", "Show, check and explain configurations."),
}


class LazyGroup(click.Group):
    """The group of all commands; it imports a command's module when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"no such command '{args[0]}'{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def count_verbosity(ctx: click.Context, param: click.Parameter, value: int) -> int:
    """Store ``-v`` in the context, where `main` finds it when it reports an error."""
    if value and ctx.obj is not None:
        ctx.obj.verbosity += value
    return value


verbosity = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=count_verbosity,
    help="More on stderr; -vv: the traceback of an error, too.",
)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99}
)
@click.version_option(__version__, prog_name="gnopt")
@verbosity
def cli() -> None:
    """Second-order training of feedforward networks: KFRA, KFLR, KFAC and relatives on HDF5
    data.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the exit code of the command or of its error."""
    settings = types.SimpleNamespace(verbosity=0)
    plug_ins.forget()
    with lasting_streams() as output, notes.shown_by(_show_note), _warnings_shown_to(settings):
        spell_what_streams_lack()
        try:
            code = _run(argv, settings)
        except BaseException as error:
            code = _explain(error)
            if settings.verbosity > 1:
                import traceback

                traceback.print_exc()
        failure = output.failure()
        if failure is not None:
            code = code or _explain(failure)
    sys.exit(code)


@contextlib.contextmanager
def _warnings_shown_to(settings: types.SimpleNamespace) -> Iterator[None]:
    """Show warnings of other packages, such as of a function that will change, with -v alone: they
    are for programmers, and name lines of code.
    """

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if settings.verbosity:
            notes.note(f"{category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _show_note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _run(argv: list[str] | None, settings: types.SimpleNamespace) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        result = cli.main(
            arguments or ["--help"], prog_name="gnopt", standalone_mode=False, obj=settings
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        _say(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code


def _explain(error: BaseException) -> int:
    """Print the error in a few lines on stderr; return the exit code."""
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        _say(f"{len(error.problems)} problems:", *(f"  - {problem}" for problem in error.problems))
        return error.exit_code
    if isinstance(error, GnoptError):
        _say(str(error))
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _say("interrupted")
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, MemoryError):
        _say(f"out of memory: {error}" if str(error) else "out of memory")
    elif isinstance(error, FileNotFoundError) and error.filename is None and not _is_somewhere():
        _say("the working directory no longer exists; change to another one")
    elif isinstance(error, OSError):
        _say(
            f"{error.filename}: {error.strerror}"
            if error.filename and error.strerror
            else str(error)
        )
    else:
        _say(f"internal error: {type(error).__name__}: {error} (-vv shows where)")
    return 1


def _is_somewhere() -> bool:
    """Return whether there is a working directory: it may have been deleted."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _say(*lines: str) -> None:
    click.echo("\n".join(["gnopt: error: " + lines[0], *lines[1:]]), err=True)
