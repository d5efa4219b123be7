"""One record per setting: its name, type, default, limits and meaning, checked in one place."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeVar

from gnopt.errors import ConfigError, SettingProblem, nearest

REQUIRED = object()  # the default of a setting that has none


@dataclass(frozen=True)
class Form:
    """How a value must be written where neither its type nor a list of choices says it.

    ``read`` raises ConfigError for anything else; ``expected`` tells the form in words.
    """

    read: Callable[[Any], object]
    expected: Callable[[], str]

    def fits(self, value: object) -> bool:
        """Whether ``value`` has this form."""
        try:
            self.read(value)
        except ConfigError:
            return False
        return True


@dataclass(frozen=True)
class Option:
    """A setting: ``kind`` is one of bool, int, float, str, strs (a list of names), ints, or any of
    them joined by ``|``; ``low``/``high`` are inclusive unless ``open_low``/``open_high``.

    ``plug_ins`` allows "module:Name" beside the choices. ``free_on_resume`` says that a run may be
    continued under another value, as the numbers do not depend on it.
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
    plug_ins: bool = False
    form: Form | None = None
    free_on_resume: bool = False

    @property
    def expected(self) -> str:
        """The valid values, in words."""
        if self.form is not None:
            return self.form.expected()
        words = {
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
            "str": "a name",
            "strs": "a list of names",
            "ints": "a list of whole numbers",
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

    def parse(self, value: object, key: str) -> tuple[Any, SettingProblem | None]:
        """Return ``(value as its type, None)``, or ``(None, problem)`` with ``key``, which is the
        option's name with its section.
        """
        if _too_long(value):  # such numbers fit into no array, and Python may refuse to print them
            return None, SettingProblem(key, f"{key}: a whole number out of range")
        for kind in self.kind.split("|"):
            ok, parsed = _convert(kind, value)
            if ok and self._allows(parsed):
                return parsed, None
        return None, SettingProblem(key, f"{key} = {value!r}", self.expected, self._near(value))

    def _allows(self, value: Any) -> bool:
        if isinstance(value, list):
            return all(self._allows(v) for v in value)
        if self.form is not None:
            return self.form.fits(value)
        if isinstance(value, bool):
            return True
        if isinstance(value, str):
            return not self.choices or value in self.choices or (self.plug_ins and ":" in value)
        low = self.low is None or (value > self.low if self.open_low else value >= self.low)
        high = self.high is None or (value < self.high if self.open_high else value <= self.high)
        return low and high

    def _near(self, value: object) -> str:
        """The choice nearest to the first name in ``value`` that is not allowed."""
        names = value if isinstance(value, list) else [value]
        wrong = [name for name in names if isinstance(name, str) and not self._allows(name)]
        return nearest(wrong[0], self.choices) if wrong else ""


def _too_long(value: object) -> bool:
    if isinstance(value, list):
        return any(_too_long(v) for v in value)
    return isinstance(value, int) and abs(value) >= 2**63


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
    if kind == "str":
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
    options: Iterable[Option], values: Mapping[str, object], section: str
) -> tuple[dict[str, Any], list[SettingProblem]]:
    """Check ``values`` by name of option: return those that are right, as their types, and all
    problems.

    Names without an option are for the caller to refuse.
    """
    by_name = {o.name: o for o in options}
    parsed: dict[str, Any] = {}
    problems = []
    for name in [name for name in values if name in by_name]:
        value, problem = by_name[name].parse(values[name], f"{section}.{name}")
        if problem:
            problems.append(problem)
        else:
            parsed[name] = value
    for o in by_name.values():
        if o.default is REQUIRED and o.name not in values:
            key = f"{section}.{o.name}"
            problems.append(SettingProblem(key, f"missing key {key}", hint=f": {o.doc}"))
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
    choices: Iterable[str] | Callable[[], Iterable[str]] = (),
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    plug_ins: bool = False,
    form: Form | None = None,
    free_on_resume: bool = False,
) -> Any:
    """Declare a field of a `Settings` record: default, meaning and limits; its type says the kind.

    ``default`` may be `REQUIRED`. ``choices`` that are found by looking, such as the names in a
    registry, are given as a function, which is called each time `Settings.options` is. The other
    arguments are explained at `Option`.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Rate(Settings):
    ...     rate: float = option(0.1, "step size", low=0.0, open_low=True)
    >>> Rate(rate=0.5).rate
    0.5
    >>> (declared,) = Rate.options()
    >>> declared.expected
    'a number > 0'
    >>> value, problem = declared.parse(-1, "optimizer.rate")
    >>> str(problem)
    'optimizer.rate = -1: expected a number > 0'
    """
    facts = Option(
        "",
        default,
        "",
        doc,
        (),
        low,
        high,
        open_low,
        open_high,
        plug_ins,
        form,
        free_on_resume,
    )
    metadata = {"option": facts, "choices": choices if callable(choices) else lambda: choices}
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
            kind = "|".join(_KINDS[part] for part in _parts(hints[f.name]))
            choices = tuple(f.metadata["choices"]())
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

    @classmethod
    def parse(
        cls, values: Mapping[str, object], section: str
    ) -> tuple[Self | None, list[SettingProblem]]:
        """Check ``values`` by name of option: return the record and all problems.

        Wrong values stand at their defaults in the record, so that other checks can go on; there is
        no record where a required value is missing or wrong.
        """
        parsed, problems = parse_all(cls.options(), values, section)
        complete = all(o.name in parsed or o.default is not REQUIRED for o in cls.options())
        return (cls.make(parsed) if complete else None), problems

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


Record = TypeVar("Record", bound=Settings)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _build(cls: type[Record], values: dict[str, Any]) -> Record:
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for f in fields(cls):
        if _is_record(hints[f.name]):
            arguments[f.name] = _build(hints[f.name], values)
        elif f.name in values:
            arguments[f.name] = values.pop(f.name)
    return cls(**arguments)


# ---- sizes of memory ----------------------------------------------------------------------------

SIZES = 'a number of bytes, or a size such as "500MB", "2GB" or "1.5GiB"'
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def size_in_bytes(size: int | str) -> int:
    """Read a number of bytes, or a size such as "1.5GiB"; ConfigError for anything else.

    >>> size_in_bytes("2MB"), size_in_bytes("1.5KiB"), size_in_bytes(64)
    (2000000, 1536, 64)
    """
    number: float = 0
    if isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([a-zA-Z]*)\s*", size)
        if match and match[2].lower() in _UNITS:
            number = float(match[1]) * _UNITS[match[2].lower()]
    else:
        number = size
    if not 1 <= number < 2**63:
        raise ConfigError(f"{size!r}: expected {SIZES}")
    return int(number)


SIZE = Form(size_in_bytes, lambda: SIZES)
