"""Random problems: everything that describes one is drawn from a master seed and its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp, log

import numpy as np

from gnopt.engine.activations import all_activations
from gnopt.engine.arrays.numpy import NumpyBackend
from gnopt.engine.losses import all_losses, get_loss

COUNT = 300  # problems of the published battery
PUBLISHED = 0  # its master seed; choices are made on batteries of other seeds
_ROWS = 1e10  # largest parameters × rows, which bounds the time of an evaluation
_BATCH = 7e8  # largest parameters × rows of the batch, which bounds the time of an update


@dataclass(frozen=True)
class Units:
    """Scale and shift of each column: a column of deviation 1 is multiplied, then shifted."""

    kind: str  # plain, whole (the same for every column) or columns
    scales: tuple[float, ...]
    shifts: tuple[float, ...]

    def apply(self, columns: np.ndarray) -> np.ndarray:
        """Return the columns, (N, D), in these units."""
        scaled: np.ndarray = columns * np.array(self.scales) + np.array(self.shifts)
        return scaled

    def __str__(self) -> str:
        if self.kind == "plain":
            return "plain"
        numbers = [
            f"{name} {_span(values)}"
            for name, values in (("x", self.scales), ("+", self.shifts))
            if any(value != float(name == "x") for value in values)
        ]
        return f"{self.kind} {' '.join(numbers)}"


def _span(values: tuple[float, ...]) -> str:
    low, high = min(values), max(values)
    return f"{low:.1e}" if low == high else f"{low:.1e}..{high:.1e}"


@dataclass(frozen=True)
class Inputs:
    """How the inputs are made: before units, a column has about mean 0 and deviation 1."""

    columns: int
    distribution: str  # a key of _DISTRIBUTIONS
    rank: int  # columns that are independent; the others are combinations of them
    constant: int  # how many of the last columns hold one number in every row
    units: Units


@dataclass(frozen=True)
class Targets:
    """How the targets are made from a smooth random function of the inputs, the teacher."""

    columns: int  # for classes: how many there are
    noise: float  # 0: the targets are a function of the inputs
    imbalance: float  # 0: classes are about equally frequent; counts: the logarithm of their mean
    features: int  # tanh features of the teacher
    roughness: float  # their typical slope
    units: Units


@dataclass(frozen=True)
class Problem:
    """One problem: the network, its loss, the rows and how they are trained."""

    seed: int
    index: int
    hidden: tuple[int, ...]
    widths: str  # constant, narrowing or random
    activation: str
    loss: str
    dtype: str
    rows: int
    batch: int
    inputs: Inputs
    targets: Targets

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths of all layers, inputs and outputs included."""
        outputs = RECIPES[self.loss].outputs or self.targets.columns
        return (self.inputs.columns, *self.hidden, outputs)

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return _parameters(self.sizes)

    @property
    def seconds(self) -> float:
        """Seconds of the processor that every run gets: 2, and up to 6 where an update is large."""
        return min(6.0, max(2.0, 15e-9 * self.parameters * self.batch))

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (N, D) and targets (N, K), or (N,) for classes, in float64."""
        rng = np.random.default_rng([self.seed, self.index, 1])
        columns = _columns(rng, self.inputs, self.rows)
        teacher = _teacher(rng, columns, self.targets)
        y = RECIPES[self.loss].targets(rng, teacher, self.targets)
        return self.inputs.units.apply(columns), y

    def constant(self) -> tuple[float, float]:
        """Return the objective of the best constant predictor and the least that targets allow.

        The constant is what the loss takes for one: the output bias fitted to the mean target.
        """
        loss = get_loss(self.loss)
        y = loss.convert_targets(self.arrays[1])
        outputs = loss.outputs(y)
        bias = loss.initial_bias(loss.target_sum(y, outputs) / self.rows)
        value = loss.value(NumpyBackend(), np.tile(bias, (self.rows, 1)), y)
        return float(value.mean()), float(loss.floor(y).mean())

    def __str__(self) -> str:
        x, y = self.inputs, self.targets
        extras = [
            f"rank {x.rank}" if x.rank < x.columns else "",
            f"{x.constant} constant" if x.constant else "",
        ]
        return "; ".join(
            [
                f"{len(self.hidden)} x {_widths(self.hidden)} ({self.widths}) {self.activation}",
                f"{self.loss}, {self.dtype}",
                f"{self.rows} rows, batch {self.batch}",
                ", ".join(
                    [f"inputs {x.columns} {x.distribution} {x.units}", *filter(None, extras)]
                ),
                f"targets {y.columns} {y.units}, noise {y.noise:g}, imbalance {y.imbalance:g}, "
                f"teacher {y.features} x {y.roughness:g}",
            ]
        )


def _widths(hidden: tuple[int, ...]) -> str:
    low, high = min(hidden), max(hidden)
    return str(low) if low == high else f"{low}..{high}"


def _parameters(sizes: tuple[int, ...]) -> int:
    return sum((a + 1) * b for a, b in pairwise(sizes))


# ---- drawing the facts ---------------------------------------------------------------------------


class _Draws:
    """Draws of a problem's facts; each is rounded, so that no machine's last digit shows."""

    def __init__(self, seed: int, index: int) -> None:
        self._rng = np.random.default_rng([seed, index, 0])

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return bool(self._rng.random() < probability)

    def among(self, *choices: str) -> str:
        """Return one of the choices, all equally likely."""
        return choices[int(self._rng.random() * len(choices))]

    def number(self, low: float, high: float) -> float:
        """Return a number with three digits, its logarithm uniform between the limits."""
        return float(f"{exp(self._rng.uniform(log(low), log(high))):.2e}")

    def whole(self, low: int, high: int) -> int:
        """Return a whole number between the limits, its logarithm about uniform."""
        return min(high, max(low, round(self.number(low - 0.49, high + 0.49))))

    def units(self, columns: int) -> Units:
        """Return plain units in half of the cases, else scales and shifts of 1e-6 to 1e6.

        A shift is at most 1e4 scales: in float32 the column then still has three digits.
        """
        kind = self.among("plain", "plain", "whole", "columns")
        scaled, shifted = self.chance(0.8), self.chance(0.6)
        scales, shifts = [], []
        for _ in range(columns if kind == "columns" else 1):
            scale = self.number(1e-6, 1e6) if scaled or not shifted else 1.0
            shift = self.number(1e-6, 1e6) * (-1.0 if self.chance(0.5) else 1.0)
            scales.append(scale)
            shifts.append(max(-1e4 * scale, min(1e4 * scale, shift)) if shifted else 0.0)
        if kind == "plain":
            return _plain(columns)
        repeat = columns // len(scales)
        return Units(kind, tuple(scales) * repeat, tuple(shifts) * repeat)


def _plain(columns: int) -> Units:
    return Units("plain", (1.0,) * columns, (0.0,) * columns)


def problem(index: int, seed: int = PUBLISHED) -> Problem:
    """Return problem ``index`` of the battery with this master seed.

    Activations and losses take turns, so that all of their pairs occur. Numbers are log-uniform
    between their limits; some batches are as large as they may be: all of the rows, mostly.
    """
    draws = _Draws(seed, index)
    activations, losses = list(all_activations()), turns()
    round_, place = divmod(index, len(activations))
    activation, loss = activations[place], losses[(place - round_) % len(losses)]
    recipe = RECIPES[loss]
    inputs = _draw_inputs(draws)
    targets = _draw_targets(draws, recipe)
    widths = draws.among("constant", "narrowing", "random")
    hidden = _draw_hidden(draws, widths)
    parameters = _parameters((inputs.columns, *hidden, recipe.outputs or targets.columns))
    rows = draws.whole(20, max(20, min(20_000, int(_ROWS / parameters))))
    most = max(1, min(rows, int(_BATCH / parameters)))
    batch = most if draws.chance(0.15) else draws.whole(1, most)
    dtype = "float64" if draws.chance(0.1) else "float32"
    return Problem(
        seed, index, hidden, widths, activation, loss, dtype, rows, batch, inputs, targets
    )


def _draw_inputs(draws: _Draws) -> Inputs:
    columns = draws.whole(1, 60)
    distribution = draws.among(*_DISTRIBUTIONS)
    collinear, constant = draws.chance(0.2), draws.chance(0.15)
    rank = draws.whole(1, columns) if collinear else columns
    still = draws.whole(1, max(1, columns // 4)) if constant and columns > 1 else 0
    return Inputs(columns, distribution, rank, still, draws.units(columns))


def _draw_targets(draws: _Draws, recipe: Recipe) -> Targets:
    columns = draws.whole(*recipe.columns)
    noise = draws.number(0.01, 1.0) if draws.chance(0.6) else 0.0
    imbalance = draws.number(0.5, 4.0) if draws.chance(0.35) else 0.0
    features, roughness = draws.whole(2, 30), draws.number(0.3, 3.0)
    units = draws.units(columns)
    return Targets(
        columns, noise, imbalance, features, roughness, units if recipe.scaled else _plain(columns)
    )


def _draw_hidden(draws: _Draws, widths: str) -> tuple[int, ...]:
    depth, first, last = draws.whole(1, 20), draws.whole(5, 300), draws.whole(5, 300)
    if widths == "constant":
        return (first,) * depth
    if widths == "random":
        return tuple(draws.whole(5, 300) for _ in range(depth))
    wide, narrow = max(first, last), min(first, last)
    steps = max(1, depth - 1)
    return tuple(round(wide * (narrow / wide) ** (l / steps)) for l in range(depth))


# ---- making the arrays ---------------------------------------------------------------------------

_DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-(3.0**0.5), 3.0**0.5, shape),
    "binary": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "heavy": lambda rng, shape: (rng.lognormal(0.0, 1.0, shape) - 1.65) / 2.16,
}


def _columns(rng: np.random.Generator, inputs: Inputs, rows: int) -> np.ndarray:
    """Return the inputs before units, (N, D): combinations of ``rank`` independent columns."""
    x = _DISTRIBUTIONS[inputs.distribution](rng, (rows, inputs.rank))
    mixing = rng.standard_normal((inputs.rank, inputs.columns)) / inputs.rank**0.5
    if inputs.rank < inputs.columns:
        x = x @ mixing
    if inputs.constant:
        x[:, -inputs.constant :] = rng.choice([0.0, 1.0], inputs.constant)
    return x


def _teacher(rng: np.random.Generator, x: np.ndarray, targets: Targets) -> np.ndarray:
    """Return K functions of the inputs with mean 0 and deviation 1 over the rows, (N, K).

    Each is a sum of a few tanh features and of a linear function.
    """
    size = x.shape[1] ** 0.5
    slopes = rng.standard_normal((x.shape[1], targets.features)) * (targets.roughness / size)
    features = np.tanh(x @ slopes + rng.standard_normal(targets.features))
    f: np.ndarray = features @ rng.standard_normal((targets.features, targets.columns))
    f += 0.3 * x @ rng.standard_normal((x.shape[1], targets.columns)) / size
    deviation = f.std(axis=0)
    f -= f.mean(axis=0)
    f /= np.where(deviation > 1e-9, deviation, 1.0)
    return f


@dataclass(frozen=True)
class Recipe:
    """How targets for one loss are made from the teacher's values."""

    columns: tuple[int, int]  # fewest and most functions of the teacher
    targets: Callable[[np.random.Generator, np.ndarray, Targets], np.ndarray]
    scaled: bool = False  # the targets have units
    outputs: int = 0  # width of the output layer; 0: one for each function of the teacher
    turns: int = 1  # how many problems of a round have this loss


def _regression(rng: np.random.Generator, f: np.ndarray, targets: Targets) -> np.ndarray:
    return targets.units.apply(f + targets.noise * rng.standard_normal(f.shape))


def _classes(rng: np.random.Generator, f: np.ndarray, targets: Targets) -> np.ndarray:
    """Labels: the largest score, with Gumbel noise in it; imbalance makes later classes rarer."""
    scores = 3.0 * f - targets.imbalance * np.arange(f.shape[1]) / max(1, f.shape[1] // 3)
    labels: np.ndarray = (scores + 3.0 * targets.noise * rng.gumbel(size=f.shape)).argmax(axis=1)
    labels[:2] = 0, f.shape[1] - 1  # two classes at least, and every output has a label
    return labels


def _bits(rng: np.random.Generator, f: np.ndarray, targets: Targets) -> np.ndarray:
    """0 or 1, by the sign of the score with logistic noise in it; imbalance makes ones rarer."""
    ones = f - 0.5 * targets.imbalance + 0.5 * targets.noise * rng.logistic(size=f.shape) > 0.0
    ones[0], ones[1] = True, False
    return ones.astype(np.float64)


def _grey(rng: np.random.Generator, f: np.ndarray, targets: Targets) -> np.ndarray:
    """0 or 1 where there is noise, else grey values in between."""
    if targets.noise:
        return _bits(rng, f, targets)
    grey: np.ndarray = 1.0 / (1.0 + np.exp(targets.imbalance - 2.0 * f))
    return grey


def _counts(rng: np.random.Generator, f: np.ndarray, targets: Targets) -> np.ndarray:
    """Counts, or without noise the rates themselves; the mean is up to exp(4)."""
    rates: np.ndarray = np.exp(0.7 * np.clip(f, -4.0, 4.0) + targets.imbalance)
    return rng.poisson(rates).astype(np.float64) if targets.noise else rates


RECIPES = {
    "squared_error": Recipe((1, 10), _regression, scaled=True, turns=2),
    "softmax_cross_entropy": Recipe((2, 20), _classes),
    "binary_cross_entropy": Recipe((1, 30), _grey),
    "poisson": Recipe((1, 10), _counts),
    "binary_mixture": Recipe((1, 1), _bits, outputs=3),
}


def turns() -> list[str]:
    """Return the losses of one round: every registered one that has a recipe."""
    names = [name for name in all_losses() if name in RECIPES]
    most = max(RECIPES[name].turns for name in names)
    return [name for turn in range(most) for name in names if RECIPES[name].turns > turn]
