"""``gnopt evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import (
    as_json,
    given_flags,
    print_json,
    run_argument,
    tell,
    warn,
    which_checkpoint,
)
from gnopt.errors import DataError


@click.command("evaluate")
@run_argument
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    default="all",
    show_default=True,
)
@which_checkpoint
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another data file of the same form.",
)
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Device.")
@as_json
@verbosity
def command(
    run: Path, split: str, which: str | None, data: Path | None, device: str | None, as_json: bool
) -> None:
    """Objective (without weight decay), floor, error and all metrics of RUN, a run directory or one
    of its checkpoints.
    """
    from gnopt.cli.scores import score_facts, score_lines
    from gnopt.metrics import applicable
    from gnopt.training.constant import shortcoming
    from gnopt.training.evaluate import evaluate
    from gnopt.training.load import load_run

    trained = load_run(run, which, given_flags(device=device))
    settings = trained.config.data
    if data:
        settings = settings.of_file(data)
    kind = trained.loss.predicts(trained.net.sizes[-1])
    metrics = applicable(kind)
    with trained.open_data(settings) as source:
        splits = {s.name: s for s in (source.train, source.validation, source.test) if s}
        if split != "all":
            if split not in splits:
                raise DataError(
                    f"{source.fingerprint.file}: no {split} rows; found {', '.join(splits)}"
                )
            splits = {split: splits[split]}
        evaluations = {
            name: evaluate(
                trained.net,
                trained.loss,
                trained.theta,
                s,
                metrics=metrics.values(),
                noise=trained.stored.noise,
            )
            for name, s in splits.items()
        }
        classes = source.classes
        constants = {name: trained.constant_loss(s) for name, s in splits.items()}
    result: dict[str, object] = {
        "checkpoint": str(trained.path),
        "step": trained.stored.step,
        "handed_out": trained.handed.facts(),
        "error_name": trained.loss.error_name,
        "classes": list(classes) or None,
        "splits": {
            name: {
                "rows": e.rows,
                "objective": e.loss,
                "floor": e.floor,
                "gap": e.loss - e.floor,
                "constant": constant.loss if (constant := constants[name]) else None,
                "error": e.error,
                **score_facts(e.scores, kind),
            }
            for name, e in evaluations.items()
        },
    }
    tell(run, trained.handed, which)
    for name, constant in constants.items():
        warn(shortcoming(name, evaluations[name].loss, constant) if constant else ())
    if as_json:
        print_json(result)
        return
    click.echo(f"{trained.path}, step {trained.stored.step}")
    click.echo(
        f"{'':<12}{'rows':>10}{'objective':>16}{'floor':>14}{'gap':>14}{trained.loss.error_name:>24}"
    )
    for name, e in evaluations.items():
        gap = e.loss - e.floor
        click.echo(
            f"{name:<12}{e.rows:>10,}{e.loss:>16.8g}{e.floor:>14.6g}{gap:>14.6g}{e.error:>24.6g}"
        )
    scores = {name: e.scores for name, e in evaluations.items()}
    for line in ("", *score_lines(scores, kind, classes)):
        click.echo(line)
    if trained.stored.noise is None and any(metric.needs_noise for metric in metrics.values()):
        warn(["the noise is not known: this checkpoint was not evaluated when it was written"])
