"""The settings of ``[data]``: the file, the datasets in it, and the memory budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gnopt.data.roles import AUTO, Roles, TableForm
from gnopt.data.selection import FORMS, Selection, read_selection
from gnopt.errors import ConfigError
from gnopt.machine import free_memory
from gnopt.options import REQUIRED, SIZES, Form, Settings, option, size_in_bytes

ALL_INPUTS = "x"  # for a table: every column that is nothing else
HELD_OUT = 0.1  # default fraction of the training rows that are held out for validation


def _read_path(text: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # no such user
        raise ConfigError(f"{text!r}: {error}") from None
    if "\0" in text:
        raise ConfigError(f"{text!r}: holds a NUL character")
    return path


def _read_switch(value: bool | str) -> bool | str:
    if isinstance(value, str) and not _is_auto(value):
        raise ConfigError(f'{value!r}: expected true, false or "auto"')
    return value


def _budget(memory: int | str) -> int:
    return free_memory() // 2 if _is_auto(memory) else size_in_bytes(memory)


def _is_auto(value: int | str) -> bool:
    return isinstance(value, str) and value.strip().lower() == "auto"


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """The section ``[data]``: which file, which datasets in it, and how training reads them."""

    file: str = option(
        REQUIRED,
        "the file with the data: HDF5, or a table (CSV and its relatives, Parquet, Feather, Excel)",
        form=Form(_read_path, lambda: "a path"),
        free_on_resume=True,  # it may have moved: a run knows its data by the fingerprint
    )
    inputs: str = option(
        ALL_INPUTS,
        "HDF5 dataset of shape (N, ...) with the inputs, flattened to (N, D); for a table, the "
        'columns, joined by commas, and "x" stands for all that are nothing else',
    )
    targets: str = option(
        "inputs",
        "HDF5 dataset with the targets, or columns of a table, joined by commas; "
        '"inputs" makes an autoencoder',
    )
    weights: str = option(
        "",
        "HDF5 dataset, or column, with the weight of each row, a number >= 0, beside the inputs in "
        "each group: a weight of 2 counts as the row twice, 0 as no such row; "
        '"" = all rows count the same',
    )
    group: str = option(
        "",
        "HDF5 dataset, or column, with a number or a word for each row: rows with the same one, "
        "such as those of one patient, are held out together",
    )
    follow_links: bool = option(
        False,
        "whether an HDF5 file of data may refer to other files: external storage, external links, "
        "virtual datasets; a received file could so read any file of this machine",
        free_on_resume=True,
    )
    drop: str = option("", "columns of a table that are no inputs, joined by commas")
    categories: str = option(
        "", "columns of a table, joined by commas, whose numbers stand for words, such as codes"
    )
    header: str = option(
        AUTO,
        "whether the first line of a table of text names the columns; without names they are "
        "called 0, 1, ...",
        choices=(AUTO, "yes", "no"),
    )
    separator: str = option(
        AUTO,
        "what stands between the cells of a table of text: a character, or comma, semicolon, tab, "
        "bar, space",
    )
    decimal: str = option(AUTO, "the decimal mark in a table of text", choices=(AUTO, ".", ","))
    encoding: str = option(
        AUTO,
        'the encoding of a table of text, such as latin-1 or cp1252; "auto" is UTF-8, or UTF-16 '
        "with its mark",
    )
    target_transform: str = option(
        "none",
        "what is made of the targets; parity: 1 for odd labels, 0 for even ones",
        choices=("none", "parity"),
    )
    validation: float | str = option(
        HELD_OUT,
        "fraction of the training rows held out as data.split says, or the name "
        "of a group, or 0 for none; a group called validation is used in place of the default "
        "fraction",
        low=0,
        high=1,
        open_high=True,
    )
    split: str = option(
        "random",
        "which rows a fraction holds out: random: drawn by data.rows_seed, of every class and "
        "range of targets its share; end: the last ones, such as the latest of a time series",
        choices=("random", "end"),
    )
    rows: str = option(
        "all",
        "which training rows to use: all; bootstrap: as many, drawn with replacement; or those "
        "outside fold I of N, which is then validated on in place of data.validation",
        form=Form(read_selection, lambda: FORMS),
    )
    rows_seed: int = option(
        0,
        "seed by which data.split and data.rows draw held-out rows, folds and bootstrap samples",
        low=0,
        high=2**62,
    )
    standardize: bool | str = option(
        "auto",
        "shift and scale each input to mean 0 and deviation 1 over the training rows (less where "
        'a value would be farther than 10 from 0); "auto" does so only where inputs are of scales '
        "that networks do not start well with, never for an autoencoder, and as before for the "
        "weights of --init-from",
        form=Form(_read_switch, lambda: 'true, false or "auto"'),
    )
    memory: int | str = option(
        "auto",
        'most bytes of rows to hold in memory, such as "2GB"; larger files '
        'are read in blocks while training; "auto" is half of the free memory',
        form=Form(_budget, lambda: f'"auto", {SIZES}'),
    )

    def selection(self) -> Selection | None:
        """Return which of the training rows are used; None = all."""
        return read_selection(self.rows)

    def table_form(self) -> TableForm:
        """Return how a table of text is written."""
        return TableForm(self.header, self.separator, self.decimal, self.encoding)

    def roles(self) -> Roles:
        """Return which columns of a table are for what."""
        return Roles(
            inputs="" if self.inputs == ALL_INPUTS else self.inputs,
            targets="" if self.targets == "inputs" else self.targets,
            weights=self.weights,
            group=self.group,
            drop=self.drop,
            categories=self.categories,
        )

    def of_file(self, file: Path) -> DataSettings:
        """Return the settings for another file, every row of which is used."""
        return self.changed(file=str(file), rows="all")

    def standardize_if_asked(self) -> bool:
        """Return whether the scales of the inputs decide if they are standardised."""
        return _is_auto(self.standardize)

    def standardizes_targets(self) -> bool:
        """Return whether the inputs are standardised, and the targets are these inputs."""
        return self.targets == "inputs" and self.standardize is True

    def memory_bytes(self) -> int:
        """Return the bytes of rows that may be held in memory."""
        return _budget(self.memory)

    def memory_is_given(self) -> bool:
        """Return whether the budget is a given size, not a fraction of the free memory."""
        return not _is_auto(self.memory)
