"""What the command does: make the runs that are missing, report, compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from battery.pool import Task, perform
from battery.problems import problem
from battery.report import HEADER, LEGEND, changes, line, losers, summaries
from battery.runs import DEFAULTS, Limit, entrants
from battery.table import Table
from battery.verdicts import Summary, Verdict, verdicts
from gnopt.errors import ConfigError
from gnopt.files import write_text


@dataclass(frozen=True)
class Settings:
    """The command's options."""

    out: Path
    seed: int
    count: int
    first: int
    problems: str
    methods: str
    again: str
    factor: float
    jobs: int | None
    sets: tuple[str, ...]

    @property
    def indices(self) -> list[int]:
        """The numbers of the problems asked for."""
        if self.problems:
            return [int(text) for text in _names(self.problems)]
        return list(range(self.first, self.first + self.count))

    def tasks(self) -> list[Task]:
        """Return every run that was asked for."""
        return [
            Task(self.seed, index, entrant, Limit(self.factor * seconds), self.sets)
            for index in self.indices
            for seconds in [problem(index, self.seed).seconds]
            for entrant in entrants(_names(self.methods))
        ]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(settings: Settings, cores: Sequence[int]) -> str:
    """Make the runs that are missing in the folder; return the summary, and write the report."""
    settings.out.mkdir(parents=True, exist_ok=True)
    _check_same(settings)
    table = Table(settings.out)
    again = {(t.index, t.entrant.name) for t in settings.tasks() if _named(t, settings.again)}
    if again:
        table.forget(again)
    tasks = [t for t in settings.tasks() if (t.index, t.entrant.name) not in table.results]
    for number, result in enumerate(perform(tasks, settings.jobs or len(cores)), 1):
        table.add(result)
        end = f"{result.objective:.6g}" if not result.exit else result.message
        click.echo(f"{number}/{len(tasks)} {result.problem} {result.entrant}: {end}", err=True)
    text = report(settings.out)
    write_text(settings.out / "report.txt", text + "\n")
    return text.partition("\n\n\n")[0]


def _named(task: Task, names: str) -> bool:
    return task.entrant.method in _names(names)


def _check_same(settings: Settings) -> None:
    """Raise ConfigError if the folder holds runs of another battery or of other seconds."""
    facts = {"seed": settings.seed, "seconds_factor": settings.factor}
    path = settings.out / "battery.json"
    if not path.is_file():
        write_text(path, json.dumps(facts) + "\n")
    elif (found := json.loads(path.read_text())) != facts:
        raise ConfigError(f"{path}: runs of {found}, not of {facts}; choose another --out")


def _seed(folder: Path) -> int:
    path = folder / "battery.json"
    if not path.is_file():
        raise ConfigError(f"{path}: missing; not a folder of the battery")
    return int(json.loads(path.read_text())["seed"])


def judged(folder: Path) -> dict[str, list[Verdict]]:
    """Return the verdicts on every method in the folder but Adam."""
    table, seed = Table(folder), _seed(folder)
    dtypes = {index: problem(index, seed).dtype for index, _ in table.results}
    names = {entrant.split()[0] for _, entrant in table.results} - {"adam"}
    order = [name for name in DEFAULTS if name in names] + sorted(names - set(DEFAULTS))
    found = {name: verdicts(table, name, dtypes) for name in order}
    return {name: verdict for name, verdict in found.items() if verdict}


def report(folder: Path) -> str:
    """Return the report: the summary, every problem, and the losers of every method."""
    found, seed = judged(folder), _seed(folder)
    if not found:
        return f"{folder}: no problem was run by a method and by Adam"
    parts = [summaries({name: Summary.of(v) for name, v in found.items()}) + "\n\n" + LEGEND]
    for name, verdict in found.items():
        parts.append(f"{name}: problems above the best Adam\n{losers(verdict, seed)}")
    for name, verdict in found.items():
        parts.append("\n".join([f"{name}: every problem", HEADER, *map(line, verdict)]))
    return "\n\n\n".join(parts)


def shown(index: int, seed: int) -> str:
    """Return the description of one problem."""
    p = problem(index, seed)
    constant, floor = p.constant()
    return (
        f"{index}: {p}\n{p.parameters:,} parameters, {p.seconds:.1f} s; best constant "
        f"{constant:.6g}, floor {floor:.6g}"
    )


def compared(before: Path, after: Path) -> str:
    """Return counts of two folders side by side, and the problems that changed most."""
    if _seed(before) != _seed(after):
        raise ConfigError(f"{before} and {after} are of different seeds")
    old, new = judged(before), judged(after)
    parts = []
    for name in (name for name in old if name in new):
        common = {v.result.problem for v in old[name]} & {v.result.problem for v in new[name]}
        a, b = ([v for v in found[name] if v.result.problem in common] for found in (old, new))
        columns = {f"{name} before": Summary.of(a), f"{name} after": Summary.of(b)}
        parts.append(summaries(columns) + "\n\n" + changes(a, b, _seed(after)))
    return "\n\n\n".join(parts) or "no method was run in both folders"
