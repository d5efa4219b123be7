"""One run: a problem, a method, and what came out, by the code that ``gnopt train`` runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py

from battery.problems import Problem
from gnopt.config import Config, load
from gnopt.errors import ConfigError, GnoptError, Interrupted, nearest
from gnopt.optimizers import methods, options_of
from gnopt.toml import to_toml
from gnopt.training import start
from gnopt.training.estimate import check_memory
from gnopt.training.loop import Counters, Reporter, run_to_end

RATES = (1e-1, 1e-2, 3e-3, 1e-3, 1e-4)  # of Adam, the best of which counts
DEFAULTS = ("kfra", "kflr", "kfac", "adam")
FOREVER = 10**9  # updates: the seconds end a run


@dataclass(frozen=True)
class Entrant:
    """A method with the settings that it is run with, all else at its defaults."""

    method: str
    rate: float | None = None

    @property
    def name(self) -> str:
        """The method, and the rate if it is not the default."""
        return self.method if self.rate is None else f"{self.method} {self.rate:g}"

    def sets(self, more: Sequence[str]) -> list[str]:
        """Return settings as ``--set`` takes them; of ``more``, those that this method has."""
        known = {option.name for option in options_of(self.method)}
        keys = {text: text.partition("=")[0].strip() for text in more}
        own = [
            text
            for text, key in keys.items()
            if not key.startswith("optimizer.") or key.removeprefix("optimizer.") in known
        ]
        rate = [] if self.rate is None else [f"optimizer.learning_rate={self.rate!r}"]
        return [f"optimizer.method={self.method}", *rate, *own]


def entrants(names: Sequence[str]) -> list[Entrant]:
    """Return the entrants of these methods: Adam at every rate, any other method once."""
    wrong = [name for name in names if name not in methods()]
    if wrong:
        raise ConfigError(
            [f"--methods: unknown method '{name}'{nearest(name, methods())}" for name in wrong]
        )
    return [
        Entrant(name, rate)
        for name in dict.fromkeys(names)
        for rate in (RATES if name == "adam" else (None,))
    ]


@dataclass(frozen=True)
class Limit:
    """When a run ends: after so many seconds of the processor, or so many updates."""

    seconds: float
    updates: int = FOREVER


@dataclass(frozen=True)
class Result:
    """How one run ended. Objectives are means over all training rows, without weight decay."""

    problem: int
    entrant: str
    budget: float  # seconds
    seconds: float  # of updates; more than the budget by a part of the last one
    updates: int
    exit: int  # 0 done, 3 diverged, another code: another error
    objective: float  # of the weights that were handed out; NaN if none were
    constant: float  # of the best constant predictor
    floor: float  # the least that the targets allow
    message: str  # of the error
    notes: str  # what the run told its user

    @property
    def gap(self) -> float:
        """How far the run ended above the floor; infinite where it handed out nothing."""
        gap = self.objective - self.floor
        return gap if self.exit == 0 and math.isfinite(gap) else math.inf

    @property
    def constant_gap(self) -> float:
        """How far the best constant predictor is above the floor."""
        return self.constant - self.floor

    @property
    def stands(self) -> bool:
        """Whether the run ended no better than the best constant predictor."""
        return self.gap >= 0.999 * self.constant_gap


class _Notes(Reporter):
    """Keeps what a run tells its user."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def run(problem: Problem, entrant: Entrant, limit: Limit, sets: Sequence[str] = ()) -> Result:
    """Train ``problem`` and return how it ended; an error of the run is a result, not raised.

    Seconds are those of the processor, so that other work on the machine takes nothing from a run.
    """
    notes, counters = _Notes(), Counters()
    objective, code, message = math.nan, 0, ""
    with TemporaryDirectory(prefix="gnopt-battery-") as name:
        folder = Path(name)
        try:
            config = configuration(problem, folder, limit, entrant.sets(sets))
            trainer = start.begin(
                config,
                out=folder / "run",
                init_from=None,
                overwrite=False,
                reporter=notes,
                argv=[],
                check=check_memory,
                clock=time.process_time,
            )
            counters = trainer.counters
            try:
                objective = run_to_end(trainer).last.train.loss
            finally:
                trainer.experiment.data.close()
        except Interrupted:  # the battery is stopped, which says nothing of the run
            raise
        except Exception as error:
            code = error.exit_code if isinstance(error, GnoptError) else 1
            message = f"{type(error).__name__}: {error}".splitlines()[0].replace(name, "")
    constant, floor = problem.constant()
    return Result(
        problem=problem.index,
        entrant=entrant.name,
        budget=limit.seconds,
        seconds=counters.seconds,
        updates=counters.step,
        exit=code,
        objective=objective,
        constant=constant,
        floor=floor,
        message=message,
        notes=" | ".join(notes.texts),
    )


def configuration(problem: Problem, folder: Path, limit: Limit, sets: Sequence[str]) -> Config:
    """Write the data and the configuration of ``problem`` to ``folder``; return the latter."""
    x, y = problem.arrays
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"] = x, y
    sections: dict[str, dict[str, object]] = {
        "data": {"file": "data.h5", "inputs": "x", "targets": "y", "validation": 0},
        "network": {
            "hidden": list(problem.hidden),
            "activation": problem.activation,
            "loss": problem.loss,
        },
        "training": {
            "batch_size": problem.batch,
            "dtype": problem.dtype,
            "seed": problem.index,
            "updates": limit.updates,
            "max_seconds": limit.seconds,
            "evaluate_every": 0,
            "checkpoint_every": 0,
            "evaluate_rows": 0,
            "aim": "objective",
        },
    }
    path = folder / "config.toml"
    path.write_text(to_toml(sections))
    return load(path, tuple(sets))
