"""Read folders of pictures: their files in natural order, and their subfolders as classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gnopt.data.formats import ImportSettings, Reader
from gnopt.data.picture_form import survey
from gnopt.data.rows import Rows, from_array
from gnopt.data.rows import natural_key as natural_key
from gnopt.errors import DataError
from gnopt.rng import generator

_SUFFIXES = {
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}


@dataclass(frozen=True)
class PictureFolder:
    """The picture files of a folder; its subfolders, if any, are the classes."""

    path: Path
    files: list[Path]
    classes: list[str]  # names of the subfolders
    labels: np.ndarray | None  # number of the subfolder of each file, None without subfolders


def list_folder(path: Path) -> PictureFolder:
    """List the pictures of a folder or of its subfolders, in natural order.

    Raises DataError if there are none, or some beside subfolders with others.
    """
    try:
        subfolders = _sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        folders = {p.name: _pictures(p) for p in subfolders}
        loose = _pictures(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    folders = {name: files for name, files in folders.items() if files}
    if folders and loose:
        raise DataError(
            f"{path}: has pictures such as {loose[0].name} beside subfolders such as "
            f"{next(iter(folders))}; "
            "expected all pictures in subfolders, one for each class, or none"
        )
    if not folders and not loose:
        raise DataError(
            f"{path}: has no pictures; expected files ending in {', '.join(sorted(_SUFFIXES))}, "
            "in the folder or in one subfolder for each class"
        )
    if loose:
        return PictureFolder(path, loose, [], None)
    labels = np.concatenate([np.full(len(files), k) for k, files in enumerate(folders.values())])
    return PictureFolder(
        path,
        [f for files in folders.values() for f in files],
        list(folders),
        labels.astype(np.int32),
    )


def _pictures(folder: Path) -> list[Path]:
    files = (
        p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")
    )
    return _sorted(p for p in files if p.is_file())


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural_key(path.name))


def same_shape(
    picture: np.ndarray, shape: tuple[int, ...], path: Path, first: Path, remedy: str
) -> np.ndarray:
    """Return ``picture`` if it has this shape; else DataError names both files and a remedy."""
    if picture.shape != shape:
        raise DataError(
            f"{path}: is {picture.shape[1]}x{picture.shape[0]} pixels; expected "
            f"{shape[1]}x{shape[0]}, as {first.name}; {remedy}"
        )
    return picture


def open_folder(path: Path, size: tuple[int, int] | None, color: bool) -> tuple[Rows, Rows | None]:
    """Open the pictures of a folder, and the numbers of their subfolders as labels.

    The order is random but always the same, so that rows held out at the end are of every class.
    """
    folder = list_folder(path)
    order = generator(0, "pictures").permutation(len(folder.files))
    files = [folder.files[i] for i in order]
    form = survey(files, color, size)
    shape = form.read(files[0]).shape
    remedy = "--size WxH makes all alike"

    def blocks(rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(files), rows):
            some = files[start : start + rows]
            yield np.stack([same_shape(form.read(f), shape, f, files[0], remedy) for f in some])

    all_rows = (len(files), *shape)
    x = Rows(str(path), all_rows, form.dtype, blocks, scale=form.scale, notes=form.notes)
    if folder.labels is None:
        return x, None
    labels = folder.labels[order]
    return x, replace(from_array(labels, str(path)), classes=tuple(folder.classes))


def _open_rows(path: Path, settings: ImportSettings) -> tuple[Rows, Rows | None]:
    return open_folder(path, settings.size, settings.color)


READER = Reader(
    "a folder of pictures",
    ("inputs", "targets", "weights", "transpose"),
    lambda path, head: path.is_dir(),
    _open_rows,
)
