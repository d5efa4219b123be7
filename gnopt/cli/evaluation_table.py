"""The table of evaluations that a training shows, line by line, on the screen and in a log."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from gnopt.formatting import digits, duration
from gnopt.training.loop import Counters
from gnopt.training.measured import Measured

WIDTH = 80  # characters in a line


@dataclass(frozen=True)
class Column:
    """A column of the table of evaluations: its heading, in lines of a word or two."""

    heading: tuple[str, ...]
    width: int

    @classmethod
    def of(cls, name: str, width: int = 0) -> Column:
        """Return a column as wide as its heading, and at least ``width``."""
        parts = name.split("\n")
        lines = tuple(x for part in parts for x in textwrap.wrap(part, 10, break_long_words=False))
        return cls(lines, max([width, *map(len, lines)]))


class EvaluationTable:
    """Lays out the evaluations of a run as lines of a table, on the screen and in a log.

    A metric is shown on the validation rows, or on the training rows where there are none. Those
    that fit into ``width`` columns of text are shown; eval.csv has all. ``cells`` are what the
    caller adds to each line: their headings.
    """

    def __init__(self, measured: Measured, error_name: str, width: int, cells: Sequence[str]):
        self.validated = measured.validation is not None
        self.error_name = error_name
        rows = "validation" if self.validated else "training"
        losses = ["training loss", *(["validation loss"] if self.validated else [])]
        fixed = [Column.of("update", 6), Column.of("time", 8)]
        fixed += [Column.of(name, 9) for name in losses]
        added = [Column.of(name, 6) for name in cells]
        metrics = [Column.of(f"{rows} {name}", 9) for name, _ in self._metrics(measured)]
        most, used = 0, sum(column.width + 2 for column in [*fixed, *added])
        for column in metrics:
            used += column.width + 2
            most += used - 2 <= width
        self.shown = most
        self.columns = [*fixed, *metrics[:most], *added]

    def _metrics(self, measured: Measured) -> list[tuple[str, float | None]]:
        """Return the metrics that were asked for, that which judges the run first, or the error of
        the loss where none was.
        """
        of, judge = measured.validation or measured.train, measured.judge.name
        names = sorted(of.scores, key=lambda name: name != judge)
        scores = [(name.replace("_", " "), of.scores[name].value) for name in names]
        return scores or [(self.error_name, of.error)]

    def header(self) -> list[str]:
        """Return the lines above the table."""
        height = max(len(column.heading) for column in self.columns)
        padded = [
            ("",) * (height - len(column.heading)) + column.heading for column in self.columns
        ]
        return [self._line([heading[i] for heading in padded]) for i in range(height)]

    def line(self, counters: Counters, measured: Measured, cells: Sequence[str]) -> str:
        """Return the line of an evaluation."""
        losses = [measured.train.loss]
        if measured.validation is not None:
            losses.append(measured.validation.loss)
        metrics = [value for _, value in self._metrics(measured)[: self.shown]]
        return self._line(
            [
                f"{counters.step:,}",
                duration(counters.seconds),
                *map(digits, [*losses, *metrics]),
                *cells,
            ]
        )

    def _line(self, cells: Sequence[str]) -> str:
        pairs = zip(cells, self.columns, strict=True)
        return "  ".join(f"{cell:>{column.width}}" for cell, column in pairs).rstrip()
