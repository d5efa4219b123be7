"""``gnopt compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gnopt import plug_ins
from gnopt.cli.common import config_flags, given_flags, print_json, roles
from gnopt.cli.sections import SectionedCommand, under
from gnopt.errors import ConfigError, GnoptError, SomeRunsFailed

if TYPE_CHECKING:
    from gnopt.compare.choice import VariantResult
    from gnopt.compare.plan import ComparisonPlan, ComparisonRequest, Run
    from gnopt.compare.targets import TimeToTarget


@click.command("compare", cls=SectionedCommand)
@click.argument("config", metavar="CONFIG|DATA", type=click.Path(path_type=Path), required=False)
@under(
    "What is compared",
    click.option(
        "--methods", metavar="A,B,...", help="Methods, or variants of the grid file, to compare."
    ),
    click.option(
        "--grid",
        metavar="FILE|paper",
        help="Settings to search over: a TOML file, or the paper's 35 "
        "points (rates 2^-6 to 2^-12, five decay periods) for first-order methods.",
    ),
    click.option(
        "--seeds", type=click.IntRange(1), metavar="N", help="Seeds per point, from --seed on (1)."
    ),
)
@under(
    "Budget of every run",
    click.option(
        "--budget-updates", type=click.IntRange(1), metavar="N", help="Updates of every run."
    ),
    click.option(
        "--budget-seconds",
        type=click.FloatRange(0, min_open=True),
        metavar="S",
        help="Seconds of training of every run, evaluation aside.",
    ),
)
@under(
    "How the runs are made",
    click.option(
        "--jobs",
        type=click.IntRange(1),
        metavar="K",
        help="Runs at a time (1); on a GPU they divide its memory and take turns.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="T",
        help="BLAS threads per run (cores / jobs).",
    ),
    click.option(
        "--timing",
        type=click.Choice(["shared", "exclusive"]),
        default="shared",
        show_default=True,
        help="exclusive: one run at a time, on all cores.",
    ),
    click.option(
        "--engine",
        default="local",
        show_default=True,
        metavar="local|mpi",
        help="Where runs are made; mpi: under mpiexec -n N python -m mpi4py.futures -m gnopt "
        "compare ...",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Finish the comparison in --out; with CONFIG, add what is new.",
    ),
    click.option(
        "--part", metavar="I/N", help="Make the I-th of N parts of the runs, without a summary."
    ),
    click.option(
        "--dry-run", is_flag=True, help="Check everything and list the runs; write nothing."
    ),
)
@under(
    "Results",
    click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="X|NAME",
        help="Objective to time the methods to; repeatable. With DATA, a word names the column "
        "to predict.",
    ),
    click.option(
        "--drop-checkpoints", is_flag=True, help="Delete the checkpoints of finished runs."
    ),
)
@roles
@config_flags
def command(
    config: Path | None,
    out: Path | None,
    jobs: int | None,
    threads: int | None,
    timing: str,
    engine: str,
    targets: tuple[str, ...],
    drop_checkpoints: bool,
    resume: bool,
    part: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **problem: Any,
) -> None:
    """Train the network of CONFIG by several methods from the same initial weights, on the same
    batches.

    Writes run directories, summary.csv, curves.csv, targets.csv, figures and report.html into
    --out. Exit code 4 where some runs failed or diverged. A comparison that was stopped goes on by
    --resume --out DIR.

    The settings that CONFIG gives to its method are for that method and, if it is a second-order
    one, for all of these; --set optimizer.KEY=VALUE is for every method with that option. A grid
    file is TOML:

    \b
      [grid]                    # for the first-order methods of --methods:
      learning_rate = [0.001, 0.002]     # a run for each combination
      decay_share = [1.0, 0.25]          # halves after this share of updates
      [variants."batch alone"]  # a curve with a name that --methods may use;
      method = "kfra"           # without --methods, all variants are compared
      set = { curvature_decay = 0.0, "training.updates" = 500 }
      grid = { damping_a = [0.04, 0.08] }
      line = "dashed"
    """  # noqa: D301 (click reads the character \b)
    from gnopt.cli.comparing import CompareReporter
    from gnopt.compare import execute, facts
    from gnopt.compare.prepare import ExecutionRequest, default_comparison_path, prepare
    from gnopt.provenance import command_line
    from gnopt.training.signals import outlive_terminal
    from gnopt.workers import engines

    outlive_terminal()

    alone = [
        f"--{name.replace('_', '-')}" for name, value in problem.items() if value not in (None, ())
    ]
    problems = [
        text
        for wrong, text in (
            (resume and out is None, "--resume: give the comparison's directory by --out"),
            (part is not None and out is None, "--part: give the comparison's directory by --out"),
            (
                config is None and not resume,
                "CONFIG or DATA is missing: a TOML file that describes the problem, or a table",
            ),
            (
                config is None and resume and bool(alone),
                f"{', '.join(alone)}: only together with CONFIG",
            ),
            (
                timing == "exclusive" and (jobs or 1) > 1,
                "--timing exclusive and --jobs exclude each other",
            ),
            (
                timing == "exclusive" and engine != "local",
                f"--timing exclusive is not for --engine {engine}",
            ),
        )
        if wrong
    ]
    if problems:
        raise ConfigError(problems)
    objectives, column = _split_targets(targets)
    if config is not None and not dry_run:
        plug_ins.allow_beside(config)
    chosen_part = execute.parse_part(part)
    engines.get_engine(engine).check()
    execution = ExecutionRequest(
        1 if timing == "exclusive" else jobs, threads, engine, objectives, not drop_checkpoints
    )
    request = _request(config, target=column, **problem) if config else None
    plan, allocation = prepare(
        out or default_comparison_path(config), resume or part is not None, request, execution
    )
    todo = execute.unfinished(plan, chosen_part)
    if dry_run:
        _list_runs(plan, todo, allocation.text(), as_json)
        return
    execute.check_devices(todo, allocation)
    plan.save()
    facts.record(plan, command_line(), allocation, len(todo))
    with CompareReporter(len(todo), quiet) as reporter:
        reporter.note(
            f"{plan.directory}: {len(todo)} of {len(plan.runs)} runs to make, {allocation.text()}"
        )
        failures = execute.execute(plan, todo, allocation, reporter.ended)
    if chosen_part:
        _report_part(plan, len(todo), failures, as_json)
    else:
        _summarise(plan, failures, as_json, quiet)


def _split_targets(targets: tuple[str, ...]) -> tuple[tuple[float, ...], str | None]:
    """Return the objectives among the values of --target, and the name of a column."""
    objectives: list[float] = []
    names: list[str] = []
    for text in targets:
        try:
            objectives.append(float(text))
        except ValueError:
            names.append(text)
    return tuple(objectives), ",".join(names) or None


def _request(
    config: Path,
    methods: str | None,
    grid: str | None,
    seeds: int | None,
    budget_updates: int | None,
    budget_seconds: float | None,
    sets: tuple[str, ...],
    **flags: Any,
) -> ComparisonRequest:
    from gnopt.compare.grid import choose_variants, read_grid
    from gnopt.compare.plan import ComparisonRequest

    points, named = read_grid(grid)
    names = [name.strip() for name in (methods or "").split(",") if name.strip()]
    return ComparisonRequest(
        config,
        sets,
        given_flags(**flags),
        choose_variants(names, points, named),
        seeds or 1,
        budget_updates,
        budget_seconds,
    )


def _list_runs(plan: ComparisonPlan, todo: list[Run], share: str, as_json: bool) -> None:
    from gnopt.compare.worker import train_command

    if as_json:
        print_json(
            {
                "runs": len(plan.runs),
                "to_make": [train_command(plan, run) for run in todo],
                "share": share,
            }
        )
        return
    for run in todo:
        click.echo(f"{run.id}: {', '.join(run.sets)}")
    click.echo(f"{len(todo)} of {len(plan.runs)} runs to make, {share}")


def _report_part(plan: ComparisonPlan, count: int, failures: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(
            {"comparison": str(plan.directory), "made": count - len(failures), "failures": failures}
        )
    else:
        click.echo(
            f"{count - len(failures)} of {count} runs of this part made; for the summary: "
            f"gnopt compare --resume --out {plan.directory}"
        )
    if failures:
        raise SomeRunsFailed(_failed(failures, count))


def _summarise(plan: ComparisonPlan, failures: dict[str, str], as_json: bool, quiet: bool) -> None:
    from gnopt.cli.comparing import print_tables
    from gnopt.compare import choice, facts, result_files, targets

    chosen = choice.evaluate_plan(plan)
    times = targets.times_to(plan, chosen, plan.targets)
    result_files.write_tables(plan, chosen, times)
    notes, warnings = facts.notes(plan, chosen), choice.warnings(chosen)
    figures = _draw(plan, chosen, times, notes, warnings, quiet)
    rows = result_files.summary_rows(chosen)
    if as_json:
        print_json(
            {
                "comparison": str(plan.directory),
                "summary": [vars(row) for row in rows],
                "targets": [vars(r) for r in times],
                "notes": notes,
                "warnings": warnings,
                "failures": failures,
                "figures": [str(path) for path in figures],
            }
        )
    else:
        print_tables(plan, rows, times, notes, warnings)
    bad = {
        run.id: f"{outcome.status}"
        for one in chosen
        for result in one.results
        for run, outcome in zip(result.runs, result.outcomes, strict=True)
        if not outcome.done
    }
    if bad:
        raise SomeRunsFailed(
            _failed(
                {name: failures.get(name, status) for name, status in bad.items()}, len(plan.runs)
            )
        )


def _draw(
    plan: ComparisonPlan,
    chosen: Sequence[VariantResult],
    times: Sequence[TimeToTarget],
    notes: list[str],
    warnings: list[str],
    quiet: bool,
) -> list[Path]:
    """Draw figures and report; without matplotlib, say so on stderr and return no files."""
    from gnopt.plots import report

    try:
        return report.write_report(plan, chosen, times, notes, warnings)
    except GnoptError as error:
        if not quiet:
            click.echo(f"no figures: {error}", err=True)
        return []


def _failed(failures: dict[str, str], total: int) -> str:
    shown = [
        f"  {name}: {reason.splitlines()[0] if reason else 'failed'}"
        for name, reason in failures.items()
    ]
    more = [f"  and {len(shown) - 10} more"] if len(shown) > 10 else []
    return "\n".join([f"{len(failures)} of {total} runs did not finish:", *shown[:10], *more])
