"""Read the variants of a comparison: methods with single settings or a grid of settings.

A grid file is TOML::

    [grid]   # for first-order methods of --methods that are not variants of this file
    learning_rate = [0.001, 0.002]       # values of an option: one run for each combination
    decay_share = [1.0, 0.5]             # optimizer.decay_period as a share of training.updates

    [variants."kfra without averages"]   # a curve with a name that --methods may use
    method = "kfra"
    line = "dashed"                      # or "solid", in figures
    set = { curvature_decay = 0.0, "training.updates" = 500 }  # options of the method, or keys
    grid = { damping_a = [0.04, 0.08] }  # a grid for this variant alone

Without ``--methods``, all variants of the file are compared.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gnopt import optimizers
from gnopt.errors import ConfigError, nearest
from gnopt.registry import suggestion
from gnopt.toml import read_toml

DECAY_SHARE = "decay_share"
LINES = ("solid", "dashed")

# Botev et al. 2017 vary the rate "from 2^-6 to 2^-13 at every power of 2" and report 35 runs. Five
# decay periods leave seven rates, so their range is half-open and its last rate is 2^-12.
PAPER_GRID: dict[str, list[object]] = {
    "learning_rate": [2.0**-k for k in range(6, 13)],
    DECAY_SHARE: [1.0, 0.5, 0.25, 0.125, 0.0625],
}


@dataclass(frozen=True)
class Variant:
    """One curve of a comparison: a method with its settings and its grid."""

    name: str
    method: str
    settings: dict[str, object] = field(default_factory=dict)  # key → value, for all runs
    grid: dict[str, list[object]] = field(default_factory=dict)  # option or key → values
    line: str = "solid"


@dataclass(frozen=True)
class GridPoint:
    """One combination of a grid."""

    values: dict[str, object]  # option or key → value; empty for the settings outside the grid

    @property
    def label(self) -> str:
        """The point in words, for tables."""
        return (
            ", ".join(
                f"{_short_name(name)} {setting_text(name, value)}"
                for name, value in self.values.items()
            )
            or "default"
        )

    @property
    def slug(self) -> str:
        """The point as part of a path."""
        return (
            "_".join(slug(f"{name}-{value_text(value)}") for name, value in self.values.items())
            or "default"
        )

    def settings(self, updates: int) -> dict[str, object]:
        """Return {key: value}; a decay share becomes a period of ``updates``, at least 1."""
        settings: dict[str, object] = {}
        for name, value in self.values.items():
            if name == DECAY_SHARE and isinstance(value, (int, float)):
                settings["optimizer.decay_period"] = max(1, round(value * updates))
            else:
                settings[full_key(name)] = value
        return settings


def full_key(name: str) -> str:
    """Return the key section.name; a name without a section is an option of the method."""
    return name if "." in name else f"optimizer.{name}"


def slug(text: str) -> str:
    """Return ``text`` with the characters replaced that a file name should not have."""
    return re.sub(r"[^\w.+=-]+", "-", text).strip("-.") or "-"


def points(variant: Variant) -> list[GridPoint]:
    """Return the settings outside the grid, then every combination of the grid."""
    combinations = itertools.product(*variant.grid.values()) if variant.grid else []
    return [
        GridPoint({}),
        *(GridPoint(dict(zip(variant.grid, values, strict=True))) for values in combinations),
    ]


def read_grid(text: str | None) -> tuple[dict[str, list[object]], dict[str, Variant]]:
    """Read ``--grid``: None, ``paper`` or the name of a grid file.

    Returns the grid of first-order methods and the named variants. Raises ConfigError with all
    problems of the file.
    """
    if text is None:
        return {}, {}
    if text == "paper":
        return PAPER_GRID, {}
    path = Path(text)
    try:
        document = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(
            f"--grid {text}: no such file; expected a grid file or 'paper'"
            f"{nearest(text, ['paper'])}"
        ) from None
    except OSError as error:
        raise ConfigError(f"--grid {text}: cannot be read: {error.strerror}") from None
    problems = [
        f"{path}: unknown key {name}{nearest(name, ('grid', 'variants'))}"
        for name in document
        if name not in ("grid", "variants")
    ]
    grid = _checked_grid(document.get("grid", {}), f"{path}: grid", problems)
    variants = {}
    parts = document.get("variants", {})
    if not isinstance(parts, dict):
        problems.append(f"{path}: variants = {parts!r}: expected tables [variants.NAME]")
        parts = {}
    for name, part in parts.items():
        variants[name] = _variant(name, part, f"{path}: variants.{name}", problems)
    slugs = [slug(name) for name in variants]
    problems += [
        f"{path}: variants.{name}: another variant's name is too much alike"
        for name in variants
        if slugs.count(slug(name)) > 1
    ]
    if problems:
        raise ConfigError(problems)
    return grid, variants


def _variant(name: str, part: object, where: str, problems: list[str]) -> Variant:
    known = ("method", "set", "grid", "line")
    if not isinstance(part, dict):
        problems.append(f"{where} = {part!r}: expected a table with method, set, grid, line")
        return Variant(name, "")
    problems += [
        f"{where}: unknown key {key}{nearest(key, known)}" for key in part if key not in known
    ]
    if "," in name:
        problems.append(f"{where}: a name without commas is needed, as --methods is a list")
    method, settings, line = (
        part.get("method", name),
        part.get("set", {}),
        part.get("line", "solid"),
    )
    if not isinstance(method, str) or method not in optimizers.methods():
        problems.append(
            f"{where}.method = {method!r}: expected one of {', '.join(optimizers.methods())}"
            f"{suggestion(str(method), optimizers.methods())}"
        )
        method = ""
    if line not in LINES:
        problems.append(f"{where}.line = {line!r}: expected {' or '.join(LINES)}")
    if not isinstance(settings, dict):
        problems.append(f"{where}.set = {settings!r}: expected a table of settings")
        settings = {}
    grid = _checked_grid(part.get("grid", {}), f"{where}.grid", problems)
    problems += [
        f"{where}: {key} is not for a variant to set"
        for key in (*settings, *grid)
        if full_key(key) in ("optimizer.method", "training.seed")
    ]
    return Variant(
        name, method, {full_key(key): value for key, value in settings.items()}, grid, line
    )


def _checked_grid(grid: object, where: str, problems: list[str]) -> dict[str, list[object]]:
    if not isinstance(grid, dict):
        problems.append(f"{where} = {grid!r}: expected a table of lists")
        return {}
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            problems.append(f"{where}.{name} = {values!r}: expected a list of values")
        elif len({str(value) for value in values}) < len(values):
            problems.append(f"{where}.{name} = {values!r}: expected different values")
        elif name == DECAY_SHARE and not all(
            isinstance(v, (int, float)) and 0 < v <= 1 for v in values
        ):
            problems.append(f"{where}.{name} = {values!r}: expected numbers > 0 and <= 1")
    return {name: values for name, values in grid.items() if isinstance(values, list)}


def choose_variants(
    methods: Sequence[str], grid: Mapping[str, list[object]], named: Mapping[str, Variant]
) -> list[Variant]:
    """Return the variants that ``--methods`` names, each once, or else all of the grid file.

    ``named`` are the variants of the grid file. A first-order method that is not among them gets
    ``grid``. Raises ConfigError for an unknown method, or if there is nothing to compare.
    """
    table = optimizers.methods()
    if not methods and not named:
        raise ConfigError("--methods is missing: names separated by commas, such as kfra,kfac,adam")
    unknown = [name for name in methods if name not in named and name not in table]
    if unknown:
        raise ConfigError(
            [
                f"--methods: unknown method '{name}'{suggestion(name, {**named, **table})}; known: "
                f"{', '.join([*named, *table])}"
                for name in unknown
            ]
        )
    variants = []
    for name in dict.fromkeys(methods or named):
        variant = named.get(name) or Variant(name, name)
        if not variant.grid and table[variant.method].order == 1 and name not in named:
            variant = Variant(name, name, {}, dict(grid), variant.line)
        variants.append(variant)
    return variants


def value_text(value: object) -> str:
    """Return a value of a grid as text, numbers in their shortest form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short_name(name: str) -> str:
    return {"learning_rate": "rate", DECAY_SHARE: "halved every"}.get(name, name)


def setting_text(name: str, value: object) -> str:
    """Return a value of a grid in words: a share in per cent, a learning rate as a power of two."""
    if isinstance(value, (int, float)) and name == DECAY_SHARE:
        return f"{100 * value:g}%"
    if isinstance(value, (int, float)) and name == "learning_rate":
        return power_of_two(value)
    return value_text(value)


def power_of_two(value: float) -> str:
    """Return a rate such as ``2^-7`` if it is such a power of two, else as a number."""
    above, below = float(value).as_integer_ratio()
    if above == 1 and below > 8:
        return f"2^-{below.bit_length() - 1}"
    return f"{value:g}"
