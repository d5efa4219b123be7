"""The file runs.csv: one line per run, written as the runs end."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from battery.runs import Result

_TYPES = {"int": int, "float": float, "str": str}
_NAMES = [field.name for field in fields(Result)]


class Table:
    """The results in DIR/runs.csv, by problem and entrant; a later line replaces an earlier one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs.csv"
        self.results: dict[tuple[int, str], Result] = {}
        if self.path.is_file():
            with self.path.open(newline="") as file:
                for row in csv.DictReader(file):
                    self._keep(_result(row))

    def _keep(self, result: Result) -> None:
        self.results[result.problem, result.entrant] = result

    def add(self, result: Result) -> None:
        """Keep a result and append it to the file at once."""
        self._keep(result)
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, _NAMES, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(asdict(result))

    def forget(self, keys: Iterable[tuple[int, str]]) -> None:
        """Drop these results, from the file as well."""
        for key in keys:
            self.results.pop(key, None)
        kept = list(self.results.values())
        self.path.unlink(missing_ok=True)
        self.results = {}
        for result in kept:
            self.add(result)


def _result(row: dict[str, str]) -> Result:
    values = {field.name: _TYPES[str(field.type)](row[field.name]) for field in fields(Result)}
    return Result(**values)
