"""Initial weights: one flat host vector in the network's layout.

A named distribution draws every layer alike, with biases of zero. ``auto`` draws each layer by the
activations on its two sides, so that signals neither vanish nor explode in a deep network.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import DTypeLike

from gnopt.errors import ConfigError
from gnopt.registry import suggestion

# (generator, d_out, d_in) → the weights of a layer without its biases, (d_out, d_in) float64.
Draw = Callable[[np.random.Generator, int, int], np.ndarray]

# Points of the quadrature: an error below 1 % for functions with a kink, none for smooth ones.
POINTS = 100
# Hidden layers that fixed gains serve where nothing else is known. With 12 layers of relu, gelu and
# softplus, kfra already trained further from weights scaled to the data; with 8 it did not.
REACH = 10


def glorot(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    """Return uniform weights of variance 2 / (d_in + d_out)."""
    return rng.uniform(-1.0, 1.0, (d_out, d_in)) * sqrt(6.0 / (d_in + d_out))


def he(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    """Return normal weights of variance 2 / d_in."""
    return rng.standard_normal((d_out, d_in)) * sqrt(2.0 / d_in)


def lecun(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    """Return normal weights of variance 1 / d_in."""
    return rng.standard_normal((d_out, d_in)) * sqrt(1.0 / d_in)


def sparse(rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
    """Return 15 standard normal weights in each row, or d_in if these are fewer; the rest zero."""
    links = min(15, d_in)
    weight = np.zeros((d_out, d_in))
    # The first `links` entries of a random order of each row: drawn without replacement, for all
    # rows at once.
    columns = np.argsort(rng.random((d_out, d_in)), axis=1)[:, :links]
    np.put_along_axis(weight, columns, rng.standard_normal((d_out, links)), axis=1)
    return weight


@dataclass(frozen=True)
class InitRule:
    """What initial weights must know of an activation f.

    With pre-activations of deviation ``stretch``, f(h) has the mean ``mean`` and the deviation
    ``unit``, in the units in which ``draw`` preserves the signal: 1 and 1 for tanh and glorot, and
    for relu and he, whose factor 2 is part of the distribution.

    Weights of an output layer after f are ``output`` times as large. With less than 1, outputs
    start near their biases: he's gain in a last layer of many outputs costs the first updates.

    A fixed gain serves networks of up to ``reach`` hidden layers, 0 for any number. Behind more
    layers of a function whose mean is not zero, rows of the data are nearly alike.

    ``neutral`` marks the inputs and the identity, which ask for nothing: next to them the other
    side of a layer decides.
    """

    draw: Draw = glorot
    stretch: float = 1.0
    unit: float = 1.0
    mean: float = 0.0
    output: float = 1.0
    reach: int = 0
    neutral: bool = False

    @classmethod
    def measured(cls, values: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> InitRule:
        """Return the rule of an activation from ``values``, which returns f(h) and f'(h).

        Weights are normal, with a gain that keeps gradients as large as they are, 1 / root mean
        square of f' over standard normal h, and biases that take away the mean of f. Both moments
        are found by Gauss-Hermite quadrature. Where they are not finite, or f' is zero, f counts as
        the identity.
        """
        h, weights = np.polynomial.hermite_e.hermegauss(POINTS)
        weights = weights / weights.sum()
        with np.errstate(all="ignore"):
            f, slope = values(h)
            mean, unit = float(weights @ f), float(np.sqrt(weights @ np.square(slope)))
        found = 0.0 < unit < np.inf and np.isfinite(mean)
        return cls(lecun, unit=unit, mean=mean, output=0.1, reach=REACH) if found else cls(lecun)


NEUTRAL = InitRule(neutral=True)


@dataclass(frozen=True)
class LayerDraw:
    """How one layer is drawn: its weights are ``gain`` times ``draw``, and its biases take the
    mean ``mean`` of the layer's inputs away: b = −weight · mean.
    """

    draw: Draw
    gain: float = 1.0
    mean: float = 0.0

    @classmethod
    def between(cls, before: InitRule, after: InitRule) -> LayerDraw:
        """Return the draw of a layer that leads from the activation ``before`` to ``after``."""
        draw = after.draw if before.neutral else before.draw
        return cls(draw, after.stretch / before.unit, before.mean)

    def matrix(self, rng: np.random.Generator, d_out: int, d_in: int) -> np.ndarray:
        """Return the augmented matrix W, (d_out, d_in + 1) float64."""
        W = np.zeros((d_out, d_in + 1))
        W[:, :-1] = self.draw(rng, d_out, d_in)
        if self.gain != 1.0:
            W *= self.gain
        if self.mean:
            W[:, -1] = -self.mean * W[:, :-1].sum(axis=1)
        return W


@dataclass(frozen=True)
class Initializer:
    """A value of ``network.init``: the same distribution for every layer."""

    summary: str
    draw: Draw
    adapts: bool = False  # weights may be made anew where they lose the signal of the data
    other_names: tuple[str, ...] = ()  # what other programs call it; a hint names ours

    def layers(self, rules: Sequence[InitRule]) -> list[LayerDraw]:
        """Return the draws of layers whose activations have these rules."""
        return [LayerDraw(self.draw)] * len(rules)

    def weights(
        self,
        sizes: Sequence[int],
        rng: np.random.Generator,
        dtype: DTypeLike,
        rules: Sequence[InitRule] = (),
    ) -> np.ndarray:
        """Return θ (flat, host) for layers of these sizes.

        ``rules`` are those of the layers' activations; without them all are taken as neutral.
        """
        layers = self.layers(rules or [NEUTRAL] * (len(sizes) - 1))
        pieces = [
            layer.matrix(rng, d_out, d_in).ravel()
            for layer, (d_in, d_out) in zip(layers, itertools.pairwise(sizes), strict=True)
        ]
        return np.concatenate(pieces).astype(dtype)


class Auto(Initializer):
    """Draws each layer as the activations on its two sides ask for."""

    def layers(self, rules: Sequence[InitRule]) -> list[LayerDraw]:
        layers = [LayerDraw.between(*pair) for pair in itertools.pairwise([NEUTRAL, *rules])]
        if len(rules) > 1:
            layers[-1] = replace(layers[-1], gain=layers[-1].gain * rules[-2].output)
        return layers


AUTO = "auto"
INITIALIZERS: dict[str, Initializer] = {
    AUTO: Auto(
        "what the activations ask for: glorot for tanh, he for relu, lecun for selu, ...",
        glorot,
        adapts=True,
    ),
    "glorot": Initializer(
        "uniform, variance 2 / (d_in + d_out) (Glorot & Bengio 2010)",
        glorot,
        other_names=("xavier", "glorot_uniform", "xavier_uniform"),
    ),
    "he": Initializer(
        "normal, variance 2 / d_in, for relu (He et al. 2015)",
        he,
        other_names=("kaiming", "he_normal", "kaiming_normal"),
    ),
    "lecun": Initializer(
        "normal, variance 1 / d_in (LeCun et al. 1998)", lecun, other_names=("lecun_normal",)
    ),
    "sparse": Initializer(
        "15 standard normal links per unit, the rest zero (Martens 2010)", sparse
    ),
}


def get_initializer(name: str) -> Initializer:
    """Return the initialiser called ``name``; ConfigError if there is none."""
    if name not in INITIALIZERS:
        raise ConfigError(
            f"unknown initialiser '{name}'{suggestion(name, INITIALIZERS)}; "
            f"known: {', '.join(INITIALIZERS)}"
        )
    return INITIALIZERS[name]


def initialize(
    sizes: Sequence[int],
    name: str,
    rng: np.random.Generator,
    dtype: DTypeLike,
    rules: Sequence[InitRule] = (),
) -> np.ndarray:
    """Return what `Initializer.weights` of the initialiser called ``name`` returns."""
    return get_initializer(name).weights(sizes, rng, dtype, rules)
