"""One record per setting: its name, type, default, limits and meaning, checked in one place."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from gnopt.errors import nearest

REQUIRED = object()  # the default of a setting that has none


@dataclass(frozen=True)
class Option:
    """A setting: ``kind`` is one of bool, int, float, str, strs (a list of names), ints, path, or
    any of them joined by ``|``; ``low``/``high`` are inclusive unless
    ``open_low``/``open_high``.
    """

    name: str
    default: Any
    kind: str
    doc: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    @property
    def expected(self) -> str:
        """The valid values, in words."""
        words = {
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
            "str": "a name",
            "strs": "a list of names",
            "ints": "a list of whole numbers",
            "path": "a path",
        }
        text = " or ".join(words[k] for k in self.kind.split("|"))
        if self.choices:
            text += f" out of {', '.join(self.choices)}"
        limits = []
        if self.low is not None:
            limits.append(f"{'>' if self.open_low else '>='} {self.low:g}")
        if self.high is not None:
            limits.append(f"{'<' if self.open_high else '<='} {self.high:g}")
        return " ".join([text, " and ".join(limits)]) if limits else text

    def parse(self, value: Any, key: str) -> tuple[Any, str | None]:
        """Return ``(value as its type, None)``, or ``(None, problem)`` naming ``key``, found and
        expected.
        """
        for kind in self.kind.split("|"):
            ok, parsed = _convert(kind, value)
            if ok and self._within(parsed):
                return parsed, None
        hint = nearest(value, self.choices) if isinstance(value, str) else ""
        return None, f"{key} = {value!r}: expected {self.expected}{hint}"

    def _within(self, value: Any) -> bool:
        if isinstance(value, bool):
            return True
        if isinstance(value, str):
            return not self.choices or value in self.choices or ":" in value
        if isinstance(value, list):
            return all(self._within(v) for v in value)
        low = self.low is None or (value > self.low if self.open_low else value >= self.low)
        high = self.high is None or (value < self.high if self.open_high else value <= self.high)
        return low and high


def _convert(kind: str, value: Any) -> tuple[bool, Any]:
    number = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )
    if kind == "bool":
        return isinstance(value, bool), value
    if kind == "int":
        return (number and float(value).is_integer()), int(value) if number else None
    if kind == "float":
        return number, float(value) if number else None
    if kind in ("str", "path"):
        return isinstance(value, str), value
    if kind == "strs":
        return isinstance(value, list) and all(isinstance(v, str) for v in value), value
    if kind == "ints":
        ok = isinstance(value, list) and all(_convert("int", v)[0] for v in value)
        return ok, [int(v) for v in value] if ok else None
    raise AssertionError(f"unknown kind {kind}")


def defaults(options: Iterable[Option]) -> dict[str, Any]:
    """The default of every option that has one."""
    return {o.name: o.default for o in options if o.default is not REQUIRED}


def parse_all(
    options: Iterable[Option], values: Mapping[str, Any], section: str
) -> tuple[dict[str, Any], list[str]]:
    """Check ``values`` against ``options``: the parsed values with defaults filled in, and all
    problems.
    """
    by_name = {o.name: o for o in options}
    parsed, problems = defaults(by_name.values()), []
    for name, value in values.items():
        key = f"{section}.{name}"
        if name not in by_name:
            problems.append(f"unknown key {key}{nearest(name, by_name)}")
            continue
        parsed_value, problem = by_name[name].parse(value, key)
        if problem:
            problems.append(problem)
        else:
            parsed[name] = parsed_value
    problems += [
        f"missing key {section}.{o.name}: {o.doc}"
        for o in by_name.values()
        if o.default is REQUIRED and o.name not in values
    ]
    return parsed, problems


# ---- records of settings ------------------------------------------------------------------------

_KINDS = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list[str]: "strs",
    list[int]: "ints",
}


def option(
    default: Any,
    doc: str,
    *,
    kind: str = "",
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = (),
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
) -> Any:
    """Declare a field of a `Settings` record: default, meaning and limits; its type says the kind.

    ``default`` may be `REQUIRED`; ``kind`` is only needed where the type does not tell, such as
    "path". ``choices`` that are found by looking, such as the names in a registry, are given as a
    function, which is called each time `Settings.options` is.
    """
    fixed = () if callable(choices) else choices
    facts = Option("", default, kind, doc, fixed, low, high, open_low, open_high)
    metadata = {"option": facts, "choices": choices if callable(choices) else lambda: fixed}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A record of settings: each field is declared by `option`, or is such a record itself.

    Records inherit from records and hold records; a configuration shows all their options in one
    flat section, in the order of declaration.
    """

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Every option of this record and of the records in it."""
        hints = typing.get_type_hints(cls)
        found: list[Option] = []
        for f in fields(cls):
            if _is_record(hints[f.name]):
                found += hints[f.name].options()
                continue
            facts: Option = f.metadata["option"]
            kind = facts.kind or "|".join(_KINDS[part] for part in _parts(hints[f.name]))
            choices: tuple[str, ...] = f.metadata["choices"]()
            found.append(replace(facts, name=f.name, kind=kind, choices=choices))
        return tuple(found)

    @classmethod
    def make(cls, values: Mapping[str, Any] | None = None) -> Self:
        """Build the record from checked values by name of option; the others keep their defaults.

        Names that the record does not have raise TypeError.
        """
        given = dict(values or {})
        record = _build(cls, given)
        if given:
            raise TypeError(f"{cls.__name__} has no option {', '.join(given)}")
        return record

    def values(self) -> dict[str, Any]:
        """Return name of option → value, flat."""
        flat: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            flat.update(value.values() if isinstance(value, Settings) else {f.name: value})
        return flat

    def changed(self, **values: Any) -> Self:
        """Return a copy with these options at other values, wherever in the record they stand."""
        return self.make(self.values() | values)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _build(cls: type[Settings], values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for f in fields(cls):
        if _is_record(hints[f.name]):
            arguments[f.name] = _build(hints[f.name], values)
        elif f.name in values:
            arguments[f.name] = values.pop(f.name)
    return cls(**arguments)
