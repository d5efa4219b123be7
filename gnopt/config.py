"""The configuration: defaults, file, ``--set`` and flags, merged and checked as a whole.

Precedence is default < file < ``--set`` < dedicated flag. Every problem is reported, not the first
alone, and each value remembers where it came from.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnopt import optimizers, registry
from gnopt.data.options import DataSettings, memory_bytes
from gnopt.engine.arrays import Device
from gnopt.engine.losses import get_loss
from gnopt.errors import ConfigError, nearest
from gnopt.options import Option, parse_all
from gnopt.settings import (
    DEFAULT_METHOD,
    PACKAGES,
    PLUG_INS,
    NetworkSettings,
    TrainingSettings,
    sections,
)

# What may differ between a run and its continuation: nothing that the numbers depend on.
FREE_ON_RESUME = {
    f"training.{name}"
    for name in (
        "updates",
        "max_seconds",
        "evaluate_every",
        "evaluate_rows",
        "checkpoint_every",
        "keep_checkpoints",
        "device",
    )
}


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
    method_settings: dict[str, Any]  # the method's own options
    sources: dict[str, str]
    path: Path | None = None

    def values(self) -> dict[str, dict[str, Any]]:
        """Return section → name → value, as the file of a configuration shows them."""
        return {
            "data": self.data.values(),
            "network": self.network.values(),
            "optimizer": {"method": self.method, **self.method_settings},
            "training": self.training.values(),
        }

    def flat(self) -> dict[str, Any]:
        """Return key in full → value."""
        return {
            f"{section}.{name}": value
            for section, part in self.values().items()
            for name, value in part.items()
        }


def load(
    path: Path, sets: Sequence[str] = (), flags: Mapping[str, tuple[str, Any]] | None = None
) -> Config:
    """Read ``path``, lay ``--set`` texts and flags (key → (flag, value)) over it, and check
    everything.

    Raises ConfigError with all problems at once.
    """
    given, problems = _read(path)
    for text in sets:
        key, value, problem = parse_set(text)
        if problem:
            problems.append(problem)
        else:
            given[key] = (value, "--set")
    for key, (flag, value) in (flags or {}).items():
        given[key] = (value, flag)
    return _check(given, problems, path)


def _read(path: Path) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.toml")])
        raise ConfigError(f"{path}: no such configuration file{near}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file: byte {error.start} is not UTF-8") from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    given, problems = {}, []
    for section, part in document.items():
        if isinstance(part, dict):
            given.update({f"{section}.{name}": (value, str(path)) for name, value in part.items()})
        else:
            problems.append(f"{path}: {section} stands outside a section{_home_of(section)}")
    return given, problems


def _home_of(name: str) -> str:
    homes = [
        f"{section}.{name}"
        for section, options in sections(DEFAULT_METHOD).items()
        if any(o.name == name for o in options)
    ]
    if homes:
        return f" (did you mean '{homes[0]}'?)"
    return "; expected [data], [network], [optimizer] or [training]"


def parse_set(text: str) -> tuple[str, Any, str | None]:
    """Split ``section.key=value``: (key, value, None), or a problem. The value is TOML, else a
    string.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or key.count(".") != 1 or not all(key.split(".")):
        return key, None, f"--set {text!r}: expected section.key=value"
    if not value.isprintable():
        return (
            key,
            None,
            f"--set {key}: the value {value!r} holds characters that cannot be printed",
        )
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return key, value, None
    return key, parsed["value"], None


def _check(given: dict[str, tuple[Any, str]], problems: list[str], path: Path) -> Config:
    method = str(given.get("optimizer.method", (DEFAULT_METHOD, ""))[0])
    known = sections(method)
    values: dict[str, dict[str, Any]] = {}
    for section, options in known.items():
        part = {
            key.partition(".")[2]: value
            for key, (value, _) in given.items()
            if key.partition(".")[0] == section
        }
        if section == "optimizer" and method not in optimizers.methods():
            part = {
                "method": part["method"]
            }  # which of the other keys are right depends on the method
        part, too_long = _within_64_bits(part, section)
        values[section], wrong = parse_all(options, part, section)
        values[section] = {
            o.name: values[section][o.name] for o in options if o.name in values[section]
        }
        wrong = [problem + _elsewhere(problem, section, method, known) for problem in wrong]
        problems += [_located(problem, given, path) for problem in too_long + wrong]
    strangers = dict.fromkeys(
        key.partition(".")[0] for key in given if key.partition(".")[0] not in known
    )
    problems += [
        f"{_source(given, name)}: unknown section [{name}]{nearest(name, known)}"
        for name in strangers
    ]
    _import_from(path, values["network"])
    problems += [_located(problem, given, path) for problem in _cross_checks(values)]
    if problems:
        raise ConfigError(problems)
    _normalise(values, given, path)
    sources = {
        f"{section}.{name}": given.get(f"{section}.{name}", (None, "default"))[1]
        for section, part in values.items()
        for name in part
    }
    method_settings = {name: v for name, v in values["optimizer"].items() if name != "method"}
    return Config(
        DataSettings.make(values["data"]),
        NetworkSettings.make(values["network"]),
        TrainingSettings.make(values["training"]),
        method,
        method_settings,
        sources,
        path,
    )


def _within_64_bits(part: dict[str, Any], section: str) -> tuple[dict[str, Any], list[str]]:
    def too_long(value: Any) -> bool:
        if isinstance(value, list):
            return any(too_long(v) for v in value)
        return isinstance(value, int) and abs(value) >= 2**63

    long = [name for name, value in part.items() if too_long(value)]
    problems = [f"{section}.{name}: a whole number out of range" for name in long]
    return {name: value for name, value in part.items() if name not in long}, problems


def _elsewhere(
    problem: str, section: str, method: str, known: Mapping[str, Sequence[Option]]
) -> str:
    """What would have been right: a name near the first wrong one of a list, or a key's section or
    method.
    """
    for option in known[section]:
        if option.choices and problem.startswith(f"{section}.{option.name} = ["):
            names = re.findall(r"'([^']*)'", problem.partition("]")[0])
            wrong = [name for name in names if name not in option.choices]
            return nearest(wrong[0], option.choices) if wrong else ""
    match = re.match(r"unknown key \w+\.([\w-]+)", problem)
    if not match:
        return ""
    name = match.group(1)
    others = [
        other
        for other, options in known.items()
        if other != section and any(o.name == name for o in options)
    ]
    if others:
        return f"; it belongs to [{others[0]}]"
    if section == "optimizer":
        having = [
            m for m in optimizers.methods() if any(o.name == name for o in optimizers.options_of(m))
        ]
        if having:
            return f"; an option of {', '.join(having)}, not of {method}"
    return ""


def _source(given: Mapping[str, tuple[Any, str]], section: str) -> str:
    return next(source for key, (_, source) in given.items() if key.partition(".")[0] == section)


def _located(problem: str, given: Mapping[str, tuple[Any, str]], path: Path) -> str:
    named = [key for key in given if re.search(rf"(^|\s){re.escape(key)}(?![\w-])", problem)]
    return f"{given[max(named, key=len)][1] if named else path}: {problem}"


def _cross_checks(values: dict[str, dict[str, Any]]) -> list[str]:
    """Problems that no single key shows. Values that failed their own check stand at their default
    here.
    """
    problems = []
    for section, options in sections(values["optimizer"].get("method", "")).items():
        for option in options:  # plug-ins are named "module:Name", which only some keys take
            value = values[section].get(option.name)
            key = f"{section}.{option.name}"
            if option.choices and key not in PLUG_INS and isinstance(value, str) and ":" in value:
                problems.append(f"{key} = {value!r}: expected {option.expected}")
    network, training = values["network"], values["training"]
    for what, place in PACKAGES.items():
        names = network.get(what, [])
        for name in dict.fromkeys([names] if isinstance(names, str) else names):
            try:
                registry.lookup(*place, name, what)
            except ConfigError as error:
                problems.append(f"network.{what}: {error}")
    if not problems and "loss" in network:
        try:
            optimizers.check(values["optimizer"]["method"], get_loss(network["loss"]))
        except ConfigError as error:
            problems.append(f"optimizer.method: {error}")
    hidden, activation = network.get("hidden"), network["activation"]
    if hidden is not None and isinstance(activation, list) and len(activation) != len(hidden):
        problems.append(
            f"network.activation: found {len(activation)} names for {len(hidden)} hidden layers; "
            "expected one for each, or one name for all"
        )
    try:
        Device.parse(training["device"])
    except ConfigError:
        problems.append(f"training.device = {training['device']!r}: expected {Device.expected()}")
    for section in ("data", "training"):
        try:
            memory_bytes(values[section]["memory"])
        except ConfigError as error:
            problems.append(str(error).replace("data.memory", f"{section}.memory"))
    if (
        str(training["memory"]).strip().lower() == "auto"
    ):  # sums would depend on what else is running
        problems.append('training.memory = "auto": expected a size, such as "256MB"')
    return problems


def _import_from(path: Path, network: Mapping[str, Any]) -> None:
    """Let plug-ins be found beside the configuration and in the working directory."""
    if ":" in f"{network.get('loss')} {network.get('activation')}":
        folders = [Path.cwd(), path.resolve().parent]
        run = path.resolve().parent / "run.json"
        if (
            run.is_file()
        ):  # the configuration of a run: plug-ins lie beside the one it was started with
            folders.append(Path(json.loads(run.read_text()).get("config_folder", ".")))
        sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]


def _normalise(
    values: dict[str, dict[str, Any]], given: Mapping[str, tuple[Any, str]], path: Path
) -> None:
    network, data = values["network"], values["data"]
    if isinstance(network["activation"], str):
        network["activation"] = [network["activation"]] * len(network["hidden"])
    by_flag = given["data.file"][1] == "--data"
    folder = Path.cwd() if by_flag else path.resolve().parent
    data["file"] = str(_resolve(Path(data["file"]).expanduser(), folder))


def _resolve(file: Path, folder: Path) -> Path:
    """``file`` as an absolute path, relative to ``folder`` if it is there, else to the working
    directory.
    """
    beside = folder / file
    return (beside if beside.exists() else Path.cwd() / file).resolve()


def to_toml(values: Mapping[str, Mapping[str, Any]]) -> str:
    """Write sections as TOML that `load` reads back to the same values; keys set to None are left
    out.
    """
    lines = []
    for section, part in values.items():
        pairs = [f"{name} = {_toml(value)}" for name, value in part.items() if value is not None]
        lines += [f"[{section}]", *pairs, ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)


def refuse_changes(saved: Config, new: Config) -> None:
    """ConfigError where ``new`` would continue the run of ``saved`` under settings that change its
    numbers.

    The data file may have moved: its fingerprint is compared where the data is opened.
    """
    before, after = saved.flat(), new.flat()
    free = FREE_ON_RESUME | {"data.file"}
    problems = [
        f"{key}: the run was started with {before.get(key)!r}, but now it is {after.get(key)!r}; "
        "a resumed run keeps its settings"
        for key in dict.fromkeys([*before, *after])
        if key not in free and before.get(key) != after.get(key)
    ]
    if problems:
        raise ConfigError(problems)
