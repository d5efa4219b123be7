"""The closing lines of a training: how good the best network is, where it is, and what comes
next.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import h5py

from gnopt.cli.paths import listed, shown
from gnopt.formatting import digits, duration
from gnopt.training.loop import Trainer, TrainingOutcome
from gnopt.training.measured import Measured


def closing_lines(trainer: Trainer, outcome: TrainingOutcome) -> Iterator[str]:
    """Yield the closing lines of a run of one network."""
    counters, config = outcome.counters, trainer.experiment.config
    yield ""
    yield (
        f"{counters.step:,} updates of {config.method} in {duration(counters.seconds)}, "
        f"{duration(counters.wall)} with evaluations"
    )
    yield ""
    yield from measured_lines(outcome.measured, trainer.experiment.loss.error_name)
    yield ""
    yield f"best network: update {outcome.handed.step:,}, {outcome.handed.reason()}"
    yield from (f"              {text}" for text in outcome.shortcomings())
    yield f"stored in     {shown(outcome.path)}"
    yield from next_lines(trainer.run.path, Path(config.data.file))


def measured_lines(measured: Measured, error_name: str) -> Iterator[str]:
    """Yield the table of a network's losses, errors and metrics on training and validation rows."""
    train, validation = measured.train, measured.validation
    constants = [measured.train_constant, measured.validation_constant]
    evaluations = [train, *([validation] if validation else [])]
    rows = [
        ("rows", [f"{e.rows:,}" for e in evaluations]),
        ("loss", [digits(e.loss) for e in evaluations]),
        ("best constant's loss", [digits(c.loss) for c in constants if c is not None]),
    ]
    if train.floor > 0.0:
        rows.append(("lowest loss possible", [digits(e.floor) for e in evaluations]))
    rows.append((error_name, [digits(e.error) for e in evaluations]))
    for name in train.scores:
        rows.append((name.replace("_", " "), [digits(e.scores[name].value) for e in evaluations]))
    width = max(len(name) for name, _ in rows)
    titles = ["training", "validation"][: len(evaluations)]
    for name, cells in [("", titles), *rows]:
        if cells:
            yield f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells)


def next_lines(run: Path, data: Path) -> Iterator[str]:
    """Yield the commands that a user may want next, ready to be copied."""
    where, file = shlex.quote(shown(run)), shlex.quote(shown(data))
    kind = "h5" if h5py.is_hdf5(data) else "csv"  # predictions in the form of the data
    commands = [
        f"gnopt evaluate {where}",
        f"gnopt predict {where} {file} predictions.{kind}",
        f"gnopt plot {where}",
    ]
    yield from listed("next:         ", commands)
