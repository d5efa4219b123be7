"""Refuse HDF5 files whose datasets are in other files.

HDF5 can keep a dataset's values in a file of any kind (external storage), and refer to datasets of
other HDF5 files (external links, virtual datasets). A file from somebody else could so bring a file
of this machine into weights, predictions or exports.
"""

from __future__ import annotations

from typing import Any

import h5py

from gnopt.errors import DataError

_WHY = "a file from somebody else could so read any file of this machine"
SWITCH = "--set data.follow_links=true, or --follow-links, allows it for data files"


def refuse_links(handle: h5py.File) -> None:
    """Raise DataError if something in an open file is kept in another file."""
    found: list[str] = []

    def link(name: bytes, info: Any) -> None:
        if info.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            found.append(_words_of_link(handle, name.decode(errors="surrogateescape")))

    def node(name: bytes, info: Any) -> None:
        if info.type == h5py.h5o.TYPE_DATASET:
            dataset = handle[name]
            words = _words_of_dataset(dataset)
            if words:
                found.append(f"{dataset.name} {words}")

    try:
        handle.id.links.visit(link, info=True)
        h5py.h5o.visit(handle.id, node, info=True)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{handle.filename}: damaged HDF5 file: {error}") from error
    if found:
        raise DataError(f"{handle.filename}: {found[0]}; refused, because {_WHY}; {SWITCH}")


def _words_of_link(handle: h5py.File, name: str) -> str:
    link = handle.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return f"/{name} is a link to /{link.path.lstrip('/')} of {link.filename}"
    return f"/{name} is a link of an unknown kind"


def _words_of_dataset(dataset: h5py.Dataset) -> str:
    """Return in words where the values of a dataset are, if not in its own file."""
    if dataset.external:
        return f"keeps its values in {dataset.external[0][0]}"
    if dataset.is_virtual:
        names = [str(source.file_name) for source in dataset.virtual_sources()]
        others = [name for name in names if name != "."]
        return f"is a virtual dataset over {others[0]}" if others else ""
    return ""
