"""How the columns of a table become inputs and targets: learnt once, stored with the network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gnopt.data.roles import Roles
from gnopt.data.table.cells import numbers_of, text_of
from gnopt.data.table.form import Table
from gnopt.data.table.kinds import Findings, InputColumn, all_kinds, column_of
from gnopt.data.table.target import Target, missing_targets
from gnopt.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 12  # names in a message
# Words that differ in nearly every row name the rows; they say nothing of new ones.
NAMES_ROWS, FEWEST = 0.9, 20


@dataclass(frozen=True)
class Encoded:
    """A table as arrays; rows without a target are left out."""

    x: np.ndarray  # (N, D) float64
    y: np.ndarray | None  # labels (N,) int64, or numbers (N,) or (N, K)
    weights: np.ndarray | None  # (N,)
    group: np.ndarray | None  # (N,) int64, the number of each row's group
    rows: np.ndarray  # (N,) the numbers of the rows in the table
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The columns that become inputs, in order, and those with targets, weights and groups."""

    columns: tuple[InputColumn, ...]
    target: Target | None = None
    weights: str = ""
    group: str = ""
    names_rows: tuple[str, ...] = ()  # columns that name the rows, which predictions repeat
    table_columns: tuple[str, ...] = ()  # of the training table
    named: bool = True  # whether the training table named its columns
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was decided for the user

    # ---- learning

    @classmethod
    def learn(cls, table: Table, roles: Roles) -> Self:
        """Decide how each column is encoded; DataError where nothing is left to learn from."""
        notes = list(table.notes)
        frame = table.frame
        target_names = find_columns(table, roles.targets, f"{roles.prefix}targets")
        other = {
            role: find_columns(table, spec, f"{roles.prefix}{role}")
            for role, spec in (("weights", roles.weights), ("group", roles.group))
        }
        for role, names in other.items():
            if len(names) > 1:
                raise DataError(
                    f"{table.path}: {roles.prefix}{role}: found {len(names)} columns; expected one"
                )
        taken = {*target_names, *other["weights"], *other["group"]}
        dropped = set(find_columns(table, roles.drop, f"{roles.prefix}drop"))
        chosen = find_columns(table, roles.inputs, f"{roles.prefix}inputs") or [
            name for name in frame.columns if name not in taken | dropped
        ]
        both = [name for name in chosen if name in target_names]
        if both:
            raise DataError(f"{table.path}: {both[0]!r} is a target and an input; expected one")
        forced = set(find_columns(table, roles.categories, f"{roles.prefix}categories"))
        target = Target.learn(table, target_names, forced) if target_names else None
        if target is not None:
            table = with_rows(table, ~missing_targets(target.encode(table)))
            gone = len(frame) - len(table.frame)
            if gone:
                notes.append(f"{gone:,} rows without a target are left out")
            frame = table.frame
        kinds = all_kinds()
        columns: list[InputColumn] = []
        names_rows: list[str] = []
        seen: dict[int, str] = {}
        for name in chosen:
            series = frame[name]
            asked = bool(roles.inputs) or name in forced
            why = None if asked else _says_nothing(series, roles.exact)
            if not asked and why is None:
                why = _names_rows(series, kinds, table.decimal)
                if why is not None:
                    names_rows.append(name)
                elif not roles.exact:
                    why = _repeats(series, seen, frame)
            if why is None:
                of_words = kinds[-1:] if name in forced else kinds
                column = _learn_column(series, of_words, table.decimal, notes, roles.exact)
                if column is not None:
                    columns.append(column)
                    continue
                why = "has no values"
            notes.append(f"{name}: {why}: it is no input")
        if not columns:
            raise DataError(f"{table.path}: no column is left for the inputs")
        return cls(
            columns=tuple(columns),
            target=target,
            weights="".join(other["weights"]),
            group="".join(other["group"]),
            names_rows=tuple(names_rows),
            table_columns=tuple(map(str, frame.columns)),
            named=table.named,
            notes=tuple(notes),
        )

    # ---- use

    @property
    def features(self) -> list[str]:
        """The name of each number that a row becomes."""
        return [feature for column in self.columns for feature in column.features]

    @property
    def continuous(self) -> list[str]:
        """The names of the columns whose cells are numbers or dates: what `by_cells`
        differentiates by.
        """
        return [column.name for column in self.columns if column.continuous]

    def by_cells(self, jacobian: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return derivatives by the cells of the ``continuous`` columns, (N, K, C) float64.

        ``jacobian``, (N, K, D), holds the derivatives by the numbers x, (N, D), that `encode` makes
        of the rows.
        """
        found, at = [], 0
        for column in self.columns:
            own = slice(at, at + len(column.features))
            at = own.stop
            if column.continuous:
                slopes = column.slopes(x[:, own])
                found.append(np.einsum("nkd,nd->nk", jacobian[:, :, own], slopes))
        return np.stack(found, axis=2)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ..., if the target has classes."""
        return self.target.classes if self.target is not None else ()

    def encode(self, table: Table, targets: bool = True) -> Encoded:
        """Return the table as arrays.

        Without ``targets`` all rows are kept and only inputs are asked for. Columns are found by
        their names, in any order; others are ignored. Raises DataError for missing columns, for
        cells that cannot be targets, and where no row has a target.
        """
        table = self._aligned(table, targets)
        y = self.target.encode(table) if targets and self.target is not None else None
        keep = np.ones(len(table.frame), dtype=bool) if y is None else ~missing_targets(y)
        if not keep.any():
            raise DataError(f"{table.path}: no row has a target ({', '.join(self._target_names)})")
        findings = Findings()
        findings.add("{n} rows without a target are left out", int((~keep).sum()))
        rows = np.flatnonzero(keep)
        table, y = with_rows(table, keep), None if y is None else y[keep]
        x = np.empty((len(rows), len(self.features)))
        at = 0
        for column in self.columns:
            values = column.encode(table.frame[column.name], table.decimal, findings)
            x[:, at : at + values.shape[1]] = values
            at += values.shape[1]
        weights = group = None
        if targets and self.weights:
            weights = self._numbers(table, self.weights)
        if targets and self.group:
            group = _group_numbers(table.frame[self.group])
        return Encoded(x, y, weights, group, rows, findings.lines())

    @property
    def _target_names(self) -> tuple[str, ...]:
        return self.target.names if self.target is not None else ()

    def _numbers(self, table: Table, name: str) -> np.ndarray:
        values, _ = numbers_of(table.frame[name], table.decimal)
        if np.isnan(values).any():
            row = int(np.isnan(values).argmax())
            raise DataError(
                f"{table.path}: {table.place(row)}: the weight {name!r} is "
                f"{str(table.frame[name].iloc[row])!r}; expected a number"
            )
        return values

    def _aligned(self, table: Table, targets: bool) -> Table:
        """Return the table with the columns that are needed; DataError names those it lacks."""
        needed = [column.name for column in self.columns]
        if targets:
            needed += [n for n in (*self._target_names, self.weights, self.group) if n]
        have = [str(name) for name in table.frame.columns]
        by_place = not targets and not table.named and len(have) == len(self.columns)
        if by_place and set(needed) != set(have):
            # A table without names that holds the inputs alone, in their order.
            frame = table.frame.set_axis(needed, axis=1)
            return Table(table.path, frame, table.notes, table.first_line, table.decimal)
        missing = [name for name in needed if name not in have]
        if missing:
            first = missing[0]
            more = f" and {len(missing) - 1} more ({', '.join(missing[1:_SHOWN])})"
            raise DataError(
                f"{table.path}: no column {first!r}{more if missing[1:] else ''}, which the "
                f"network was trained with; found {_listed(have)}{nearest(first, have)}"
            )
        return table

    # ---- storing

    def to_json(self) -> str:
        """Return the encoding as text, for a file; `from_json` reads it."""
        facts: dict[str, Any] = {
            "columns": [column.facts() for column in self.columns],
            "target": None if self.target is None else asdict(self.target),
            "weights": self.weights,
            "group": self.group,
            "names_rows": self.names_rows,
            "table_columns": self.table_columns,
            "named": self.named,
            "notes": self.notes,
        }
        return json.dumps(facts, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Return the encoding that ``text`` holds; DataError, which names ``where``, if damaged."""
        try:
            facts = json.loads(text)
            target = facts.pop("target")
            columns = tuple(map(column_of, facts.pop("columns")))
            lists: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()
            }
            if target is not None:
                target = Target(
                    names=tuple(target["names"]), classes=tuple(target.get("classes", ()))
                )
            found = cls(columns=columns, target=target, **lists)
            _ = found.features  # a damaged record fails here
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{where}: the encoding of the table is damaged: {error!r}") from None
        return found


def with_rows(table: Table, keep: np.ndarray) -> Table:
    """Return the table with these rows alone."""
    if keep.all():
        return table
    frame = table.frame.loc[keep]
    return Table(table.path, frame, table.notes, 0, table.decimal, table.named)


def find_columns(table: Table, spec: str, key: str) -> list[str]:
    """Return the names of the columns that ``spec`` names; DataError for one that is not there."""
    have = [str(name) for name in table.frame.columns]
    if not spec:
        return []
    found = []
    for name in [spec] if spec in have else [part.strip() for part in spec.split(",")]:
        if name in have:
            found.append(name)
        elif name.lstrip("-").isdecimal() and -len(have) <= int(name) < len(have):
            found.append(have[int(name)])
        else:
            raise DataError(
                f"{table.path}: {key} = {spec!r}: no column {name!r}; found {_listed(have)}"
                f"{nearest(name, have)}"
            )
    return list(dict.fromkeys(found))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f", ... ({len(names):,} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _learn_column(
    series: pd.Series,
    kinds: Sequence[type[InputColumn]],
    decimal: str,
    notes: list[str],
    exact: bool,
) -> InputColumn | None:
    """Return how the first of ``kinds`` that takes the column encodes it; None if none does."""
    found = (kind.learn(series, decimal, notes, exact) for kind in kinds)
    return next((column for column in found if column is not None), None)


def _says_nothing(series: pd.Series, exact: bool) -> str | None:
    """Return that a column has no values or, unless ``exact``, always the same one, or None."""
    known = series.dropna()
    if not len(known):
        return "has no values"
    complete = len(known) == len(series)
    if not exact and complete and (known == known.iloc[0]).all():
        return f"is {known.iloc[0]!s} in every row"
    return None


def _names_rows(series: pd.Series, kinds: Sequence[type[InputColumn]], decimal: str) -> str | None:
    """Return that a column holds a word, or a whole number, of its own for nearly every row, or
    None.
    """
    known = series.dropna()
    words = known.dtype.kind not in "biufcmM"
    if words and len(known) >= FEWEST:
        different = text_of(known).nunique()
        if (
            different > NAMES_ROWS * len(known)
            and _learn_column(series, kinds[:-1], decimal, [], exact=False) is None
        ):
            return f"names the rows ({different:,} different words in {len(known):,} cells)"
    if is_row_number(str(series.name), series):
        return "names the rows (a different whole number in each)"
    return None


def _repeats(series: pd.Series, seen: dict[int, str], frame: pd.DataFrame) -> str | None:
    """Return that a column is the same as one before it, or None; ``seen`` maps digests to names of
    columns.
    """
    import pandas as pd

    digest = int(pd.util.hash_pandas_object(series, index=False).to_numpy().sum())
    twin = seen.setdefault(digest, str(series.name))
    if twin != series.name and series.equals(frame[twin].rename(series.name)):
        return f"is the same as {twin} in every row"
    return None


def is_row_number(name: str, series: pd.Series) -> bool:
    """Return whether a column called like an identifier holds another whole number in each row."""
    if len(series) < FEWEST or series.dtype.kind not in "iu" or not series.is_unique:
        return False
    parts = name.lower().replace("-", "_").replace(" ", "_").split("_")
    called = bool({"id", "index", "row", "no", "nr", "number", "identifier", "key"} & set(parts))
    return called or name.lower().endswith("id")


def _group_numbers(series: pd.Series) -> np.ndarray:
    import pandas as pd

    codes, _ = pd.factorize(text_of(series), use_na_sentinel=False)
    return np.asarray(codes, dtype=np.int64)
