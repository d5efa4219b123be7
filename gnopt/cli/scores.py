"""Evaluations and scores of metrics, as JSON and as tables that fit into 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gnopt.data.places import ALL
from gnopt.engine.predictions import Prediction
from gnopt.formatting import ABSENT, number
from gnopt.metrics import Score
from gnopt.training.constant import ConstantLoss
from gnopt.training.evaluate import Evaluation

Scores = Mapping[str, Score]  # by name of the metric
WIDTH = 80
MOST_CLASSES = 20  # that a table on a terminal shows
_NAMES = 22  # characters of the first column
MOST_PARTS = 6  # of which a terminal shows the numbers


def score_facts(scores: Scores, kind: type[Prediction]) -> dict[str, object]:
    """Return the fields for JSON: values by name, parts by class or output, and tables."""
    return {
        "metrics": {name: s.value for name, s in scores.items() if s.table is None},
        f"per_{kind.part}": {name: list(s.parts) for name, s in scores.items() if s.parts},
        "tables": {name: s.table.tolist() for name, s in scores.items() if s.table is not None},
    }


def score_lines(
    splits: Mapping[str, Scores], kind: type[Prediction], classes: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each metric with its value on each split, below `evaluation_lines`; then, of
    the last split, what the metrics say of each class or output, and their tables.

    ``classes`` are names of the classes, if there are any.
    """
    last, scores = list(splits.items())[-1]
    names = [name for name in scores if any(s[name].value is not None for s in splits.values())]
    for name in names:
        yield _line(name, [number(found[name].value, 6) for found in splits.values()])
    parts = {name: scores[name].parts for name in names if len(scores[name].parts) > 1}
    yield from _parts(f"by {kind.part}, {last} rows", parts)
    for name, score in scores.items():
        if score.table is not None:
            whose = "all rows" if last == ALL else f"the {last} rows"
            yield from _table(f"{name} of {whose}", score.table.tolist(), classes)


def evaluation_lines(
    splits: Mapping[str, Evaluation], constants: Iterable[ConstantLoss | None], error_name: str
) -> Iterator[str]:
    """Yield the heading of a table with a column for each split, and the lines of rows, loss and
    error; ``constants`` are the losses of the best constant predictor, where they are known.
    """
    found = list(splits.values())
    yield _line("", list(splits))
    yield _line("rows", [f"{e.rows:,}" for e in found])
    yield _line("loss", [number(e.loss, 8) for e in found])
    if any(e.floor > 0.0 for e in found):
        yield _line("lowest loss possible", [number(e.floor, 6) for e in found])
    known = [number(c.loss if c else None, 6) for c in constants]
    if any(cell != ABSENT for cell in known):
        yield _line("best constant's loss", known)
    yield _line(error_name, [number(e.error, 6) for e in found])


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<{_NAMES}}" + "".join(f"{cell:>14}" for cell in cells)


def _parts(title: str, parts: Mapping[str, Sequence[float | None]]) -> Iterator[str]:
    """Yield the lines of a table with a column for each part, or one line if there are many."""
    widest = max((len(values) for values in parts.values()), default=0)
    if not widest:
        return
    if widest > MOST_PARTS:
        yield f"{title}: {widest} of each; --json has them"
        return
    yield ""
    yield f"{title:<26}" + "".join(f"{place:>9}" for place in range(widest))
    for name, values in parts.items():
        yield f"{name:<26}" + "".join(f"{number(value, 4):>9}" for value in values)


def _table(title: str, table: list[list[float]], classes: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table of classes, or one line that says why it is not shown."""
    numbers = [str(number) for number in range(len(table))]
    cells = [[f"{value:.6g}" for value in row] for row in table]
    labels = [f"{c} {name}" for c, name in zip(numbers, classes, strict=False)] or numbers
    cell = max(len(text) for row in [numbers, *cells] for text in row) + 1
    head = min(max(len(label) for label in labels), WIDTH - cell * len(table))
    if len(table) > MOST_CLASSES or head < len(numbers[-1]):
        yield f"{title}: {len(table)} classes are too many for a table here; --json holds it"
        return
    yield ""
    yield f"{title}: true classes down, predicted ones across"
    yield " " * head + "".join(f"{text:>{cell}}" for text in numbers)
    for label, row in zip(labels, cells, strict=True):
        yield f"{label[:head]:<{head}}" + "".join(f"{text:>{cell}}" for text in row)
