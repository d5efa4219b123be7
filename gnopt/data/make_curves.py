"""Make the CURVES set: each image is a smooth pen stroke through three random points, 28 by 28."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnopt.data.writing import Progress, claim_new, new_file, new_table
from gnopt.errors import ConfigError
from gnopt.rng import generator

SIZE = 28
_MARGIN = 2.0  # pixels that the points keep from the border
_WIDTH = 0.75  # deviation, in pixels, of the ink across the stroke
_INK = 1.25  # intensity in the middle of the stroke before it is cut at 1
_SAMPLES = 96  # drops of ink along the stroke
_BLOCK = 1000  # images drawn at once; image i is the same however many are asked for


def make_curves(
    path: Path,
    count: int = 20000,
    test: int = 10000,
    validation: int = 5000,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write groups train, validation and test of images, and return {group: images}.

    Images are (rows, 28, 28) bytes with scale 1/255. As in Hinton and Salakhutdinov (2006), three
    points drawn uniformly from the plane define each curve. Validation images are drawn in addition
    to the ``count`` training images. Raises DataError if the file cannot be written.
    """
    sizes = {"train": count, "validation": validation, "test": test}
    if count < 1 or min(sizes.values()) < 0:
        raise ConfigError(
            f"found {count} training, {validation} validation and {test} test images; expected at "
            "least 1, 0 and 0"
        )
    path = claim_new(path, overwrite)
    words = f"gnopt dataset make curves: through three random points each, seed {seed}"
    with new_file(path, words) as file:
        for name, rows in sizes.items():
            if rows == 0:
                continue
            table = new_table(file, f"{name}/x", rows, (SIZE, SIZE), np.uint8, scale=1 / 255)
            for start in range(0, rows, _BLOCK):
                images = draw_curves(seed, name, start // _BLOCK)[: rows - start]
                table[start : start + len(images)] = images
                if progress:
                    progress(len(images))
    return {name: rows for name, rows in sizes.items() if rows}


def draw_curves(seed: int, name: str, block: int) -> np.ndarray:
    """Return block ``block`` of the images of group ``name``: (1000, 28, 28) bytes."""
    rng = generator(seed, f"curves {name}", block)
    return render(rng.uniform(_MARGIN, SIZE - _MARGIN, (_BLOCK, 3, 2)).astype(np.float32))


def render(points: np.ndarray) -> np.ndarray:
    """Draw the parabola through each triple of ``points`` (n, 3, 2), in pixels: (n, 28, 28) bytes.

    The curve is p(t) = Σ_k ℓ_k(t) p_k with the Lagrange polynomials ℓ_k of t = 0, ½, 1. The ink at
    z is the line integral of a Gaussian pen, ∫ exp(-|z - p(t)|² / 2w²) |p'(t)| dt, cut at 1. The
    Gaussian factors into rows and columns, so an image is one (28, T)·(T, 28) product with T = 96.
    Cost: 2·28²·T flops an image.
    """
    t = (np.arange(_SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES
    basis = np.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)])
    slope = np.stack([4 * t - 3, 4 - 8 * t, 4 * t - 1])
    place = np.einsum("nkd,kt->ndt", points, basis)
    speed = np.sqrt((np.einsum("nkd,kt->ndt", points, slope) ** 2).sum(axis=1))
    centers = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    rows, columns = (
        np.exp(-((centers[:, None] - place[:, d, None, :]) ** 2) / np.float32(2 * _WIDTH**2))
        for d in (1, 0)
    )
    # Scaled so that the middle of a long straight stroke has the intensity _INK.
    per_drop = _INK / (_SAMPLES * _WIDTH * np.sqrt(2 * np.pi))
    ink = (rows * (speed * np.float32(per_drop))[:, None, :]) @ columns.transpose(0, 2, 1)
    pictures: np.ndarray = np.rint(np.minimum(ink, 1) * 255).astype(np.uint8)
    return pictures
