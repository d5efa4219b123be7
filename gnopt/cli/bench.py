"""``gnopt bench``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from gnopt import plug_ins
from gnopt.cli.common import given_flags, overwrite, print_json, problem_flags
from gnopt.errors import ConfigError

ROUNDS, QUICK_ROUNDS = 20, 10


@click.command("bench")
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--methods",
    metavar="A,B,...|all",
    help="Methods to time (default: the configured one and others that are not too dear).",
)
@click.option(
    "--threads",
    metavar="1,2,...",
    help="Time with each of these numbers of threads, in a process of its own, and say which is "
    "best.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    metavar="N",
    help=f"Updates of each method ({ROUNDS}; --quick: {QUICK_ROUNDS}).",
)
@click.option(
    "--quick", is_flag=True, help="Fewer rounds, and without CONFIG a small network: seconds."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Write a row for each method and phase.",
)
@overwrite
@problem_flags
def command(
    config: Path | None,
    methods: str | None,
    threads: str | None,
    rounds: int | None,
    quick: bool,
    out: Path | None,
    overwrite: bool,
    sets: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Time the updates of each method on the problem of CONFIG, phase by phase.

    Without CONFIG: on made data and the deep autoencoder 784-1000-500-250-30-250-500-1000-784 with
    1000 rows an update. Methods take turns, so that other work on the machine meets all of them
    alike; times are medians, averaged over the period after which a method's work repeats.
    """
    from gnopt.bench import bench_texts
    from gnopt.bench.bench import configuration, run_bench
    from gnopt.bench.entrants import BenchRequest, read_config
    from gnopt.bench.threads import bench_with
    from gnopt.files import claim, write_text

    quiet = flags.pop("quiet")
    names = tuple(name.strip() for name in (methods or "").split(",") if name.strip())
    counts = _counts(threads)
    _check_out(out)
    target = out and claim(out, overwrite, [config] if config else [])
    note = _Progress(quiet)
    with configuration(config, quick) as path:
        request = BenchRequest(path, sets, given_flags(**flags), names)
        if counts:
            read_config(request)  # a wrong configuration is told once, before anything starts
            arguments = _arguments(config, sets, flags, names, rounds, quick)
            results = [bench_with(count, arguments, note) for count in counts]
        else:
            results = [run_bench(request, rounds or (QUICK_ROUNDS if quick else ROUNDS), note)]
    if target is not None:
        write_text(target, bench_texts.as_csv(results))
    if as_json:
        print_json(bench_texts.as_json(results))
    else:
        click.echo(bench_texts.text(results))


def _counts(text: str | None) -> list[int]:
    """Return the numbers of threads that ``--threads`` lists; none without it."""
    if text is None:
        return []
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise ConfigError(f"--threads {text!r}: expected whole numbers >= 1 joined by commas")
    return list(dict.fromkeys(counts))


def _check_out(out: Path | None) -> None:
    """Refuse a place for the CSV that could not be written, before minutes of timing."""
    from gnopt.files import is_stream

    if out is None or is_stream(out):
        return
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a directory; expected the name of a CSV file")
    if out.suffix != ".csv":
        raise ConfigError(f"--out {out}: expected a name that ends in .csv")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: the directory {out.parent} does not exist")


def _arguments(
    config: Path | None,
    sets: tuple[str, ...],
    flags: dict[str, Any],
    methods: tuple[str, ...],
    rounds: int | None,
    quick: bool,
) -> list[str]:
    """Return the arguments of a bench in another process."""
    arguments = [str(config)] if config else []
    arguments += [part for text in sets for part in ("--set", text)]
    arguments += ["--allow-plugins"] if plug_ins.everything_is_allowed() else []
    given = {**flags, "methods": ",".join(methods) or None, "rounds": rounds}
    for name, value in given.items():
        arguments += [f"--{name}", str(value)] if value is not None else []
    return [*arguments, "--quick"] if quick else arguments


class _Progress:
    """Prints lines on stderr at growing intervals, with the seconds since the start."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._start, self._next = quiet, time.monotonic(), 0.0

    def __call__(self, text: str) -> None:
        passed = time.monotonic() - self._start
        if self._quiet or passed < self._next:
            return
        click.echo(f"{passed:7.1f} s  {text}", err=True)
        self._next = max(passed + 1.0, 1.3 * passed)
