"""``gnopt evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from gnopt.cli import verbosity
from gnopt.cli.common import (
    allow_plugins,
    as_json,
    follow_links,
    given_flags,
    member,
    of_member,
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
@member
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another data file of the same form.",
)
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Device.")
@follow_links
@allow_plugins
@as_json
@verbosity
def command(
    run: Path,
    split: str,
    which: str | None,
    member: int | None,
    data: Path | None,
    device: str | None,
    follow_links: bool | None,
    as_json: bool,
) -> None:
    """Objective (without weight decay), floor, error and all metrics of RUN, a run directory or one
    of its checkpoints.

    For an ensemble, they are those of the mean prediction; objectives of the members stand beside
    them, and with folds what each member scores on the fold that it did not see.
    """
    from gnopt.cli.scores import evaluation_lines, score_facts, score_lines
    from gnopt.data.places import ALL
    from gnopt.ensemble.load import load_trained
    from gnopt.metrics import applicable
    from gnopt.training.constant import shortcoming
    from gnopt.training.evaluate import evaluate_predictor

    trained = load_trained(
        of_member(run, member), which, given_flags(device=device, follow_links=follow_links)
    )
    new = trained.config.data.of_file(data) if data else None
    kind = trained.loss.predicts(trained.outputs)
    metrics = list(applicable(kind).values())
    with trained.open_data(new) as source:
        splits = source.splits
        if split != "all":
            if split not in splits:
                raise DataError(
                    f"{source.fingerprint.file}: no {split} rows; found {' and '.join(splits)} rows"
                )
            splits = {split: splits[split]}
        evaluations = {
            name: evaluate_predictor(trained, s, metrics=metrics) for name, s in splits.items()
        }
        asides = trained.asides(splits, metrics, folds=split == "all" and data is None)
        classes = source.classes.names if source.classes and source.classes.named else ()
        constants = {name: trained.constant_loss(s) for name, s in splits.items()}
    result: dict[str, object] = {
        **trained.facts(),
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
    for aside in asides:
        result |= aside.facts()
    tell(trained.told(), which)
    for name, constant in constants.items():
        warn(shortcoming(name, evaluations[name].loss, constant) if constant else ())
    if as_json:
        print_json(result)
        return
    click.echo(trained.title())
    shown = {"all rows" if name == ALL else name: e for name, e in evaluations.items()}
    for line in ("", *evaluation_lines(shown, constants.values(), trained.loss.error_name)):
        click.echo(line)
    for line in score_lines({name: e.scores for name, e in shown.items()}, kind, classes):
        click.echo(line)
    for aside in asides:
        for line in ("", *aside.lines()):
            click.echo(line)
    if not trained.noise_is_known and any(metric.needs_noise for metric in metrics):
        warn(["the noise is not known: this checkpoint was not evaluated when it was written"])
