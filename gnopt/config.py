"""The configuration: defaults, file, ``--set`` and flags, merged and checked as a whole.

Precedence is default < file < ``--set`` < dedicated flag. Every problem is reported, not the first
alone, and each value remembers where it came from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gnopt import optimizers, plug_ins
from gnopt.aims import AUTO, Aim
from gnopt.data.links import SWITCH
from gnopt.data.options import DataSettings
from gnopt.deciding import Decisions, decide, is_data
from gnopt.engine.losses import get_loss
from gnopt.engine.predictions import Classes
from gnopt.errors import ConfigError, SettingProblem, SettingsError, nearest
from gnopt.optimizers.base import OptimizerSettings
from gnopt.options import Record
from gnopt.settings import DEFAULT_METHOD, MethodChoice, NetworkSettings, TrainingSettings, sections
from gnopt.toml import read_file_name, read_toml

DECIDED = "decided by the data"
ROLES = ("data.targets", "data.group", "data.weights")  # what flags say of a file of data
Flags = Mapping[str, tuple[str, object]]  # key in full → (flag, value), from a command line


@dataclass
class Config:
    """A checked configuration: a record for each section, and where each value came from.

    ``sources`` maps a key in full, such as "training.seed", to a file, ``--set``, a flag or
    "default"; ``path`` is the file that was read.
    """

    data: DataSettings
    network: NetworkSettings
    training: TrainingSettings
    method: str
    optimizer: OptimizerSettings  # the settings of the method
    sources: dict[str, str]
    path: Path | None = None
    decisions: Decisions | None = None  # where the file is one of data

    def values(self) -> dict[str, dict[str, object]]:
        """Return section → name → value, as the file of a configuration shows them."""
        return {
            "data": self.data.values(),
            "network": self.network.values(),
            "optimizer": {"method": self.method, **self.optimizer.values()},
            "training": self.training.values(),
        }

    def aimed(self, aim: Aim) -> Config:
        """Return the configuration with this aim, unless one was given."""
        if self.sources["training.aim"] != "default":
            return self
        return replace(self, training=self.training.changed(aim=aim.name))

    def with_method(self, method: str) -> Config:
        """Return the configuration with this method in place of "auto", and with its precision
        unless one was given.
        """
        values = self.optimizer.values()
        given = {n: v for n, v in values.items() if self.sources[f"optimizer.{n}"] != "default"}
        optimizer = optimizers.get_method(method).settings.make(given)
        of_method = {f"optimizer.{name}": "default" for name in optimizer.values()}
        training = self.training
        if self.sources["training.dtype"] == "default":
            training = training.changed(dtype=optimizers.get_method(method).dtype)
        return replace(
            self,
            method=method,
            optimizer=optimizer,
            training=training,
            sources={**of_method, **self.sources},
        )

    def flat(self) -> dict[str, object]:
        """Return key in full → value."""
        return {
            f"{section}.{name}": value
            for section, part in self.values().items()
            for name, value in part.items()
        }


@dataclass(frozen=True)
class _Given:
    """A value before it is checked, and its source: a file, ``--set`` or a flag."""

    value: object
    source: str


def load(path: Path, sets: Sequence[str] = (), flags: Flags | None = None) -> Config:
    """Read the file ``path``, override its values by ``--set`` texts and by flags, and check all.

    Where ``path`` is a file of data, what no text and no flag says is decided by the data. Raises
    SettingsError with all problems at once, ConfigError if the file cannot be read.
    """
    draft = _Draft(path)
    from_data = is_data(path)
    if not from_data:
        draft.read()
    for text in sets:
        key, value, problem = parse_set(text)
        if problem:
            draft.problems.append(problem)
        else:
            draft.give(key, value, "--set")
    for key, (flag, value) in (flags or {}).items():
        draft.give(key, value, flag)
    if not from_data:
        draft.refuse_roles(flags or {})
        return draft.check()
    decisions = draft.decide()
    return replace(draft.check(), decisions=decisions)


def parse_set(text: str) -> tuple[str, object, SettingProblem | None]:
    """Split ``section.key=value``: return key, value and None, or a problem in place of None.

    A value that is not TOML is a string.

    >>> parse_set("training.seed=3")
    ('training.seed', 3, None)
    >>> parse_set("optimizer.method=kfac")
    ('optimizer.method', 'kfac', None)
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or key.count(".") != 1 or not all(key.split(".")):
        return key, None, SettingProblem(key, f"--set {text!r}", "section.key=value")
    if not value.isprintable():
        found = f"--set {key}: the value {value!r} holds characters that cannot be printed"
        return key, None, SettingProblem(key, found)
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return key, value, None
    return key, parsed["value"], None


class _Draft:
    """A configuration while it is read: the values given so far, and the problems found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.given: dict[str, dict[str, _Given]] = {}  # by section and name
        self.problems: list[SettingProblem] = []

    def read(self) -> None:
        """Take the values of the file; ConfigError where it is not a TOML file."""
        for section, part in _document(self.path).items():
            if isinstance(part, dict):
                for name, value in part.items():
                    is_file = (section, name) == ("data", "file")
                    given = read_file_name(value) if is_file else value
                    self.give(f"{section}.{name}", given, str(self.path))
            else:
                self.problems.append(replace(_outside(section), source=str(self.path)))

    def give(self, key: str, value: object, source: str) -> None:
        """Set a value; it replaces the value that an earlier source gave to the key."""
        section, _, name = key.partition(".")
        self.given.setdefault(section, {})[name] = _Given(value, source)

    def decide(self) -> Decisions:
        """Take what the file, which holds data, decides of the values that nobody gave.

        Raises SettingsError for wrong settings of the data, by which the file is read.
        """
        self._refuse_unknown(self._method())
        self._add(DataSettings.parse({**self._values("data"), "file": str(self.path)}, "data")[1])
        if self.problems:
            raise SettingsError(self.problems)
        given = {
            f"{section}.{name}": one.value
            for section, part in self.given.items()
            for name, one in part.items()
        }
        decisions = decide(self.path, given)
        for key, value in decisions.values().items():
            if key not in given:
                self.give(key, value, DECIDED)
        return decisions

    def refuse_roles(self, flags: Flags) -> None:
        """Note the flags that only a file of data takes, as a configuration says it already."""
        self._add(
            SettingProblem(key, f"{flags[key][0]} goes with a file of data", f"--set {key}=...")
            for key in ROLES
            if key in flags
        )

    def check(self) -> Config:
        """Return the configuration; SettingsError with every problem where there are any."""
        method = self._method()
        self._refuse_unknown(method)
        data = self._record(DataSettings, "data")
        network = self._record(NetworkSettings, "network")
        optimizer = self._optimizer(method)
        training = self._record(TrainingSettings, "training")
        if network is not None:
            plug_ins.provide(self.path, [network.loss, *network.activations])
            self._add(network.contradictions())
            if not self.problems:
                self._add(_method_problems(method, optimizer, network))
            if not self.problems and training is not None:
                # The data decides between one output and several.
                loss = get_loss(network.loss)
                self._add(training.metric_problems([loss.predicts(1), loss.predicts(2)]))
                self._add(_class_problems(training, network))
        if data is not None and training is not None:
            self._add(training.contradictions(data))
        if data is not None and data.follow_links:
            self._add(self._link_problems())
        if self.problems or not (data and network and optimizer and training):
            raise SettingsError(self.problems)
        if method != AUTO and "dtype" not in self.given.get("training", {}):
            training = training.changed(dtype=optimizers.get_method(method).dtype)
        return Config(
            data.changed(file=self._data_file(data)),
            network.changed(activation=network.activations),
            training,
            method,
            optimizer,
            self._sources(method),
            self.path,
        )

    def _link_problems(self) -> Iterator[SettingProblem]:
        """Yield a problem where a configuration that may be somebody else's follows links."""
        in_file = self.given["data"]["follow_links"].source == str(self.path)
        if in_file and not plug_ins.trusts(self.path):
            yield SettingProblem(
                "data.follow_links",
                "data.follow_links = true: this configuration may come from somebody else, and "
                f"its data could read any file of this machine; if you trust it: {SWITCH}",
            )

    def _add(self, problems: Iterable[SettingProblem]) -> None:
        """Note problems, each with the source of the value that causes it."""
        for problem in problems:
            section, _, name = problem.key.partition(".")
            given = self.given.get(section, {}).get(name)
            source = given.source if given else str(self.path)
            self.problems.append(replace(problem, source=source))

    def _values(self, section: str) -> dict[str, object]:
        return {name: given.value for name, given in self.given.get(section, {}).items()}

    def _record(self, kind: type[Record], section: str) -> Record | None:
        record, problems = kind.parse(self._values(section), section)
        self._add(problems)
        return record

    def _method(self) -> str:
        """Return the name that was given for the method, whether or not there is such a method."""
        return str(self._values("optimizer").get("method", DEFAULT_METHOD))

    def _optimizer(self, method: str) -> OptimizerSettings | None:
        """Return the settings of the method; note a problem and return None for an unknown one."""
        self._record(MethodChoice, "optimizer")
        if method not in optimizers.names():
            return None
        return self._record(optimizers.settings_of(method), "optimizer")

    def _refuse_unknown(self, method: str) -> None:
        """Note the keys and sections that no configuration has.

        The keys of [optimizer] depend on the method, so they are not judged if the method is
        unknown.
        """
        known = sections(method)
        for section, part in self.given.items():
            if section not in known:
                hint = nearest(section, known)
                key = f"{section}.{next(iter(part))}"
                self._add([SettingProblem(key, f"unknown section [{section}]", hint=hint)])
            elif section != "optimizer" or method in optimizers.names():
                names = [o.name for o in known[section]]
                self._add(
                    SettingProblem(
                        f"{section}.{name}",
                        f"unknown key {section}.{name}",
                        hint=nearest(name, names) + _elsewhere(section, name, method),
                    )
                    for name in part
                    if name not in names
                )

    def _data_file(self, data: DataSettings) -> str:
        """Return the absolute path of the data file.

        A relative path starts at the configuration's folder if the file is there, else at the
        working directory. ``--data`` starts at the working directory.
        """
        file = Path(data.file).expanduser()
        beside = self.path.resolve().parent / file
        by_flag = self.given["data"]["file"].source in ("--data", DECIDED)
        return str((Path.cwd() / file if by_flag or not beside.exists() else beside).resolve())

    def _sources(self, method: str) -> dict[str, str]:
        return {
            f"{section}.{o.name}": given.source if given else "default"
            for section, options in sections(method).items()
            for o in options
            for given in [self.given.get(section, {}).get(o.name)]
        }


def _document(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        kind = path.suffix or ".toml"
        known = [p.name for p in path.parent.glob("*") if p.suffix in (".toml", kind)]
        near = nearest(path.name, known)
        what = "configuration file" if kind == ".toml" else "file"
        raise ConfigError(f"{path}: no such {what}{near}") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path}: is a directory; expected a configuration, a table or an HDF5 file (`gnopt "
            "dataset import` makes one of a folder of pictures)"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _outside(name: str) -> SettingProblem:
    """Return the problem of a key that stands before the first section."""
    found = f"{name} stands outside a section"
    for section, options in sections(DEFAULT_METHOD).items():
        if any(o.name == name for o in options):
            return SettingProblem(name, found, hint=f" (did you mean '{section}.{name}'?)")
    return SettingProblem(name, found, "[data], [network], [optimizer] or [training]")


def _elsewhere(section: str, name: str, method: str) -> str:
    """Return a hint: another section that has this key, or the methods that have this option."""
    for other, options in sections(method).items():
        if other != section and any(o.name == name for o in options):
            return f"; it belongs to [{other}]"
    if section == "optimizer":
        having = [
            m for m in optimizers.methods() if any(o.name == name for o in optimizers.options_of(m))
        ]
        if having:
            return f"; an option of {', '.join(having)}, not of {method}"
    return ""


def _method_problems(
    method: str, settings: OptimizerSettings | None, network: NetworkSettings
) -> Iterator[SettingProblem]:
    loss = get_loss(network.loss)
    try:
        optimizers.check(method, loss)
    except ConfigError as error:
        yield SettingProblem("optimizer.method", f"optimizer.method: {error}")
    if settings is not None:
        yield from settings.contradictions(loss)


def _class_problems(
    training: TrainingSettings | None, network: NetworkSettings
) -> Iterator[SettingProblem]:
    loss = get_loss(network.loss)
    if training is None or training.class_weights == "none":
        return
    if not any(issubclass(loss.predicts(outputs), Classes) for outputs in (1, 2)):
        yield SettingProblem(
            "training.class_weights",
            f"training.class_weights = {training.class_weights!r}: loss '{loss.name}' has no "
            "classes",
            '"none"',
        )


def differences(
    config: Config, started: Mapping[str, Mapping[str, object]], hint: str
) -> list[SettingProblem]:
    """Return a problem for each setting that differs from those that a run was started with,
    section → name → value, unless it may change during a run; ``hint`` says what to do.

    The data file may have moved: its data is recognised by the fingerprint. A setting that
    ``started`` does not have is newer than the run, and has to have its default.
    """
    problems = []
    for section, options in sections(config.method).items():
        before, after = started.get(section, {}), config.values()[section]
        defaults = {o.name: o.default for o in options}
        free = {o.name for o in options if o.free_on_resume}
        names = dict.fromkeys([*before, *after])
        if section == "optimizer" and before.get("method") != config.method:
            names = {"method": None}  # the other options are those of another method
        for name in names:
            old, new = before.get(name, defaults.get(name)), after.get(name)
            if name not in free and old != new:
                problems.append(
                    SettingProblem(
                        f"{section}.{name}",
                        f"{section}.{name}: the run was started with {old!r}, but now it is "
                        f"{new!r}; {hint}",
                    )
                )
    return problems
