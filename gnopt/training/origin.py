"""What a run was started with, as its run.json holds it: settings and data.

Whoever goes on with a run, or reads it together with its data, compares them first: a file that was
edited or exchanged since would otherwise give other numbers without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnopt import plug_ins
from gnopt.aims import AUTO
from gnopt.config import Config, Flags, differences, load
from gnopt.data.fingerprint import Fingerprint
from gnopt.data.source import Data
from gnopt.errors import ConfigError, DataError, SettingsError
from gnopt.files import write_text
from gnopt.notes import note
from gnopt.toml import to_toml
from gnopt.training.rundir import CONFIG, RunDirectory, is_run, read_info

_LINKS = "data.follow_links"


def config_to_resume(
    run: RunDirectory, given: Path | None, sets: Sequence[str], flags: Flags | None
) -> Config:
    """Return the configuration under which a run goes on: ``given``, or the run's own without it,
    overridden by ``sets`` and ``flags``.

    A missing config.toml is written again from run.json. Raises SettingsError if a setting is not
    what the run was started with, unless it may change, and DataError if a plug-in changed.
    """
    own = run.path / CONFIG
    started = _settings(run.path, run.info)
    if not own.is_file() and started is not None:
        write_text(own, to_toml(started))
        note(f"{own}: missing; written again from run.json")
    if not own.is_file() and given is None:
        raise ConfigError(f"{own}: missing; give the configuration as well")
    config = load(given or own, sets, flags)
    if started is None and own.is_file():  # run.json is of an earlier version
        started = load(own).values()
    if started is not None:
        if config.method == AUTO:  # the run was begun with the method that this chose
            config = config.with_method(str(started["optimizer"]["method"]))
        _refuse(config, started, "a resumed run keeps its settings")
    for line in plug_ins.changes(run.info.get(plug_ins.RECORD)):
        raise DataError(line)
    return config


def own_config(folder: Path, flags: Flags | None = None, sets: Sequence[str] = ()) -> Config:
    """Return the configuration of a run that is only read, overridden by ``sets`` and ``flags``.

    Raises DataError if there is none, and SettingsError if config.toml was edited.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise DataError(f"{path}: missing; a checkpoint is read with its run directory")
    if is_run(folder):
        started = _settings(folder, read_info(folder))
        if started is not None:
            # What the user says of links holds for the file as it is, too.
            said = [text for text in sets if text.startswith(_LINKS)]
            links = {key: flag for key, flag in (flags or {}).items() if key == _LINKS}
            hint = "undo this change, or resume the run to make it known"
            _refuse(load(path, said, links), started, hint)
    config = load(path, sets, flags)
    if is_run(folder):
        for line in plug_ins.changes(read_info(folder).get(plug_ins.RECORD)):
            note(line)
    return config


def _settings(folder: Path, info: Mapping[str, Any]) -> dict[str, dict[str, object]] | None:
    """Return section → name → value as run.json has them; None in one of an earlier version."""
    found = info.get("configuration")
    if found is None:
        return None
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise DataError(f"{folder / 'run.json'}: damaged: configuration is no table of settings")
    return found


def _refuse(config: Config, started: Mapping[str, Mapping[str, object]], hint: str) -> None:
    problems = differences(config, started, hint)
    if problems:
        raise SettingsError(problems)


def check_own_data(folder: Path, data: Data) -> None:
    """Close the data and raise DataError if they are not those that the run in ``folder`` was
    started with.
    """
    try:
        difference = data_difference(folder, data.fingerprint)
        if difference:
            raise DataError(f"{difference}; --data reads other data on purpose")
    except BaseException:
        data.close()
        raise


def data_difference(folder: Path, found: Fingerprint) -> str | None:
    """Return why this is not the data that the run in ``folder`` was started with, or None; nothing
    is known of a folder without run.json.
    """
    return _difference(folder, read_info(folder), found) if is_run(folder) else None


def check_data(run: RunDirectory, found: Fingerprint) -> None:
    """Raise DataError if a run that goes on was started with other data than is open now."""
    difference = _difference(run.path, run.info, found)
    if difference:
        raise DataError(difference)


def _difference(folder: Path, info: Mapping[str, Any], found: Fingerprint) -> str | None:
    record = info.get("data")
    if not isinstance(record, dict):
        raise DataError(f"{folder / 'run.json'}: damaged: it does not tell the data of the run")
    difference = found.difference(record)
    return difference and (
        f"{found.path}: not the data that the run in {folder} was started with: {difference}"
    )
