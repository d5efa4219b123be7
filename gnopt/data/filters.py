"""Filters that compress HDF5 datasets: which of them are missing here, and what to install."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import lru_cache

import h5py

# Names of filters that the HDF Group lists, for files that do not name theirs.
_NO_COMPRESSION = {2, 3, 5, 6}  # shuffle, checksum, and packing of bits
_NAMES = {
    1: "gzip",
    4: "szip",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}


def compression(dataset: h5py.Dataset) -> str:
    """Return the names of the filters that compress a dataset, joined by commas; "" without any."""
    return ", ".join(name for number, name in _filters(dataset) if number not in _NO_COMPRESSION)


def missing_filter(dataset: h5py.Dataset) -> str | None:
    """Return, in words, a filter that a dataset is compressed by and that HDF5 does not have here,
    and what to do; None if there is none.

    The package hdf5plugin brings most filters; it is imported where it is installed.
    """
    for number, name in _filters(dataset):
        if h5py.h5z.filter_avail(number) or (_bring_more() and h5py.h5z.filter_avail(number)):
            continue
        remedy = (
            "hdf5plugin does not have it either: h5repack -f GZIP=5 writes a file that all can read"
            if _bring_more()
            else "pip install 'gnopt[filters]' (hdf5plugin)"
        )
        return f"compressed by {name} (filter {number}), which this HDF5 does not have: {remedy}"
    return None


def _filters(dataset: h5py.Dataset) -> Iterator[tuple[int, str]]:
    """Yield number and name of every filter, in the order of writing."""
    properties = dataset.id.get_create_plist()
    for k in range(properties.get_nfilters()):
        number, _, _, text = properties.get_filter(k)
        own = text.decode(errors="replace").strip("\0 ").split(";")[0]
        yield number, _NAMES.get(number) or own or "a filter without a name"


@lru_cache(maxsize=1)
def _bring_more() -> bool:
    """Import hdf5plugin, which registers its filters; return whether it is installed."""
    try:
        importlib.import_module("hdf5plugin")
    except ImportError:
        return False
    return True
