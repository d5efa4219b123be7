"""Train an ensemble and show its members: progress on stderr, a table on stdout at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from gnopt.cli.closing import next_lines
from gnopt.cli.common import print_json, table, warn
from gnopt.cli.display import RunsReporter, headline
from gnopt.config import Flags, load
from gnopt.engine.losses import get_loss
from gnopt.ensemble import start
from gnopt.ensemble.outcome import MemberOutcome, unfinished
from gnopt.ensemble.train import EnsembleOutcome, train


@dataclass(frozen=True)
class Source:
    """What the command line says of the ensemble to begin, or to go on with."""

    config: Path | None
    sets: tuple[str, ...]
    flags: Flags
    out: Path | None
    init_from: Path | None
    resume: bool
    overwrite: bool
    argv: list[str]

    def open(self, jobs: int | None) -> start.Ensemble:
        """Open the ensemble's directory; raises GnoptError with nothing written."""
        if self.resume:
            assert self.out is not None
            return start.resume(
                self.config, self.sets, self.flags, self.out, jobs, self.argv, headline
            )
        assert self.config is not None
        config = load(self.config, self.sets, self.flags)
        return start.begin(
            config, self.out, self.init_from, self.overwrite, jobs, self.argv, headline
        )


def train_ensemble(source: Source, jobs: int | None, as_json: bool, quiet: bool) -> None:
    """Train the members of an ensemble and print how they ended."""
    ensemble = source.open(jobs)
    try:
        left = len(unfinished(ensemble.run.path, ensemble.config, ensemble.members))
        with RunsReporter("members", left, quiet) as reporter:
            reporter.note(ensemble.headline)
            reporter.note(
                f"{left} of {len(ensemble.members)} members to train, {ensemble.allocation.text()}"
            )

            def ended(member: MemberOutcome, reason: str) -> None:
                reporter.count_run(f"{member.member.name}: {member.text(reason)}")

            outcome = train(ensemble, ended)
    finally:
        ensemble.run.close()
    warn(outcome.notes())
    if as_json:
        print_json(summary(ensemble, outcome))
    else:
        click.echo(table(_rows(ensemble, outcome)))
        lines = next_lines(ensemble.run.path, Path(ensemble.config.data.file))
        click.echo("\n".join(["", *lines]))


def summary(ensemble: start.Ensemble, outcome: EnsembleOutcome) -> dict[str, object]:
    """Return the result of an ensemble, as --json prints it; losses are of the mean prediction."""
    train, validation = (outcome.scores.evaluations.get(n) for n in ("train", "validation"))
    assert train is not None
    return {
        "run": str(ensemble.run.path),
        "method": ensemble.config.method,
        "members": [member.facts() for member in outcome.members],
        "trained": len(outcome.trained),
        "objective": train.loss,
        "error": train.error,
        "error_name": get_loss(ensemble.config.network.loss).error_name,
        "rows": train.rows,
        "validation_objective": validation and validation.loss,
        "validation_error": validation and validation.error,
        "scores": outcome.scores.facts(),
    }


def _rows(ensemble: start.Ensemble, outcome: EnsembleOutcome) -> list[tuple[str, str]]:
    return [
        *((member.member.name, member.text()) for member in outcome.members),
        *outcome.scores.rows(),
        ("run", str(ensemble.run.path)),
    ]
