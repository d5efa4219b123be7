"""``gnopt train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gnopt import plug_ins
from gnopt.cli.common import config_flags, given_flags, print_json, roles, table, target
from gnopt.cli.sections import SectionedCommand
from gnopt.errors import ConfigError

if TYPE_CHECKING:
    from gnopt.config import Flags
    from gnopt.training.loop import Trainer, TrainingOutcome


@click.command("train", cls=SectionedCommand)
@click.argument("config", metavar="CONFIG|DATA", type=click.Path(path_type=Path), required=False)
@target
@roles
@config_flags
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint."
)
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Start from the weights of a checkpoint.",
)
@click.option("--max-updates", type=int, metavar="N", help="Number of updates (training.updates).")
@click.option(
    "--max-seconds", type=float, metavar="S", help="Seconds of training (training.max_seconds)."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="K",
    help="Members of an ensemble to train at a time (as many as there are cores; on a GPU, 1).",
)
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--dry-run", is_flag=True, help="Print parameters, flops and bytes; write nothing.")
def command(
    config: Path | None,
    target: str | None,
    group: str | None,
    weights: str | None,
    sets: tuple[str, ...],
    data: str | None,
    out: Path | None,
    seed: int | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
    quiet: bool,
    resume: bool,
    init_from: Path | None,
    max_updates: int | None,
    max_seconds: float | None,
    jobs: int | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Train the network that CONFIG describes, or one that suits DATA, and write a run directory.

    DATA is a table (CSV, Parquet, Feather, Excel) or an HDF5 file; loss, network and preparation
    of the columns are decided by the data, and every decision is told. --set overrides it, and
    gnopt init writes the decisions as a CONFIG.

    With training.members or training.folds it is an ensemble: several networks, each in a process
    of its own and a run directory below members/ of --out. With --resume, CONFIG may be left out:
    the run's own configuration is used.
    """
    problems = [
        text
        for wrong, text in (
            (resume and overwrite, "--resume and --overwrite exclude each other"),
            (resume and init_from is not None, "--resume and --init-from exclude each other"),
            (resume and out is None, "--resume: give the run directory by --out"),
            (
                config is None and not resume,
                "CONFIG or DATA is missing: a TOML file that describes the run, or a table",
            ),
        )
        if wrong
    ]
    if problems:
        raise ConfigError(problems)
    flags = given_flags(
        data=data,
        target=target,
        group=group,
        weights=weights,
        seed=seed,
        device=device,
        dtype=dtype,
        max_updates=max_updates,
        max_seconds=max_seconds,
    )
    if config is not None and not dry_run:
        plug_ins.allow_beside(config)
    if dry_run:
        _dry_run(config or Path(out or ".") / "config.toml", sets, flags, as_json)
        return

    from gnopt.cli.closing import closing_lines
    from gnopt.cli.display import make_reporter
    from gnopt.cli.ensembles import Source, train_ensemble
    from gnopt.config import load
    from gnopt.ensemble.start import is_asked_for as asks_for_ensemble
    from gnopt.notes import only_notes
    from gnopt.provenance import command_line
    from gnopt.training import start
    from gnopt.training.estimate import check_memory
    from gnopt.training.loop import run_to_end
    from gnopt.training.signals import outlive_terminal

    outlive_terminal()
    if quiet:
        only_notes()
    argv = command_line()
    if asks_for_ensemble(config, sets, flags, out if resume else None):
        source = Source(config, sets, flags, out, init_from, resume, overwrite, argv)
        train_ensemble(source, jobs, as_json, quiet)
        return
    if jobs is not None:
        raise ConfigError("--jobs: expected an ensemble (training.members or training.folds)")
    reporter = make_reporter(quiet, click.get_current_context().find_root().obj.verbosity > 0)
    if resume and out is not None:
        trainer = start.resume(config, sets, flags, out, reporter, argv, check_memory)
    else:
        assert config is not None
        loaded = load(config, sets, flags)
        trainer = start.begin(loaded, out, init_from, overwrite, reporter, argv, check_memory)
    try:
        outcome = run_to_end(trainer)
    finally:
        trainer.experiment.data.close()
    if as_json:
        print_json(summary(trainer, outcome))
    else:
        click.echo("\n".join(closing_lines(trainer, outcome)))


def summary(trainer: Trainer, outcome: TrainingOutcome) -> dict[str, object]:
    """Return the result of a run, as --json prints it; losses are of the network handed out."""
    measured, counters = outcome.measured, outcome.counters
    train, validation = outcome.train, outcome.validation
    return {
        "run": str(trainer.run.path),
        "method": trainer.experiment.config.method,
        "updates": counters.step,
        "examples": counters.examples,
        "seconds": counters.seconds,
        "wall": counters.wall,
        "stop": outcome.stop.reason,
        "handed_out": outcome.handed.facts(),
        "objective": train.loss,
        "floor": train.floor,
        "gap": train.loss - train.floor,
        "constant": measured.train_constant and measured.train_constant.loss,
        "error": train.error,
        "error_name": trainer.experiment.loss.error_name,
        "rows": train.rows,
        "validation_objective": validation and validation.loss,
        "validation_constant": measured.validation_constant and measured.validation_constant.loss,
        "validation_error": validation and validation.error,
        "metrics": measured.scores(),
        "shortcomings": outcome.shortcomings(),
        "starts": trainer.watch.starts + 1,
        "checkpoint": str(outcome.path),
    }


def _dry_run(config: Path, sets: tuple[str, ...], flags: Flags, as_json: bool) -> None:
    from gnopt.config import load
    from gnopt.ensemble.members import members_of
    from gnopt.formatting import in_bytes
    from gnopt.training.estimate import estimate_cost, refuse_too_large
    from gnopt.training.setup import build

    loaded = load(config, sets, flags)
    experiment = build(members_of(loaded)[0].config(loaded))
    try:
        cost = estimate_cost(experiment)
    finally:
        experiment.data.close()
    if as_json:
        facts = {
            "networks": loaded.training.networks,
            "class_weights": experiment.weighting.listed,
            "notes": [*experiment.weighting.notes],
        }
        print_json(cost.as_dict() | facts)
    else:
        click.echo(
            table(
                [
                    *_of_ensemble(loaded.training.networks),
                    ("network", "-".join(str(s) for s in experiment.net.sizes)),
                    ("parameters", f"{cost.parameters:,}"),
                    ("flops per update", f"{cost.flops:.3g}"),
                    *((name, in_bytes(number)) for name, number in cost.bytes.items()),
                    ("in all", f"{in_bytes(cost.total)} of {in_bytes(cost.free)} free"),
                    *(
                        (name, f"{in_bytes(number)}, on the host")
                        for name, number in cost.host.items()
                    ),
                    *(("note", text) for text in experiment.weighting.notes),
                ]
            )
        )
    refuse_too_large(cost, experiment)


def _of_ensemble(networks: int) -> list[tuple[str, str]]:
    return [("members", f"{networks}, each as below")] if networks > 1 else []
