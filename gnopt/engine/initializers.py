"""Initial weights: one flat host vector in the network's layout, with all biases zero."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np

from gnopt.errors import ConfigError, nearest


def _glorot(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, (d_out, d_in)) * sqrt(6.0 / (d_in + d_out))


def _he(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    return rng.standard_normal((d_out, d_in)) * sqrt(2.0 / d_in)


def _lecun(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    return rng.standard_normal((d_out, d_in)) * sqrt(1.0 / d_in)


def _sparse(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    links = min(15, d_in)
    weight = np.zeros((d_out, d_in))
    # The first `links` entries of a random order of each row: drawn without replacement, for all
    # rows at once.
    columns = np.argsort(rng.random((d_out, d_in)), axis=1)[:, :links]
    np.put_along_axis(weight, columns, rng.standard_normal((d_out, links)), axis=1)
    return weight


INITIALIZERS: dict[str, tuple[Callable[[np.random.Generator, int, int], np.ndarray], str]] = {
    "glorot": (_glorot, "uniform, variance 2 / (d_in + d_out) (Glorot & Bengio 2010)"),
    "he": (_he, "normal, variance 2 / d_in, for relu (He et al. 2015)"),
    "lecun": (_lecun, "normal, variance 1 / d_in (LeCun et al. 1998)"),
    "sparse": (_sparse, "15 standard normal links per unit, the rest zero (Martens 2010)"),
}


def initialize(sizes: Sequence[int], name: str, rng: np.random.Generator, dtype: Any) -> np.ndarray:
    """Return θ (flat, host) for layers of these sizes; ConfigError for an unknown name."""
    if name not in INITIALIZERS:
        raise ConfigError(
            f"unknown initialiser '{name}'{nearest(name, INITIALIZERS)}; "
            f"known: {', '.join(INITIALIZERS)}"
        )
    draw = INITIALIZERS[name][0]
    pieces = []
    for d_in, d_out in itertools.pairwise(sizes):
        W = np.zeros((d_out, d_in + 1))
        W[:, :-1] = draw(rng, d_out, d_in)
        pieces.append(W.ravel())
    return np.concatenate(pieces).astype(dtype)
