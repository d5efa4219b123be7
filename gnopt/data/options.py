"""The settings of ``[data]``, and the one that needs more than a type: the memory budget."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gnopt.errors import ConfigError
from gnopt.machine import free_memory
from gnopt.options import REQUIRED, Settings, option

HELD_OUT = 0.1  # default fraction of the training rows that are held out for validation


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """The section ``[data]``: which file, which datasets in it, and how training sees them."""

    file: str = option(REQUIRED, "the HDF5 file with the data", kind="path")
    inputs: str = option("x", "HDF5 dataset of shape (N, ...) with the inputs, flattened to (N, D)")
    targets: str = option("inputs", 'HDF5 dataset with the targets; "inputs" makes an autoencoder')
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
    standardize: bool = option(
        False, "shift and scale each input to mean 0 and deviation 1 over the training rows"
    )
    memory: int | str = option(
        "auto",
        'most bytes of rows to hold in memory, such as "2GB"; larger files '
        'are read in blocks while training; "auto" is half of the free memory',
        low=1,
    )


_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def memory_bytes(value: int | str) -> int:
    """Return the budget in bytes of ``data.memory``; ConfigError where it is not a size."""
    if isinstance(value, str):
        if value.strip().lower() == "auto":
            return free_memory() // 2
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([a-zA-Z]*)\s*", value)
        if match and match[2].lower() in _UNITS:
            value = int(float(match[1]) * _UNITS[match[2].lower()])
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f'data.memory = {value!r}: expected "auto", a number of bytes, or a size '
            'such as "500MB", "2GB" or "1.5GiB"'
        )
    return value
