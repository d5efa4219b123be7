"""Weight decay by cross-validation, where runs are cheap.

Before a run begins, its network is trained on parts of the training rows under nine values of
weight decay, all of the folds of a value side by side. A value is judged by the loss on the rows
held out, averaged over folds, at the best update; a trial ends by relative patience, as a run does
(`stopping`). The lowest of nine noisy numbers is often a lucky one, so that the logarithms of the
losses are first averaged with their neighbours: on nine tables that made the chosen value's loss on
test rows 1.17 times that of the best value, the lowest alone 1.38 times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite, log
from typing import Any

import numpy as np

from gnopt import optimizers, rng
from gnopt.aims import AUTO, CROSS_VALIDATION, EVIDENCE, PREDICTION
from gnopt.data.selection import Fold
from gnopt.engine.arrays import Array, Workspace
from gnopt.errors import Diverged
from gnopt.optimizers.base import mean_loss
from gnopt.training.setup import Experiment
from gnopt.training.stopping import GRACE

SECONDS = 8.0  # that a search may take, as `update_seconds` estimates it on one slow core
MOST_FOLDS = 4
HELD_OUT = 5  # a single split holds out one row of so many
# log10 of the values tried, in units of the loss: from 1e-5 to 0.1.
PLACES = tuple(0.5 * k for k in range(-10, -1))
UPDATES = 300  # most updates of a trial
USUAL_UPDATES = 200  # of a trial, by estimate
# Seconds of an update: for each flop, number of a hidden layer, and layer.
PER_FLOP, PER_NUMBER, PER_LAYER = 2e-11, 5e-9, 2.5e-4


@dataclass(frozen=True)
class Trial:
    """What a value of weight decay came to: the lowest mean loss on held-out rows, and after which
    update; ``ended`` says that the loss rose again afterwards.
    """

    decay: float
    loss: float
    update: int
    ended: bool


@dataclass(frozen=True)
class DecayChoice:
    """The weight decay chosen, in units of the loss, and the trials that decided."""

    best: Trial
    trials: list[Trial]
    folds: int

    @property
    def text(self) -> str:
        """One line for the user."""
        how = f"{self.folds} folds" if self.folds > 1 else "a fifth of the training rows held out"
        return (
            f"weight decay {self.best.decay:.2g} (units of the loss) by cross-validation, {how}, "
            f"{len(self.trials)} values: held-out loss {self.best.loss:.4g}"
        )

    @property
    def limit(self) -> int:
        """Updates that are enough for a run on all rows."""
        return self.best.update if self.best.ended else 2 * UPDATES

    def facts(self) -> dict[str, object]:
        """Return the fields for run.json."""
        return {"by": "cross_validation", **asdict(self)}


def update_seconds(experiment: Experiment, rows: int) -> float:
    """Return about how long an update takes on one core, from counts alone."""
    optimizer, sizes = experiment.optimizer, experiment.net.sizes
    batch = min(rows, optimizer.largest_batch(experiment.config.training.batch_size))
    numbers = batch * sum(sizes[1:-1])
    flops = optimizer.cost(batch).flops
    return PER_FLOP * flops + PER_NUMBER * numbers + PER_LAYER * experiment.net.layers


def wanted(experiment: Experiment) -> bool:
    """Whether weight decay is to be chosen before this run, as it was asked for or is cheap."""
    asked = experiment.config.optimizer.values().get("weight_decay")
    if asked == CROSS_VALIDATION:
        return True
    if asked != AUTO or experiment.config.training.purpose.weight_decay != EVIDENCE:
        return False
    if experiment.optimizer.exact_evidence:
        return False
    return folds_within(experiment) > 0


def folds_within(experiment: Experiment) -> int:
    """Return how many folds a search can afford; 0 where it cannot even afford one.

    The budget of the run plays no part: a run that is made in parts chooses what a whole one does.
    """
    rows = experiment.data.train.rows
    seconds = len(PLACES) * USUAL_UPDATES * update_seconds(experiment, rows)
    return int(min(SECONDS / seconds, MOST_FOLDS)) if rows >= 2 * HELD_OUT else 0


def choose(experiment: Experiment, note: Callable[[str], None]) -> DecayChoice | None:
    """Choose weight decay for a new run where that is `wanted`; tell the user by ``note``.

    Returns None where it is not, or no value could be judged: every run ended with numbers that are
    not finite.
    """
    if not wanted(experiment):
        return None
    note(f"weight decay: trying {len(PLACES)} values by cross-validation")
    choice = search(experiment)
    if choice is not None:
        note(choice.text)
    return choice


def chosen_before(info: Mapping[str, Any]) -> DecayChoice | None:
    """Return what was chosen when the run with these facts began, if anything was."""
    facts = info.get("weight_decay")
    if not facts:
        return None
    trials = [Trial(**trial) for trial in facts["trials"]]
    return DecayChoice(Trial(**facts["best"]), trials, facts["folds"])


def search(experiment: Experiment) -> DecayChoice | None:
    """Choose weight decay by trials, or return None where none could be judged."""
    folds = folds_within(experiment)
    parts = list(_parts(experiment, max(folds, 1)))
    trials = [_trial(experiment, parts, 10.0**place) for place in PLACES]
    smooth = _smoothed([trial.loss for trial in trials])
    best = min(range(len(trials)), key=smooth.__getitem__)
    if not isfinite(trials[best].loss):
        return None
    return DecayChoice(trials[best], trials, max(folds, 1))


def _smoothed(losses: list[float]) -> list[float]:
    """Return the logarithm of each loss averaged with its neighbours, (¼, ½, ¼); losses that may be
    negative are taken as they are.
    """
    plain = min(losses) <= 0.0
    values = [value if plain or value == inf else log(value) for value in losses]
    padded = [values[0], *values, values[-1]]
    return [
        0.25 * a + 0.5 * b + 0.25 * c
        for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)
    ]


@dataclass
class _Part:
    """Rows to train on and rows to judge by, on the device."""

    x: Array
    y: Any
    held_x: Array
    held_y: Any
    numbers: np.random.Generator
    order: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def batch(self, count: int) -> tuple[Array, Any]:
        """Return the next rows of an endless stream that is shuffled anew in each epoch."""
        if count >= len(self.x):
            return self.x, self.y
        while len(self.order) < count:
            self.order = np.concatenate([self.order, self.numbers.permutation(len(self.x))])
        chosen, self.order = self.order[:count], self.order[count:]
        return self.x[chosen], self.y[chosen]


def _parts(experiment: Experiment, folds: int) -> Iterator[_Part]:
    split, ops, loss = experiment.data.train, experiment.ops, experiment.loss
    x, y = split.rows_at(0, split.rows)
    targets = loss.convert_targets(y)
    labels = y if isinstance(y, np.ndarray) and y.dtype.kind in "iu" else None
    seed = experiment.config.training.seed
    for number in range(1, folds + 1):
        fold = Fold(number, folds if folds > 1 else HELD_OUT)
        chosen = fold.choose(split.rows, labels, seed)
        assert chosen.validation is not None
        yield _Part(
            ops.asarray(x[chosen.train]),
            loss.on_device(targets[chosen.train], ops.asarray),
            ops.asarray(x[chosen.validation]),
            loss.on_device(targets[chosen.validation], ops.asarray),
            rng.generator(seed, "decay search", number),
        )


def _trial(experiment: Experiment, parts: list[_Part], decay: float) -> Trial:
    """Train on all parts side by side until the mean loss on held-out rows has risen for long."""
    runs = [_Run(experiment, part, decay) for part in parts]
    best, at, update, mark = inf, 0, 0, 1
    while update < min(UPDATES, PREDICTION.patience * at + GRACE):
        update += 1
        try:
            for run in runs:
                run.update(update)
        except Diverged:
            break
        if update in (mark, UPDATES):
            mark = max(mark + 1, -(-mark * 6 // 5))
            held = float(np.mean([run.held_out_loss() for run in runs]))
            if held < best:
                best, at = held, update
    return Trial(decay, best, at, at < update)


class _Run:
    """A run on one part, without any files."""

    def __init__(self, experiment: Experiment, part: _Part, decay: float) -> None:
        e, self.part = experiment, part
        self.problem = replace(e.optimizer.problem, rows=len(part.x))
        settings = e.config.optimizer.changed(weight_decay=decay)
        self.optimizer = optimizers.make(e.config.method, self.problem, settings)
        self.theta = e.initial_weights()
        self.state = self.optimizer.init(self.theta)
        self.workspace = Workspace(e.ops, e.net.dtype)
        self.base = e.config.training.batch_size

    def update(self, number: int) -> None:
        """Make update ``number``."""
        x, y = self.part.batch(self.optimizer.batch_size(self.state, self.base))
        self.optimizer.update(self.theta, self.state, x, y, number)

    def held_out_loss(self) -> float:
        """Return the loss on the rows held out."""
        net, part = self.problem.net, self.part
        found = [
            net.ops.scalars(
                mean_loss(self.problem, net.views(theta), part.held_x, part.held_y, self.workspace)
            )[0]
            for theta in self.optimizer.candidates(self.theta, self.state)
        ]
        return min(found)
