"""Convert other files to the HDF5 files that gnopt trains on, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from gnopt.data.array_files import layout_of, open_source, refuse_archive, refuse_pickle
from gnopt.data.formats import ImportSettings, Reader, find_reader, listing
from gnopt.data.layout import Pair
from gnopt.data.opening import write_encoding
from gnopt.data.other_files import kind_of
from gnopt.data.pictures import READER as PICTURES
from gnopt.data.rows import Rows, from_array
from gnopt.data.table.encoding import Encoding
from gnopt.data.table.reading import is_table
from gnopt.data.table_rows import TableRows, open_labels, open_table
from gnopt.data.writing import Progress, claim_new, new_file, new_table
from gnopt.errors import ConfigError, DataError, nearest

_BLOCK_BYTES = 2**23
Note = Callable[[str], object]
MANY_CLASSES = 1000  # of more labels nobody expects one of each in every group
SHOWN = 10  # classes in a message, at most
_Table = tuple[dict[str, int], Rows, "Rows | None", "Rows | None"]  # rows of groups; x, y, w
GROUPS = ("train", "validation", "test")


def import_data(
    source: Path,
    out: Path,
    settings: ImportSettings | None = None,
    *,
    labels: Path | None = None,
    test: Path | None = None,
    test_labels: Path | None = None,
    test_inputs: str | None = None,
    test_targets: str | None = None,
    split: str | None = None,
    validation: str | None = None,
    scale: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
) -> dict[str, int]:
    """Convert ``source`` to the HDF5 file ``out`` and return {group: rows}.

    The content of a file tells its format (see `formats`); a folder holds pictures.

    labels: a file with the targets of ``source``, if they are in a file of their own.
    test, test_labels: the same for the test rows.
    test_inputs, test_targets: names of arrays in ``test``, or in ``source`` without ``test``.
    split: "train:validation:test" in rows or fractions, in file order, or as ``settings.mix`` mixes
    the rows of a table.
    validation: rows, or the fraction of rows, to set apart at the end of this order.
    scale: the factor that readers of ``out`` apply, in place of the one that the format suggests.
    note: takes lines on how the source is read, and on what looks wrong with the rows.

    ``settings.weights`` become the dataset w beside x and y. Without a split, validation and test
    rows, x (and y, w) stand at the top of the file. Raises
    DataError for unusable data, ConfigError for settings that contradict each other; no file is
    left behind.
    """
    settings = settings or ImportSettings()
    if not source.is_dir():
        reader_of(source)  # what cannot be imported is told before a file that exists already
    out = claim_new(out, overwrite, (source, labels, test, test_labels))
    apart = test is not None or test_inputs is not None
    parts = {} if apart or labels is not None else find_parts(source, settings, split)
    if parts:
        settings = replace(settings, inputs=parts["train"].inputs, targets=parts["train"].targets)
        tested = parts.get("test", Pair(""))
        test_inputs, test_targets = tested.inputs or None, tested.targets
    x, y = open_rows(source, settings, labels)
    encoding = x.encoding if isinstance(x, TableRows) else None
    groups = _share(x.rows, split, validation)
    apart = test is not None or test_inputs is not None
    if apart and groups.get("test"):
        raise ConfigError(
            f"--split {split} already has test rows; expected none beside separate test data"
        )
    if not apart and (test_labels is not None or test_targets is not None):
        raise ConfigError(
            "targets of test data without test data: expected --test-images or --test-inputs too"
        )
    tables: list[_Table] = [(groups, x, y, open_weights(source, settings, x))]
    if apart:
        named = replace(
            settings,
            inputs=test_inputs or settings.inputs,
            targets=test_targets or (settings.targets if test is not None else None),
            mix=False,
        )
        test_x, test_y = open_rows(test or source, named, test_labels, encoding)
        test_y = numbered_as(y, test_y)
        _check_alike(x, y, test_x, test_y)
        if not groups:
            groups["train"] = x.rows
        test_w = open_weights(test or source, named, test_x)
        tables.append(({"test": test_x.rows}, test_x, test_y, test_w))
    if "validation" in parts and not groups.get("validation"):
        named = replace(settings, inputs=parts["validation"].inputs)
        held_x, held_y = open_rows(source, replace(named, targets=parts["validation"].targets))
        held_y = numbered_as(y, held_y)
        _check_alike(x, y, held_x, held_y)
        if not groups:
            groups["train"] = x.rows
        tables.append(({"validation": held_x.rows}, held_x, held_y, None))
    tables = _of_one_type(tables)
    if parts and note is not None:
        note("; ".join(f"{group}: {pair}" for group, pair in parts.items()))
    written: dict[str, int] = {}
    with new_file(out, f"gnopt dataset import {source.name}") as file:
        for shares, inputs, targets, weights in tables:
            shares = {name: rows for name, rows in shares.items() if rows} or {"": inputs.rows}
            factor = inputs.scale if scale is None else scale
            alike = _write(file, shares, "x", inputs, factor, progress)
            if note is not None:
                for line in (*inputs.notes, *(targets.notes if targets else ())):
                    note(line)
                if alike:
                    note(f"{inputs.where}: all {inputs.rows:,} rows are the same")
                if targets is not None:
                    for line in lacking(targets, shares):
                        note(line)
            if targets is not None:
                _write(file, shares, "y", targets, None, None)
            if weights is not None:
                _write(file, shares, "w", weights, None, None)
            written |= {name or "all": rows for name, rows in shares.items()}
        if encoding is not None:
            write_encoding(file, encoding)
    return written


def find_parts(source: Path, settings: ImportSettings, split: str | None) -> dict[str, Pair]:
    """Return the arrays that are the training, validation and test rows by their names.

    Empty where the user names inputs or shares out the rows, or names say nothing.
    """
    named = settings.inputs or settings.targets or settings.weights or split
    return {} if named or source.is_dir() or is_table(source) else layout_of(source)


def lacking(targets: Rows, shares: Mapping[str, int]) -> list[str]:
    """Return a line for each group of rows, in file order, that lacks classes of the others."""
    y = targets.all()
    if y.ndim != 1 or y.dtype.kind not in "iub" or len(shares) < 2:
        return []
    classes = np.unique(y)
    if len(classes) > MANY_CLASSES:
        return []
    lines, start = [], 0
    for group, rows in shares.items():
        missing = np.setdiff1d(classes, y[start : start + rows])
        start += rows
        if len(missing) and rows > len(classes):
            names = [targets.classes[k] if targets.classes else str(k) for k in missing[:5]]
            lines.append(
                f"{group} has no rows of {len(missing)} of {len(classes)} classes, such as "
                f"{', '.join(names)}: rows are shared out in file order, and the file is sorted"
            )
    return lines


def open_rows(
    source: Path,
    settings: ImportSettings,
    labels: Path | None = None,
    encoding: Encoding | None = None,
) -> tuple[Rows, Rows | None]:
    """Open inputs and targets of ``source``, a file of any format or a folder of pictures.

    ``labels`` is a file with the targets. A table is encoded by ``encoding``, if given.
    Raises DataError if inputs and targets do not match.
    """
    if labels is not None:  # in the order of the file
        settings = replace(settings, mix=False)
    if PICTURES.recognises(source, b""):
        _refuse_unknown(source, PICTURES.kind, PICTURES.unknown, settings)
        x, y = PICTURES.open_rows(source, settings)
    else:
        _refuse_unknown(source, "a file", ("size", "color"), settings)
        x, y = _open_file(source, settings, encoding)
    if labels is not None:
        if y is not None:
            raise DataError(f"{source}: has targets of its own; expected no --labels {labels}")
        y = open_labels(labels) if is_table(labels) else _open_labels(labels)
    x = x.numbers()
    if y is not None and y.rows != x.rows:
        raise DataError(f"{y.where}: has {y.rows:,} rows; expected {x.rows:,}, as {x.where}")
    return x, y


def open_weights(source: Path, settings: ImportSettings, x: Rows) -> Rows | None:
    """Return the weights of the rows ``x`` of ``source``, (rows,), or None if none are asked for.

    Raises DataError unless there is one number >= 0 for each row.
    """
    if settings.weights is None:
        return None
    if isinstance(x, TableRows) and x.row_weights is not None:
        weights = from_array(x.row_weights, x.where)
    else:
        weights = open_rows(source, settings.of_weights())[0].as_labels()
    if weights.shape != (x.rows,):
        raise DataError(
            f"{source}: --weights {settings.weights}: found shape {weights.shape}; expected "
            f"{x.rows:,} numbers, one for each row"
        )
    values = weights.all()
    if not (values >= 0).all():
        row = int((~(values >= 0)).argmax())
        raise DataError(
            f"{source}: --weights {settings.weights}: row {row} (counted from 0) is "
            f"{values[row]:g}; expected weights >= 0"
        )
    return weights


def reader_of(path: Path) -> Reader:
    """Return the reader of a file; DataError says what the file is if it cannot be imported."""
    with open_source(path) as file:
        head = file.read(512)
    refuse_pickle(path, head)
    reader = find_reader(path, head)
    if reader is None:
        other = kind_of(head)
        if other is not None:
            raise DataError(f"{path}: is {other}")
        raise DataError(
            f"{path}: not a file that can be imported; expected {listing()} or a folder of pictures"
        )
    if head[:2] == b"PK" and not is_table(path):
        refuse_archive(path)
    return reader


def _open_file(
    path: Path, settings: ImportSettings, encoding: Encoding | None = None
) -> tuple[Rows, Rows | None]:
    reader = reader_of(path)
    _refuse_unknown(path, reader.kind, reader.unknown, settings)
    if encoding is not None and is_table(path):
        return open_table(path, settings, encoding)
    return reader.open_rows(path, settings)


def _open_labels(path: Path) -> Rows:
    return _open_file(path, ImportSettings())[0].as_labels()


def _refuse_unknown(
    path: Path, kind: str, unknown: tuple[str, ...], settings: ImportSettings
) -> None:
    for name in unknown:
        if getattr(settings, name):
            raise ConfigError(f"--{name} means nothing for {path}, which is {kind}")


def numbered_as(y: Rows | None, other: Rows | None) -> Rows | None:
    """Return labels of ``other`` rows by the classes of ``y``, which they may lack some of.

    Raises DataError for a class that is none of these.
    """
    if (
        y is None
        or other is None
        or not (y.classes and other.classes)
        or y.classes == other.classes
    ):
        return other
    unknown = [name for name in other.classes if name not in y.classes]
    if unknown:
        raise DataError(
            f"{other.where}: has classes {', '.join(unknown[:SHOWN])}, which {y.where} has not; "
            f"expected {', '.join(y.classes[:SHOWN])}{nearest(unknown[0], y.classes)}"
        )
    number = np.array([y.classes.index(name) for name in other.classes])
    labels = number[other.all().astype(np.int64)].astype(y.dtype)
    return replace(from_array(labels, other.where), classes=y.classes)


def _of_one_type(tables: list[_Table]) -> list[_Table]:
    """Return the tables with targets as float64 in all of them, if they are in one."""
    targets = [y for _, _, y, _ in tables if y is not None]
    if len({y.dtype.kind == "f" for y in targets}) < 2:
        return tables
    return [
        (shares, x, y and from_array(y.all().astype(np.float64), y.where), w)
        for shares, x, y, w in tables
    ]


def _check_alike(x: Rows, y: Rows | None, test_x: Rows, test_y: Rows | None) -> None:
    if (y is None) != (test_y is None):
        there, missing = (x, test_x) if test_y is None else (test_x, x)
        raise DataError(
            f"{missing.where}: has no targets, but {there.where} has; expected them for both"
        )
    for one, other in ((x, test_x), (y, test_y)):
        if one is None or other is None:
            continue
        if one.shape[1:] != other.shape[1:]:
            raise DataError(
                f"{other.where}: has rows of shape {other.shape[1:]}; expected {one.shape[1:]}, "
                f"as {one.where}"
            )
        if one.classes != other.classes:
            raise DataError(
                f"{other.where}: has classes {', '.join(other.classes)}; expected "
                f"{', '.join(one.classes)}, as {one.where}"
            )


def _share(rows: int, split: str | None, validation: str | None) -> dict[str, int]:
    """Return {group: rows} in file order; empty if the rows are not to be split."""
    if split is not None and validation is not None:
        raise ConfigError("--split and --validation both share out the rows; expected one of them")
    if validation is not None:
        held = _count(validation, rows, "--validation")
        if not 0 <= held < rows:
            raise DataError(
                f"--validation {validation}: found {rows:,} rows; expected fewer to be set apart"
            )
        return {"train": rows - held, "validation": held}
    if split is None:
        return {}
    parts = split.split(":")
    if not 2 <= len(parts) <= 3:
        raise ConfigError(
            f"--split {split}: expected train:validation or train:validation:test, in rows "
            "or fractions"
        )
    if any("." in part for part in parts):
        shares = [_number(part, f"--split {split}") for part in parts]
        if abs(sum(shares) - 1) > 1e-9:
            raise ConfigError(
                f"--split {split}: the fractions add up to {sum(shares):g}; expected 1"
            )
        ends = [round(rows * sum(shares[: k + 1])) for k in range(len(shares))]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    else:
        counts = [_count(part, rows, f"--split {split}") for part in parts]
        if sum(counts) != rows:
            raise DataError(
                f"--split {split}: adds up to {sum(counts):,}; expected {rows:,}, the rows "
                "there are"
            )
    if counts[0] < 1:
        raise DataError(f"--split {split}: leaves no rows to train on, out of {rows:,}")
    return dict(zip(GROUPS, counts, strict=False))


def _count(text: str, rows: int, flag: str) -> int:
    return round(_number(text, flag) * rows) if "." in text else int(_number(text, flag))


def _number(text: str, flag: str) -> float:
    try:
        value = float(text) if "." in text else int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**62:
        raise ConfigError(
            f"{flag}: found '{text}'; expected a number of rows, or a fraction such as 0.1"
        )
    return value


def _write(
    file: h5py.File,
    shares: dict[str, int],
    name: str,
    rows: Rows,
    scale: float | None,
    progress: Progress | None,
) -> bool:
    """Write the rows, in order, to the datasets called ``name`` of the groups in ``shares``.

    Returns whether there are several rows, all the same.
    """
    tables = [
        new_table(
            file, f"{group}/{name}" if group else name, count, rows.shape[1:], rows.dtype, scale
        )
        for group, count in shares.items()
    ]
    for table in tables:
        if rows.classes:
            table.attrs["classes"] = list(rows.classes)
    current, at = 0, 0
    first, alike = None, rows.rows > 1
    row_bytes = max(1, rows.dtype.itemsize * tables[0].size // len(tables[0]))
    for block in rows.finite_blocks(max(1, _BLOCK_BYTES // row_bytes)):
        done = 0
        first = block[:1].copy() if first is None else first
        alike = alike and bool((block == first).all())
        while done < len(block):
            table = tables[current]
            piece = block[done : done + len(table) - at]
            table[at : at + len(piece)] = piece
            done, at = done + len(piece), at + len(piece)
            if at == len(table):
                current, at = current + 1, 0
        if progress:
            progress(len(block))
    return alike
