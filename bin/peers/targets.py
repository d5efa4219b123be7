"""Seconds and updates to given objectives, and peak memory, of real ``gnopt train`` runs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gnopt.toml import to_toml
from peers.children import Ended, run
from peers.problems import CONFIGS, Variant
from peers.tables import number, show

MNIST10K = (60.1, 52.6, 50.4)
Rows: TypeAlias = list[tuple[int, float, float]]  # (updates, seconds, objective)
EVERY = 2  # updates between evaluations, which do not count as training
ADAM = Variant(
    "adam, rate 2^-9", "adam", {"learning_rate": 2.0**-9}
)  # its best on these autoencoders


@dataclass(frozen=True)
class Problem:
    """A configuration to train, and how."""

    config: Path = CONFIGS / "mnist10k.toml"
    sets: tuple[str, ...] = ("data.validation=0",)
    seconds: float = 120.0
    seed: int = 0


@dataclass(frozen=True)
class Hit:
    """The first evaluation at or below a target; None where there was none within the budget."""

    method: str
    target: float
    updates: int | None
    seconds: float | None
    objective: float
    peak_megabytes: float


def evaluations(path: Path) -> Rows:
    """(updates, seconds, objective) of a run's eval.csv, a line being written left out."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    return [(int(r["step"]), float(r["seconds"]), float(r["train_loss"])) for r in rows]


class Contestant(Protocol):
    """Something that trains the problem's network from the problem's initial weights."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def train(self, problem: Problem, targets: Sequence[float], folder: Path) -> tuple[Rows, Ended]:
        """Train until the lowest target or the budget; every evaluation, and how the process
        ended.
        """


@dataclass(frozen=True)
class OwnRun:
    """``gnopt train`` with a variant of a method."""

    variant: Variant

    @property
    def name(self) -> str:
        """The variant's."""
        return self.variant.name

    def train(self, problem: Problem, targets: Sequence[float], folder: Path) -> tuple[Rows, Ended]:
        """As Contestant says."""
        log = folder / "eval.csv"
        sets = [
            *problem.sets,
            f"optimizer.method={self.variant.method}",
            f"training.evaluate_every={EVERY}",
            "training.evaluate_rows=0",
            "training.evaluate_share=0",
            "training.aim=objective",
            "training.checkpoint_every=0",
            "training.updates=1000000",
            *_settings(self.variant.settings),
        ]
        command = [
            sys.executable,
            "-m",
            "gnopt",
            "train",
            str(problem.config),
            "--out",
            str(folder),
            "--quiet",
            "--seed",
            str(problem.seed),
            "--max-seconds",
            str(problem.seconds),
            *(part for text in sets for part in ("--set", text)),
        ]
        ended = run(
            command,
            lambda: bool(targets) and any(o <= min(targets) for _, _, o in evaluations(log)),
        )
        return evaluations(log), ended


def _settings(settings: dict[str, Any]) -> list[str]:
    lines = to_toml({"optimizer": settings}).splitlines()
    return [
        f"optimizer.{name}={value}"
        for name, _, value in (line.partition(" = ") for line in lines)
        if value
    ]


def hits(method: str, rows: Rows, targets: Sequence[float], ended: Ended) -> list[Hit]:
    """When each target was first reached."""
    found = []
    for target in targets:
        first = next((row for row in rows if row[2] <= target), None)
        lowest = min((objective for *_, objective in rows), default=float("nan"))
        found.append(
            Hit(
                method,
                target,
                first and first[0],
                first and first[1],
                first[2] if first else lowest,
                ended.peak_bytes / 1e6,
            )
        )
    return found


def measure(
    problem: Problem,
    contestants: Sequence[Contestant],
    targets: Sequence[float],
    baselines: Sequence[Contestant],
    baseline_seconds: float | None,
    scratch: Path,
) -> list[dict[str, Any]]:
    """All hits as rows; with ``baseline_seconds`` baselines run first and the best that each
    reaches is a target.

    Without, they run last, to the same targets.
    """
    wanted = list(targets)
    order = [*baselines, *contestants] if baseline_seconds else [*contestants, *baselines]
    runs = []
    for place, one in enumerate(order):
        folder = scratch / f"target-{place}"
        if baseline_seconds and one in baselines:
            rows, ended = one.train(replace(problem, seconds=baseline_seconds), (), folder)
            wanted.append(min(objective for *_, objective in rows))
        else:
            rows, ended = one.train(problem, wanted, folder)
        runs.append((one.name, rows, ended))
    found = [hit for name, rows, ended in runs for hit in hits(name, rows, wanted, ended)]
    first_seconds = {hit.target: hit.seconds for hit in reversed(found)}
    return [
        asdict(hit) | {"ratio_to_first": _ratio(hit.seconds, first_seconds[hit.target])}
        for hit in found
    ]


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def show_targets(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of ``measure``."""
    show(
        f"{name}: to an objective",
        [
            "method",
            "target",
            "updates",
            "seconds",
            "/ first",
            "objective there or lowest",
            "peak MB",
        ],
        [
            [
                r["method"],
                f"{r['target']:.6g}",
                "never" if r["updates"] is None else str(r["updates"]),
                number(r["seconds"]),
                number(r["ratio_to_first"]),
                f"{r['objective']:.6g}",
                number(r["peak_megabytes"]),
            ]
            for r in rows
        ],
        "seconds of training alone; / first: over the first method that is listed",
    )
