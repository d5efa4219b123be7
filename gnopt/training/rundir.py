"""The run directory: lock it, write its files, and bring them back to a step when a run resumes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gnopt import machine
from gnopt.errors import ConfigError, DataError, GnoptError
from gnopt.files import TEMPORARY, inside, naming, write_text
from gnopt.notes import note
from gnopt.provenance import now
from gnopt.toml import read_file_name
from gnopt.training import checkpoint
from gnopt.training.csv_table import (
    EVAL_COLUMNS,
    STEP_COLUMNS,
    Cell,
    Mark,
    Table,
    break_in,
    columns_for,
    cut,
    last_row,
    truncate,
    widen,
)

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system: runs there are not locked
    fcntl = None

RUNNING, KILLED = "running", "killed"
_REPLACED = "being replaced"
FINISHED = ("done", "diverged")  # statuses of runs that are not made again by themselves
MEMBERS = "members"  # the folder of an ensemble with a run directory for each member
_STEPS, _EVALUATIONS = "steps.csv", "eval.csv"
CONFIG = "config.toml"
_LOG, _CHECKPOINTS = "log.txt", "checkpoints"
_INFO = "run.json"
_FILES = (CONFIG, _INFO, _STEPS, _EVALUATIONS)


def is_run(path: Path) -> bool:
    """Return whether a run was started in the directory ``path``."""
    return (path / _INFO).is_file()


def member_path(path: Path, number: int) -> Path:
    """Return the run directory of a member of the ensemble in ``path``; members count from 1."""
    return path / MEMBERS / str(number)


def members(path: Path) -> list[Path]:
    """Return the run directories of an ensemble's members, by number; none for a single network.

    Raises DataError for links out of the run (see `refuse_strangers`).
    """
    refuse_strangers(path)
    folder = path / MEMBERS
    numbers = (
        [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    )
    return [member_path(path, number) for number in sorted(numbers)]


def refuse_strangers(path: Path) -> None:
    """Raise DataError if part of the run in ``path`` is a link out of it, a device or a pipe.

    Called before the files of a run are read or changed: the run may come from somebody else.
    """
    for name in (*_FILES, "log.txt", "checkpoints", MEMBERS):
        inside(path, name)
    for folder in (path / "checkpoints", path / MEMBERS):
        if folder.is_dir():
            for entry in os.scandir(folder):
                if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                    inside(path, f"{folder.name}/{entry.name}")


def own_files(path: Path) -> list[Path]:
    """Return what a command that writes elsewhere must not write to.

    ``path`` is a run, an ensemble, or a file, such as a checkpoint of a run. The files and the
    folders of the run are returned, and the data file that its configuration names.
    """
    found = [path] if path.is_file() else []
    folder = path.resolve().parent.parent if found else path
    if not is_run(folder):
        return found
    found += [folder / name for name in (*_FILES, _LOG, _CHECKPOINTS, MEMBERS)]
    try:
        data = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))["data"]["file"]
        return [*found, folder / str(read_file_name(data))]
    except (OSError, ValueError, KeyError, TypeError):  # its reader says what is wrong with it
        return found


def refuse_ensemble(path: Path) -> None:
    """Raise ConfigError if ``path`` is an ensemble where a single network is expected."""
    found = members(path)
    if found:
        raise ConfigError(
            f"{path}: an ensemble of {len(found)} members; expected one of them: --member N, or "
            f"the directory of one, such as {found[0]}"
        )


def occupied(path: Path) -> bool:
    """Return whether ``path`` is a file or a directory with something in it.

    What a run leaves that was killed before its first file, run.json, counts as nothing.
    """
    if not path.is_dir():
        return os.path.lexists(path)
    return not all(_begun(entry) for entry in os.scandir(path))


def _begun(entry: os.DirEntry[str]) -> bool:
    """Return whether a run that was killed at its start may have left ``entry``."""
    if entry.name == _CHECKPOINTS:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and all(inner.name.startswith(TEMPORARY) for inner in os.scandir(entry))
    if not entry.is_file(follow_symlinks=False):
        return False
    empty = entry.name == _LOG and entry.stat().st_size == 0
    return empty or entry.name.startswith(TEMPORARY)


def default_run_path(stem: str, method: str, seed: int) -> Path:
    """Return ``runs/<config>-<method>-<seed>``, with a number if that is taken."""
    return free_path(f"{stem}-{method}-{seed}")


def free_path(name: str) -> Path:
    """Return ``runs/<name>``, or the first of ``runs/<name>-2``, ``-3``, ... that is free."""
    base = Path("runs") / name.replace(":", "-").replace("/", "-")
    path, number = base, 1
    while occupied(path):
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def check_free(path: Path, overwrite: bool) -> None:
    """Raise ConfigError if a new run must not use ``path``; change nothing.

    ``overwrite`` allows the directory of an earlier run, and no other.
    """
    if not occupied(path):
        return
    if not path.is_dir():
        raise ConfigError(f"--out {path}: is a file; expected a directory, or a name that is free")
    if not overwrite:
        hint = "choose another name"
        if is_run(path):
            hint = "--resume goes on with it, --overwrite starts afresh"
        raise ConfigError(f"--out {path}: the directory is not empty; {hint}")
    if not is_run(path):
        raise ConfigError(
            f"--out {path}: --overwrite only replaces runs; there is no run.json in it"
        )


def resume_command(path: Path) -> str:
    """Return the command that resumes the run in ``path``, to be shown when a run is stopped."""
    return f"gnopt train --resume --out {shlex.quote(str(path))}"


@dataclass(frozen=True)
class Marks:
    """What the tables of a run held when a checkpoint was written, as its remark says.

    A resumed run takes the rows of steps.csv as they are, and those of eval.csv before the update
    of the checkpoint, because the evaluation at the end of a run may use other rows and is made
    again. ``end`` is of all rows of eval.csv.
    """

    steps: Mark
    evaluations: Mark
    end: Mark

    def __str__(self) -> str:
        return f"{_STEPS} {self.steps}; {_EVALUATIONS} {self.evaluations}; end {self.end}"

    @classmethod
    def read(cls, remark: str) -> Marks | None:
        """Read back what ``str`` gave; None for anything else, as of an earlier version."""
        try:
            parts = dict(part.split(" ", 1) for part in remark.split("; "))
            return cls(*(Mark.read(parts[name]) for name in (_STEPS, _EVALUATIONS, "end")))
        except (ValueError, KeyError):
            return None


class RunDirectory:
    """An open run directory. A lock on log.txt keeps other processes out until ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / _CHECKPOINTS
        self.info: dict[str, Any] = {}
        self._tables: dict[str, Table] = {}
        path.mkdir(parents=True, exist_ok=True)
        refuse_strangers(path)
        self._log = (path / _LOG).open("a", encoding="utf-8", errors="surrogateescape")
        self._lock()

    def _lock(self) -> None:
        try:
            if fcntl:
                fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._log.close()
            raise GnoptError(
                f"{self.path}: in use by another process ({_holder(self.path)})"
            ) from None
        except OSError:
            return  # the file system has no locks: the directory stays unprotected

    @classmethod
    def create(
        cls, path: Path, config_text: str, info: Mapping[str, Any], overwrite: bool
    ) -> RunDirectory:
        """Start a run in ``path``; ConfigError if something there may not be replaced."""
        check_free(path, overwrite)
        run = cls(path)
        try:
            check_free(path, overwrite)  # another process may have made a run before the lock
            if is_run(path):
                # If this process is killed now, what is left of the earlier run is not resumed.
                run.info = {"status": _REPLACED, "argv": info["argv"], **_process()}
                run._write_info()
            run._clear()
        except BaseException:
            run.close()
            raise
        run.info = {
            "status": RUNNING,
            **info,
            **_process(),
            "start": now(),
            "end": None,
            "exit_code": None,
        }
        # run.json comes first: a directory that has one can be resumed, or replaced by --overwrite.
        run._write_info()
        write_text(path / CONFIG, config_text)
        return run

    @classmethod
    def resume(cls, path: Path) -> RunDirectory:
        """Open the run in ``path`` again.

        Raises ConfigError if no run was started there, GnoptError if another process holds it.
        """
        if not is_run(path):
            raise ConfigError(f"--out {path}: no run to resume there (no run.json)")
        run = cls(path)
        try:
            run.info = read_info(path)
            if "argv" not in run.info:
                raise DataError(f"{path / _INFO}: damaged: argv is missing")
            if run.info["status"] == _REPLACED:
                raise ConfigError(
                    f"--out {path}: the run there was being replaced when gnopt was killed; "
                    "--overwrite starts afresh"
                )
        except BaseException:
            run.close()
            raise
        return run

    def rewind(
        self,
        step: int,
        marks: Marks | None,
        over: bool,
        config_text: str,
        info: Mapping[str, Any],
    ) -> None:
        """Bring every file back to its state after ``step`` updates, and mark the run as running.

        The files end up as an uninterrupted run would have left them. ``marks`` are those of the
        checkpoint, None for one of an earlier version. ``over`` says that the run has ended; only
        then does eval.csv keep the rows of ``step``. A run that goes on evaluates again where this
        is due, because the evaluation at an end may use other rows.
        """
        steps, evaluations = self.path / _STEPS, self.path / _EVALUATIONS
        if marks is None:
            truncate(steps, lambda s: s <= step)
            truncate(evaluations, lambda s: s < step or (s == step and over))
        else:
            cut(steps, marks.steps.end_in(steps) or 0)
            end = marks.end.end_in(evaluations) if over else None
            if over and end is None:
                note(f"{evaluations}: rows of update {step}, the last, were lost or edited")
            cut(evaluations, end or marks.evaluations.end_in(evaluations) or 0)
        for path in checkpoint.listed(self.checkpoints):
            if (checkpoint.step_of(path) or 0) > step:
                path.unlink()
        self.reopen(config_text, info, step=step)

    def reopen(self, config_text: str, info: Mapping[str, Any], **at: int) -> None:
        """Mark the run as running again; ``at`` says in run.json from where it goes on."""
        self._remove_temporaries()
        write_text(self.path / CONFIG, config_text)
        resumed = [
            *self.info.get("resumed", []),
            {"time": now(), **at, "argv": info.get("argv")},
        ]
        self.info |= {
            **info,
            "argv": self.info.get("argv"),
            "resumed": resumed,
            **_process(),
            "status": RUNNING,
            "end": None,
            "exit_code": None,
        }
        self._write_info()

    def finish(self, status: str, exit_code: int, **more: Any) -> None:
        """Record in run.json how the run ended, with the facts ``more``."""
        self.info |= {"status": status, "end": now(), "exit_code": exit_code, **more}
        self._write_info()

    def close(self) -> None:
        """Close all files and release the lock."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        self._log.close()

    def log(self, line: str) -> None:
        """Append a line to log.txt, with the time."""
        with naming(self.path / _LOG):
            self._log.write(f"{now()} {line}\n")
            self._log.flush()

    def add_step(self, row: Mapping[str, Cell]) -> None:
        """Append a row to steps.csv; the first row fixes the columns."""
        self._table(_STEPS, STEP_COLUMNS, row).append(row)

    def add_eval(self, row: Mapping[str, Cell]) -> None:
        """Append a row to eval.csv; metrics that are new since a run was resumed get columns."""
        if _EVALUATIONS not in self._tables and (self.path / _EVALUATIONS).is_file():
            widen(self.path / _EVALUATIONS, list(row))
        self._table(_EVALUATIONS, EVAL_COLUMNS, row).append(row)

    def _table(self, name: str, fixed: tuple[str, ...], row: Mapping[str, Cell]) -> Table:
        if name not in self._tables:
            path = self.path / name
            self._tables[name] = Table(path, _columns(path) or columns_for(fixed, row))
        return self._tables[name]

    def marks(self, step: int) -> Marks:
        """Return what the tables hold after ``step`` updates, for the checkpoint of that step."""
        return Marks(
            self._mark(_STEPS, step + 1),
            self._mark(_EVALUATIONS, step),
            self._mark(_EVALUATIONS, step + 1),
        )

    def _mark(self, name: str, step: int) -> Mark:
        """Return the mark of the rows of a table before ``step``."""
        path = self.path / name
        if name in self._tables:
            return self._tables[name].marked(step)
        if not path.is_file():
            return Mark()
        with contextlib.closing(Table(path, _columns(path))) as table:
            return table.marked(step)

    def gap(self, marks: Marks | None, step: int) -> str | None:
        """Return what is wrong with the rows of the tables up to ``step``, or None.

        ``marks`` are those of the checkpoint of that step. One of an earlier version has none, and
        then only the numbers of the updates can be compared.
        """
        steps, evaluations = self.path / _STEPS, self.path / _EVALUATIONS
        if marks is None:
            return break_in(steps, step)
        for path, mark in ((steps, marks.steps), (evaluations, marks.evaluations)):
            if mark.end_in(path) is None:
                what = "are not those that were written" if path.is_file() else "are missing"
                found = break_in(steps, step) if path == steps else None
                return found or f"{path}: rows up to update {step} {what}"
        return None

    def _write_info(self) -> None:
        write_text(self.path / _INFO, json.dumps(self.info, indent=2) + "\n")

    def _clear(self) -> None:
        """Delete the files of the earlier run but run.json, and the runs of its members."""
        pointers = [self.checkpoints / name for name in ("latest", "best")]
        for path in [
            *checkpoint.listed(self.checkpoints),
            *pointers,
            *(self.path / name for name in _FILES if name != _INFO),
        ]:
            path.unlink(missing_ok=True)
        self._remove_temporaries()
        self._log.truncate(0)
        for member in members(self.path):
            if is_run(member):
                shutil.rmtree(member)
        with contextlib.suppress(OSError):  # there is none, or something else lies in it
            (self.path / MEMBERS).rmdir()

    def _remove_temporaries(self) -> None:
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(f"{TEMPORARY}*"):
                path.unlink(missing_ok=True)


# What run.json holds, as far as the package reads it again.
_KINDS: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "argv": (list,),
    "pid": (int,),
    "host": (str,),
    "process_start": (str, type(None)),
    "config_folder": (str, type(None)),
    "configuration": (dict,),
    "data": (dict,),
    "init_from": (str, type(None)),
    "weight_decay": (dict, type(None)),
    "resumed": (list,),
    "step": (int,),
    "processes": (dict,),
    "handed_out": (dict,),
    "shortcomings": (list,),
}


def read_info(path: Path) -> dict[str, Any]:
    """Return the content of ``path/run.json``; DataError if it is missing or damaged."""
    file = path / _INFO
    try:
        info = json.loads(inside(path, _INFO).read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: not a run directory (no run.json)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"{file}: found {type(info).__name__}, expected an object")
    if "status" not in info:
        raise DataError(f"{file}: damaged: status is missing")
    for name, kinds in _KINDS.items():
        if name in info and not isinstance(info[name], kinds):
            raise DataError(f"{file}: damaged: {name} is {info[name]!r:.40}")
    if not all(isinstance(part, str) for part in info.get("argv", [])):
        raise DataError(f"{file}: damaged: argv is {info['argv']!r:.40}")
    return info


def status_of(path: Path) -> str:
    """Return how a run stands: the status in run.json, or "killed" if that says "running" and its
    process has ended; DataError if run.json is missing or damaged.

    Of a run on another machine it is not known whether its process has ended.
    """
    info = read_info(path)
    if info["status"] != RUNNING or info.get("host", _host()) != _host() or "pid" not in info:
        return str(info["status"])
    return RUNNING if machine.is_alive(info["pid"], info.get("process_start")) else KILLED


def updates_and_seconds(path: Path) -> tuple[int, float]:
    """Return how many updates a run has made, and the seconds of training, as the end of steps.csv
    says; DataError if it is damaged.
    """
    row = last_row(path / _STEPS)
    try:
        return int(row.get("step", 0)), float(row.get("seconds", 0.0))
    except ValueError as error:
        raise DataError(f"{path / _STEPS}: {error}") from error


def _process() -> dict[str, object]:
    """Return what tells this process from all others, for run.json."""
    pid = os.getpid()
    return {"pid": pid, "host": _host(), "process_start": machine.process_start(pid)}


def _host() -> str:
    return platform.node()


def _columns(path: Path) -> tuple[str, ...]:
    """Return the names of a table's columns, none if there is no such table yet."""
    if not path.is_file():
        return ()
    with path.open() as file:
        return tuple(file.readline().strip().split(","))


def _holder(path: Path) -> str:
    try:
        return f"process {read_info(path)['pid']}"
    except (DataError, KeyError):
        return "its id is not known"
