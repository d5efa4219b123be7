"""The settings of ``[data]``: the file, the datasets in it, and the memory budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gnopt.data.selection import FORMS, Selection, read_selection
from gnopt.errors import ConfigError
from gnopt.machine import free_memory
from gnopt.options import REQUIRED, SIZES, Form, Settings, option, size_in_bytes

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
        "the HDF5 file with the data",
        form=Form(_read_path, lambda: "a path"),
        free_on_resume=True,  # it may have moved: a run knows its data by the fingerprint
    )
    inputs: str = option("x", "HDF5 dataset of shape (N, ...) with the inputs, flattened to (N, D)")
    targets: str = option("inputs", 'HDF5 dataset with the targets; "inputs" makes an autoencoder')
    weights: str = option(
        "",
        "HDF5 dataset with the weight of each row, a number >= 0, beside the inputs in each group: "
        'a weight of 2 counts as the row twice, 0 as no such row; "" = all rows count the same',
    )
    target_transform: str = option(
        "none",
        "what is made of the targets; parity: 1 for odd labels, 0 for even ones",
        choices=("none", "parity"),
    )
    validation: float | str = option(
        HELD_OUT,
        "fraction of the training rows held out at their end, or the name "
        "of a group, or 0 for none; a group called validation is used in place of the default "
        "fraction",
        low=0,
        high=1,
        open_high=True,
    )
    rows: str = option(
        "all",
        "which training rows to use: all; bootstrap: as many, drawn with replacement; or those "
        "outside fold I of N, which is then validated on in place of data.validation",
        form=Form(read_selection, lambda: FORMS),
    )
    rows_seed: int = option(
        0, "seed by which data.rows draws folds and bootstrap samples", low=0, high=2**62
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
