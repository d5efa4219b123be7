"""One record per setting: its name, type, default, limits and meaning, checked in one place.

A section of a configuration is a class of `Settings`, whose fields are declared by `option`::

    @dataclass(frozen=True, kw_only=True)
    class AdamSettings(Settings):
        beta1: float = option(0.9, "decay of the mean gradient", low=0.0, high=1.0, open_high=True)

``AdamSettings.options()`` describes the fields, ``AdamSettings.parse`` makes a record of the values
of a file, with a `SettingProblem` for each that is wrong, and code reads ``settings.beta1``.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeGuard, TypeVar

from gnopt.errors import ConfigError, SettingProblem
from gnopt.registry import suggestion

Value = bool | int | float | str | list[str] | list[int] | list[float]
REQUIRED = object()  # the default of a setting that has none


# ---- kinds of values ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A type of value: in words, and the function that makes it of what a file holds.

    ``convert`` returns None for a value of another type.
    """

    words: str
    convert: Callable[[object], Value | None]


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if _is_number(value) else None


def _whole(value: object) -> int | None:
    return int(value) if _is_number(value) and float(value).is_integer() else None


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _names(value: object) -> list[str] | None:
    found = [_name(item) for item in value] if isinstance(value, list) else [None]
    return [name for name in found if name is not None] if None not in found else None


def _numbers(value: object) -> list[float] | None:
    found = [_number(item) for item in value] if isinstance(value, list) else [None]
    return [number for number in found if number is not None] if None not in found else None


def _wholes(value: object) -> list[int] | None:
    found = [_whole(item) for item in value] if isinstance(value, list) else [None]
    return [number for number in found if number is not None] if None not in found else None


KINDS = {
    bool: Kind("true or false", _flag),
    int: Kind("a whole number", _whole),
    float: Kind("a number", _number),
    str: Kind("a name", _name),
    list[str]: Kind("a list of names", _names),
    list[int]: Kind("a list of whole numbers", _wholes),
    list[float]: Kind("a list of numbers", _numbers),
}


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


# ---- options ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting: a value of one of ``kinds``, and what limits it.

    ``low`` and ``high`` are inclusive unless ``open_low`` or ``open_high``. ``plug_ins`` allows
    "module:Name" beside the choices. ``free_on_resume`` says that a run may be continued under
    another value, as the numbers do not depend on it.
    """

    name: str
    default: object  # a Value, or REQUIRED
    kinds: tuple[Kind, ...]
    doc: str
    choices: tuple[str, ...] = ()
    siblings: Mapping[str, object] = field(default_factory=dict)  # of the choices, for hints
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
        text = " or ".join(kind.words for kind in self.kinds)
        if self.choices:
            text += f" out of {', '.join(self.choices)}"
        limits = []
        if self.low is not None:
            limits.append(f"{'>' if self.open_low else '>='} {self.low:g}")
        if self.high is not None:
            limits.append(f"{'<' if self.open_high else '<='} {self.high:g}")
        return " ".join([text, " and ".join(limits)]) if limits else text

    def parse(self, value: object, section: str) -> tuple[Value | None, SettingProblem | None]:
        """Return the value as one of its kinds, or None and what is wrong with it."""
        key = f"{section}.{self.name}"
        if _too_long(value):  # such numbers fit into no array, and Python may refuse to print them
            return None, SettingProblem(key, f"{key}: a whole number out of range")
        for kind in self.kinds:
            parsed = kind.convert(value)
            if parsed is not None and self._allows(parsed):
                return parsed, None
        return None, SettingProblem(key, f"{key} = {value!r}", self.expected, self._near(value))

    def _allows(self, value: Value) -> bool:
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
        return suggestion(wrong[0], self.siblings) if wrong else ""


def _too_long(value: object) -> bool:
    if isinstance(value, list):
        return any(_too_long(v) for v in value)
    return isinstance(value, int) and abs(value) >= 2**63


def option(
    default: object,
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
    registry, are given as a function, which is called each time `Settings.options` is. If they are
    name → sibling, a name that another program uses is answered by ours. The other arguments are
    explained at `Option`.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Rate(Settings):
    ...     rate: float = option(0.1, "step size", low=0.0, open_low=True)
    >>> Rate(rate=0.5).rate
    0.5
    >>> (declared,) = Rate.options()
    >>> declared.expected
    'a number > 0'
    >>> value, problem = declared.parse(-1, "optimizer")
    >>> str(problem)
    'optimizer.rate = -1: expected a number > 0'
    """

    def describe(name: str, kinds: tuple[Kind, ...]) -> Option:
        found = choices() if callable(choices) else choices
        siblings = found if isinstance(found, Mapping) else dict.fromkeys(found)
        return Option(
            name=name,
            default=default,
            kinds=kinds,
            doc=doc,
            choices=tuple(siblings),
            siblings=siblings,
            low=low,
            high=high,
            open_low=open_low,
            open_high=open_high,
            plug_ins=plug_ins,
            form=form,
            free_on_resume=free_on_resume,
        )

    metadata = {"describe": describe}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


# ---- records of settings ------------------------------------------------------------------------

_HINTS: dict[type, dict[str, typing.Any]] = {}  # types of the fields of each record


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A record of settings: each field is declared by `option`, or is such a record itself.

    Records inherit from records and hold records; a configuration shows all their options in one
    flat section, in the order of declaration.
    """

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Every option of this record and of the records in it."""
        if cls not in _HINTS:
            _HINTS[cls] = typing.get_type_hints(cls)
        hints = _HINTS[cls]
        found: list[Option] = []
        for f in fields(cls):
            if _is_record(hints[f.name]):
                found += hints[f.name].options()
                continue
            describe: Callable[[str, tuple[Kind, ...]], Option] = f.metadata["describe"]
            found.append(describe(f.name, tuple(KINDS[part] for part in _parts(hints[f.name]))))
        return tuple(found)

    @classmethod
    def make(cls, values: Mapping[str, object] | None = None) -> Self:
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
        no record where a required value is missing or wrong. Names that the record does not have
        are for the caller to refuse.
        """
        options = {o.name: o for o in cls.options()}
        parsed: dict[str, Value] = {}
        problems = []
        for name in [name for name in values if name in options]:
            value, problem = options[name].parse(values[name], section)
            if problem:
                problems.append(problem)
            elif value is not None:
                parsed[name] = value
        required = [o for o in options.values() if o.default is REQUIRED]
        for o in required:
            if o.name not in values:
                key = f"{section}.{o.name}"
                problems.append(SettingProblem(key, f"missing key {key}", hint=f": {o.doc}"))
        complete = all(o.name in parsed for o in required)
        return (cls.make(parsed) if complete else None), problems

    def values(self) -> dict[str, Any]:
        """Return name of option → value, flat."""
        flat: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            flat.update(value.values() if isinstance(value, Settings) else {f.name: value})
        return flat

    def changed(self, **values: object) -> Self:
        """Return a copy with these options at other values, wherever in the record they stand."""
        return self.make(self.values() | values)


Record = TypeVar("Record", bound=Settings)


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _build(cls: type[Record], values: dict[str, object]) -> Record:
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
