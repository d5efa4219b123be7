"""Draw images above their reconstructions by an autoencoder."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from gnopt.data.options import DataSettings
from gnopt.errors import DataError
from gnopt.plots.figure import new_figure, save
from gnopt.training.layers import activations
from gnopt.training.load import TrainedNetwork

PER_ROW = 10


def draw_reconstructions(trained: TrainedNetwork, out: Path, count: int = 20) -> None:
    """Draw ``count`` held-out images, each above its reconstruction.

    Training images are used if none are held out. Raises DataError if the rows are not images, or
    if the network is not an autoencoder.
    """
    if trained.config.data.targets != "inputs":
        raise DataError(
            f"{trained.path}: reconstructions are for autoencoders; this network was trained on "
            f"targets '{trained.config.data.targets}'"
        )
    with trained.open_data() as data:
        split = data.validation or data.train
        x, _ = split.rows_at(0, min(count, split.rows))
    made = activations(trained.net, trained.loss, trained.theta, 0)(x)
    if trained.stored.statistics is not None:
        mean, std = trained.stored.statistics
        x, made = x * std + mean, made * std + mean
    shape = image_shape(trained.config.data, x.shape[1])
    columns = min(PER_ROW, len(x))
    lines = math.ceil(len(x) / columns)
    figure = new_figure(columns * 0.8, lines * 1.6)
    axes = figure.subplots(2 * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    limits = {"cmap": "gray", "vmin": float(x.min()), "vmax": float(x.max())}
    for index, (image, copy) in enumerate(zip(x, made, strict=True)):
        line, column = divmod(index, columns)
        axes[2 * line, column].imshow(np.reshape(image, shape), **limits)
        axes[2 * line + 1, column].imshow(np.reshape(copy, shape), **limits)
    save(figure, out)


def image_shape(settings: DataSettings, width: int) -> tuple[int, int]:
    """Return height and width of the images in rows of ``width`` numbers.

    They are the shape of the dataset's rows, its attribute ``image_shape``, or those of a square.
    Raises DataError if none of these fits.
    """
    with h5py.File(settings.file, "r") as file:
        dataset = file.get(settings.inputs) or file.get(f"train/{settings.inputs}")
        shape = tuple(dataset.shape[1:])
        if len(shape) != 2:
            shape = tuple(int(n) for n in np.ravel(dataset.attrs.get("image_shape", ())))
    side = math.isqrt(width)
    if len(shape) != 2 or math.prod(shape) != width:
        shape = (side, side)
    if math.prod(shape) != width:
        raise DataError(
            f"{settings.file}: {settings.inputs} holds rows of {width} numbers, which are "
            "not grey images; expected (N, height, width), image_shape, or a square number"
        )
    return shape[0], shape[1]
