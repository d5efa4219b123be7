"""Make the FACES set: many random rotations and enlargements of a few face pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt.data.array_files import load_array
from gnopt.data.hdf5 import column, holds, open_file
from gnopt.data.picture_form import survey
from gnopt.data.pictures import list_folder, same_shape
from gnopt.data.writing import Progress, claim_new, new_file, new_table
from gnopt.errors import ConfigError, DataError
from gnopt.rng import generator

ROTATION = (-90.0, 90.0)  # degrees
ENLARGEMENT = (1.4, 1.8)  # from √2 on, the rotated picture covers the window whatever the angle
SIZE = 25  # pixels of the result
_SHARES = (25 / 40, 5 / 40)  # of the people for training and validation; the rest is for testing


@dataclass(frozen=True)
class PictureStack:
    """Grey pictures of one size."""

    values: np.ndarray  # (P, H, W) in 0 .. 1
    people: np.ndarray | None  # number of the person on each picture, if known


def make_faces(
    path: Path,
    source: Path,
    pairs: int = 414,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write groups train, validation and test of images, and return {group: images}.

    Images are (rows, 25, 25) bytes with scale 1/255. Each picture of ``source`` gives ``pairs``
    rows, one for each random pair of rotation and enlargement. Of 40 people, the first 25 are for
    training, the next 5 for validation and the last 10 for testing; if the people are not known,
    the pictures are split in that proportion. Rows stay in the order of the pictures. Raises
    DataError if the source is not a stack of pictures.
    """
    if pairs < 1:
        raise ConfigError(f"--pairs {pairs}: expected at least 1")
    path = claim_new(path, overwrite, [source])
    pictures = load_pictures(source)
    groups = split_people(pictures)
    words = (
        f"gnopt dataset make faces: {pairs} rotations and scales of each of "
        f"{len(pictures.values)} pictures of {source.name}, seed {seed}"
    )
    with new_file(path, words) as file:
        for name, chosen in groups.items():
            table = new_table(
                file, f"{name}/x", len(chosen) * pairs, (SIZE, SIZE), np.uint8, scale=1 / 255
            )
            for place, index in enumerate(chosen):
                rng = generator(seed, "faces", int(index))
                angle, enlargement = rng.uniform(*ROTATION, pairs), rng.uniform(*ENLARGEMENT, pairs)
                views = view(pictures.values[index], angle, enlargement, SIZE)
                images = np.rint(np.clip(views, 0, 1) * 255).astype(np.uint8)
                table[place * pairs : (place + 1) * pairs] = images
                if progress:
                    progress(pairs)
    return {name: len(chosen) * pairs for name, chosen in groups.items()}


def view(
    picture: np.ndarray, degrees: np.ndarray, enlargement: np.ndarray, size: int
) -> np.ndarray:
    """Rotate ``picture`` (H, W) counter-clockwise about its centre, enlarge it, and sample it.

    Returns n = len(degrees) square windows, (n, size, size) float32. Without rotation and
    enlargement, the window is the largest centred square. A pixel of the window is the mean of k by
    k bilinear samples, with k near the number of picture pixels that a side of it covers. Beyond
    the picture, the pixels at its border are repeated. Cost: about 20·n·(k·size)² flops.
    """
    height, width = picture.shape
    side = min(height, width)
    fine = max(1, round(side / (size * float(np.mean(enlargement))))) * size
    offset = ((np.arange(fine) + 0.5) / fine - 0.5) * side
    down, right = (a.ravel().astype(np.float32) for a in np.meshgrid(offset, offset, indexing="ij"))
    turn = np.deg2rad(degrees)
    cosine, sine = ((f(turn) / enlargement)[:, None].astype(np.float32) for f in (np.cos, np.sin))
    across = np.clip(cosine * right - sine * down + np.float32(width / 2 - 0.5), 0, width - 1)
    along = np.clip(sine * right + cosine * down + np.float32(height / 2 - 0.5), 0, height - 1)
    values = bilinear(np.ascontiguousarray(picture, dtype=np.float32), along, across)
    block = fine // size
    views: np.ndarray = values.reshape(len(turn), size, block, size, block).mean(axis=(2, 4))
    return views


def bilinear(picture: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return ``picture`` (H, W) at fractional positions inside it, by bilinear interpolation."""
    height, width = picture.shape
    top = np.minimum(row.astype(np.int32), max(height - 2, 0))
    left = np.minimum(column.astype(np.int32), max(width - 2, 0))
    row, column = row - top, column - left
    first = top * width + left
    flat, below, beside = picture.ravel(), width if height > 1 else 0, 1 if width > 1 else 0
    upper, lower = flat.take(first), flat.take(first + below)
    upper += column * (flat.take(first + beside) - upper)
    lower += column * (flat.take(first + below + beside) - lower)
    values: np.ndarray = upper + row * (lower - upper)
    return values


def split_people(pictures: PictureStack) -> dict[str, np.ndarray]:
    """Return {group: indices of pictures}; all pictures of a person go to the same group."""
    owner = np.arange(len(pictures.values)) if pictures.people is None else pictures.people
    people = np.unique(owner)
    first, second = (int(len(people) * share + 0.5) for share in (_SHARES[0], sum(_SHARES)))
    first, second = max(1, first), max(1, second)
    shares = {"train": people[:first], "validation": people[first:second], "test": people[second:]}
    groups = {name: np.flatnonzero(np.isin(owner, share)) for name, share in shares.items()}
    return {name: chosen for name, chosen in groups.items() if len(chosen)}


def load_pictures(source: Path) -> PictureStack:
    """Read pictures from a folder, olivettifaces.mat, an NPY or NPZ file, or HDF5.

    An HDF5 file has the pictures in x and may have the numbers of the people in y. Raises DataError
    if the source holds no pictures.
    """
    if source.is_dir():
        folder = list_folder(source)
        form, first = survey(folder.files), folder.files[0]
        shape = form.read(first).shape
        stack = np.stack(
            [
                same_shape(form.read(f), shape, f, first, "crop them alike first")
                for f in folder.files
            ]
        )
        if form.dtype != np.uint8:
            stack = stack * (form.scale or 1.0)
        return PictureStack(_unit(stack, source), folder.labels)
    try:
        with open(source, "rb") as file:
            hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
    if hdf5:
        return _from_hdf5(source)
    array = load_array(source, "faces" if source.suffix.lower() == ".mat" else None)
    if array.ndim == 2 and source.suffix.lower() == ".mat" and array.shape[0] == 4096:
        # Each column is a picture, stored column by column.
        array = array.T.reshape(-1, 64, 64).transpose(0, 2, 1)
    values = _unit(_square(array, source), source)
    # 400 pictures are taken for the Olivetti faces in their usual order: ten of each of 40 people.
    return PictureStack(values, np.arange(400) // 10 if len(values) == 400 else None)


def _from_hdf5(source: Path) -> PictureStack:
    with open_file(source) as handle:
        x = column(handle, "x", float(np.finfo(np.float32).max))
        stack = x.read(0, x.rows).reshape(x.rows, *x.shape)
        people = None
        if holds(handle, "y"):
            y = column(handle, "y", np.inf)
            if y.rows == x.rows and y.width == 1:
                people = y.read(0, y.rows).ravel()
    scaled = stack * x.scale if x.scale != 1 else stack
    return PictureStack(_unit(_square(scaled, source), source), people)


def _square(array: np.ndarray, source: Path) -> np.ndarray:
    """Return the stack as (P, H, W): rows of a square number of pixels become squares."""
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        side = round(array.shape[1] ** 0.5)
        if side * side == array.shape[1]:
            array = array.reshape(-1, side, side)
    if array.ndim != 3 or min(array.shape) < 1:
        raise DataError(
            f"{source}: found an array of shape {array.shape}; expected grey pictures, "
            "(pictures, height, width) or (pictures, pixels of a square)"
        )
    return array


def _unit(stack: np.ndarray, source: Path) -> np.ndarray:
    """Return the pictures as float32 in 0 .. 1; numbers above 1 are taken to be out of 255."""
    if stack.dtype.kind not in "biuf":
        raise DataError(f"{source}: found values of type {stack.dtype}; expected numbers")
    values = stack.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"{source}: found grey values from {low:g} to {high:g}; expected 0 to 1, or 0 to 255"
        )
    return values / np.float32(255) if stack.dtype.kind in "iu" or high > 1 else values
