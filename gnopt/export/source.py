"""What a source file says of networks, whatever its language.

A network becomes a procedure that computes y and, where it is asked for, J = ∂y/∂x. J is made
column by column from the inputs to the outputs, or row by row from the outputs to the inputs:
whichever are fewer. Activations, and predictions that are made of one output each, are traced into
functions of one number; other predictions have a `Coupled` form.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnopt import __version__
from gnopt.data.moments import Statistics
from gnopt.data.table.encoding import Encoding
from gnopt.engine.activations import Activation, get_activation
from gnopt.engine.arrays.functions import Elementwise
from gnopt.engine.arrays.trace import Dialect, Traced, Untraceable, trace
from gnopt.engine.losses import Loss
from gnopt.engine.source_form import Coupled
from gnopt.errors import GnoptError
from gnopt.export.columns import form_of
from gnopt.training.checkpoint import StoredNetwork
from gnopt.training.content import Content

WIDTH = 100  # columns of a line
ARRAYS = ("n", "h", "y", "dh", "dy")  # what bodies of `Coupled` may use


@dataclass(frozen=True)
class Language:
    """What the parts that languages share need to know of one."""

    name: str  # by which losses call it
    title: str  # by which people call it
    dialect: Dialect
    element: str  # an element of x, by its number from {0} or from {1}


@dataclass(frozen=True)
class Scalar:
    """A function f of one number h, and its derivative, which may also use a = f(h)."""

    name: str
    value: Traced
    slope: Traced

    @property
    def identity(self) -> bool:
        """Whether f(h) = h: then nothing needs to be computed."""
        return not self.value.statements and self.value.value == "h"

    def part(self, kind: str) -> Traced:
        """Return what ``kind`` computes: "f" or "df"."""
        return {"f": self.value, "df": self.slope}[kind]

    def arguments(self, kind: str) -> list[str]:
        """Return those of the numbers h and a that are used by ``kind``."""
        traced = self.part(kind)
        text = " ".join([*(expression for _, expression in traced.statements), traced.value])
        return used(text, ["h", "a"])


def used(text: str, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that occur in ``text`` as words."""
    words = set(re.findall(r"\w+", text))
    return [name for name in names if name in words]


@dataclass(frozen=True)
class SourceNetwork:
    """One network: its procedure is called ``name``."""

    name: str
    weights: Sequence[np.ndarray]  # W_1..W_L, the bias last
    functions: Sequence[Scalar]  # of the hidden layers
    statistics: Statistics | None

    @property
    def sizes(self) -> list[int]:
        """Widths [D, d_1, ..., d_L]."""
        return [self.weights[0].shape[1] - 1, *(len(w) for w in self.weights)]


@dataclass(frozen=True)
class SourceColumns:
    """How the columns of a table become the inputs of the networks, one number for each column."""

    features: Sequence[Scalar]  # each a function of one column
    owners: Sequence[int]  # the number of the column of each feature, from 0


@dataclass(frozen=True)
class Source:
    """All that a source file holds."""

    name: str  # of what the file offers, an identifier
    number: Callable[[float], str]  # writes a number in the language
    inputs: int  # numbers of x: those of the networks, or one for each column of a table
    outputs: int
    single: bool  # weights are float32
    networks: Sequence[SourceNetwork]
    functions: Sequence[Scalar]  # each one once
    link: Scalar | Coupled  # of h to the prediction
    columns: SourceColumns | None  # of the table, if the networks were trained on one
    about: Sequence[str]  # lines of the comment at the top
    deviates: bool  # whether the file tells the deviation of a prediction
    noise: np.ndarray  # (K,), variance of the targets about the prediction; 0 where it is unknown

    @property
    def by_columns(self) -> bool:
        """Whether J is made column by column."""
        return self.inputs < self.outputs

    @property
    def scalars(self) -> list[Scalar]:
        """All functions of one number: of columns and activations, and the prediction if it is."""
        features = self.columns.features if self.columns is not None else ()
        link = [self.link] if isinstance(self.link, Scalar) else []
        return [*features, *self.functions, *link]

    @property
    def share(self) -> float:
        """By which the prediction of each network counts in the mean."""
        return 1.0 / len(self.networks)


def source_of(content: Content, out: Path, language: Language) -> Source:
    """Return what the file ``out`` says; GnoptError where an activation or the loss cannot be
    written in the language, or a weight is not finite.
    """
    dtype = content.dtype
    numbers = [w for one in content.networks.values() for w in one.weights]
    if not all(np.isfinite(w).all() for w in numbers):
        raise GnoptError(
            f"{out}: the network holds numbers that are not finite; nothing is written"
        )
    called = dict.fromkeys(
        name for one in content.networks.values() for name in [*one.activations, "identity"]
    )
    functions = {
        name: _activation(name, own, dtype, language)
        for name, own in zip(called, _identifiers(called), strict=True)
    }
    encoding = content.encoding
    return Source(
        identifier(out.stem),
        language.dialect.number,
        content.inputs if encoding is None else len(encoding.columns),
        content.outputs,
        dtype == np.float32,
        [
            _network(number, one, functions, content.ensemble)
            for number, one in content.networks.items()
        ],
        list(functions.values()),
        _link(content.loss, content.first.loss, dtype, language),
        None if encoding is None else _columns(encoding, language),
        list(_about(content, language)),
        content.has_deviation,
        np.zeros(content.outputs) if content.noise is None else content.noise,
    )


def _network(
    number: int, one: StoredNetwork, functions: dict[str, Scalar], ensemble: bool
) -> SourceNetwork:
    name = f"network_{number}" if ensemble else "network"
    own = [functions[activation] for activation in one.activations]
    return SourceNetwork(name, one.weights, own, one.statistics)


def _columns(encoding: Encoding, language: Language) -> SourceColumns:
    features: list[Scalar] = []
    owners: list[int] = []
    for number, column in enumerate(encoding.columns):
        for feature in form_of(column).features(column):
            value, slope = (
                trace(function, language.dialect, np.dtype(np.float64), ["h"])
                for function in feature
            )
            features.append(Scalar(f"feature_{len(features) + 1}", value, slope))
            owners.append(number)
    return SourceColumns(features, owners)


def identifier(text: str) -> str:
    """Return ``text`` as a name in C and Fortran, of 31 characters at most."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:31]
    return name if name[:1].isalpha() else f"net_{name}".rstrip("_")


def _identifiers(names: Iterable[str]) -> list[str]:
    """Return a different identifier for each name."""
    made: list[str] = []
    for name in names:
        own = identifier(name).lower()  # Fortran does not tell capitals apart
        made.append(f"{own}_{len(made)}" if own in made else own)
    return made


def _activation(name: str, own: str, dtype: np.dtype, language: Language) -> Scalar:
    activation = get_activation(name)
    try:
        return Scalar(own, *_traced(activation, dtype, language))
    except Untraceable as error:
        raise GnoptError(
            f"activation '{name}' cannot be written in {language.title}: its functions f and df do "
            f"more than operations on one number, which docs/plug-ins.md lists ({error}); export "
            "to .h5 or .npz"
        ) from error


def _traced(activation: Activation, dtype: np.dtype, language: Language) -> tuple[Traced, Traced]:
    h = None if activation.from_output else "h"
    value = trace(activation.f, language.dialect, dtype, ["h"], out=True)
    return value, trace(activation.df, language.dialect, dtype, [h, "a"], out=True)


def _link(loss: Loss, name: str, dtype: np.dtype, language: Language) -> Scalar | Coupled:
    if language.name in loss.source:
        return loss.source[language.name]
    try:
        return Scalar(
            "prediction",
            *(
                trace(function, language.dialect, dtype, ["h"])
                for function in (_of_loss(loss.prediction), _of_loss(loss.prediction_slope))
            ),
        )
    except Untraceable as error:
        raise GnoptError(
            f"loss '{name}' cannot be written in {language.title}: give it prediction_slope, or "
            f"the fact 'source', which docs/plug-ins.md describes ({error}); export to .h5 or .npz"
        ) from error


def _of_loss(method: Callable[..., object]) -> Elementwise:
    return lambda ops, h: method(ops, h)


def _about(content: Content, language: Language) -> Iterator[str]:
    """Yield lines on what the networks are and where they come from."""
    first = content.first
    yield f"Written by gnopt {__version__}: {content.title}."
    for number, one in content.networks.items():
        what = f"Network {number}" if content.ensemble else "Network"
        layers = ", ".join([*one.activations, f"loss {one.loss}"])
        yield f"{what}: {'-'.join(map(str, one.sizes))}; {layers}; {content.dtype} weights."
    if content.ensemble:
        yield "The prediction is the mean of the networks' predictions."
    here = "; they are standardised here" if first.statistics is not None else ""
    if content.encoding is None:
        yield f"x: {content.inputs} numbers, as in the data{here}."
    else:
        columns = content.encoding.columns
        yield f"x: a number for each of {len(columns)} columns; nan and inf are missing cells:"
        for number, column in enumerate(columns):
            place, form = language.element.format(number, number + 1), form_of(column)
            yield f"    {place}  {form.told(column)}"
    yield f"y: {_outputs(content)}."


def _outputs(content: Content) -> str:
    names = ", ".join(content.class_names)
    if content.class_count and content.outputs == 1:
        return f"the probability of the second one of the classes {names}"
    if content.class_count:
        return f"the probabilities of the classes {names}"
    means = "the mean" if content.outputs == 1 else f"{content.outputs} means"
    return f"{means} of {', '.join(content.output_names) or 'what is predicted'}"


def comment(lines: Iterable[str], width: int = WIDTH - 4) -> Iterator[str]:
    """Yield lines of printable characters, no longer than ``width``, that do not end a comment."""
    for line in lines:
        plain = "".join(c if c.isprintable() else "?" for c in line)
        plain = plain.replace("*/", "* /").replace("/*", "/ *")
        yield from textwrap.wrap(plain, width, subsequent_indent="    ") or [""]


def literals(values: np.ndarray, suffix: str) -> list[str]:
    """Return numbers as the shortest text that gives them back, each with ``suffix``."""
    return [f"{text}{suffix}" for text in values.ravel().astype(str).tolist()]


def filled(words: Iterable[str], width: int, end: str = "") -> Iterator[str]:
    """Yield lines of words with commas between them; all lines but the last end with ``end``."""
    line = ""
    for word in words:
        if line and len(line) + len(word) + 2 > width:
            yield f"{line},{end}"
            line = word
        else:
            line = f"{line}, {word}" if line else word
    yield line
