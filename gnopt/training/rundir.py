"""The run directory: who may write into it, what it holds, and how it is taken up again."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from gnopt.errors import ConfigError, DataError, GnoptError
from gnopt.files import TEMPORARY, write_text
from gnopt.training import checkpoint
from gnopt.training.csv_table import EVAL_COLUMNS, STEP_COLUMNS, Table, columns_for, truncate

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system: runs there are not locked
    fcntl = None

_FILES = ("config.toml", "run.json", "steps.csv", "eval.csv")


def now() -> str:
    """The time, in ISO format with the zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def is_run(path: Path) -> bool:
    """Whether ``path`` is a directory that a run was started in."""
    return (path / "run.json").is_file()


def occupied(path: Path) -> bool:
    """Whether ``path`` is something that a new run must not write into."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def default_path(stem: str, method: str, seed: int) -> Path:
    """``runs/<config>-<method>-<seed>``, with -2, -3, ... where taken."""
    base = Path("runs") / f"{stem}-{method}-{seed}".replace(":", "-").replace("/", "-")
    path, number = base, 1
    while occupied(path):
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def check_free(path: Path, overwrite: bool) -> None:
    """ConfigError where a new run must not use ``path``; touches nothing."""
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


class RunDirectory:
    """An open run directory, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.info: dict[str, Any] = {}
        self._tables: dict[str, Table] = {}
        path.mkdir(parents=True, exist_ok=True)
        self._log = (path / "log.txt").open("a", encoding="utf-8")
        self._lock()
        self.checkpoints.mkdir(exist_ok=True)

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
            return  # a file system without locks: nothing to hold on to

    @classmethod
    def create(
        cls, path: Path, config_text: str, info: Mapping[str, Any], overwrite: bool
    ) -> RunDirectory:
        """Start a run in ``path``; ConfigError where something is there that may not be
        replaced.
        """
        check_free(path, overwrite)
        run = cls(path)
        if is_run(path):
            run._clear()
        run.info = {
            "status": "running",
            **info,
            "pid": os.getpid(),
            "start": now(),
            "end": None,
            "exit_code": None,
        }
        run._write_info()  # first: a directory with run.json can be resumed and replaced
        write_text(path / "config.toml", config_text)
        return run

    @classmethod
    def resume(cls, path: Path) -> RunDirectory:
        """Take up the run in ``path``; ConfigError where there is none, GnoptError where it is
        going on.
        """
        if not is_run(path):
            raise ConfigError(f"--out {path}: no run to resume there (no run.json)")
        run = cls(path)
        run.info = read_info(path)
        return run

    def rewind(
        self, step: int, keep_eval: bool, over: bool, config_text: str, info: Mapping[str, Any]
    ) -> None:
        """Bring every file back to where it stood after ``step`` updates, and mark the run as
        running again.

        ``keep_eval`` tells whether an evaluation at ``step`` itself belongs to an uninterrupted
        run, ``over`` whether the run has come to its end: a second evaluation there, of its closing
        weights, belongs to no other.
        """
        truncate(self.path / "steps.csv", lambda s: s <= step)
        truncate(
            self.path / "eval.csv", lambda s: s < step or (s == step and keep_eval), once=not over
        )
        for path in checkpoint.listed(self.checkpoints):
            if (checkpoint.step_of(path) or 0) > step:
                path.unlink()
        self._remove_temporaries()
        write_text(self.path / "config.toml", config_text)
        resumed = [
            *self.info.get("resumed", []),
            {"time": now(), "step": step, "argv": info.get("argv")},
        ]
        self.info |= {
            **info,
            "argv": self.info.get("argv"),
            "resumed": resumed,
            "pid": os.getpid(),
            "status": "running",
            "end": None,
            "exit_code": None,
        }
        self._write_info()

    def finish(self, status: str, exit_code: int, **more: Any) -> None:
        """Record how the run ended."""
        self.info |= {"status": status, "end": now(), "exit_code": exit_code, **more}
        self._write_info()

    def close(self) -> None:
        """Let go of the directory."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        self._log.close()

    def log(self, line: str) -> None:
        """Append one line, with the time, to log.txt."""
        self._log.write(f"{now()} {line}\n")
        self._log.flush()

    def add_step(self, row: Mapping[str, Any]) -> None:
        """Append a row to steps.csv; the first one fixes the columns."""
        self._table("steps.csv", STEP_COLUMNS, row).append(row)

    def add_eval(self, row: Mapping[str, Any]) -> None:
        """Append a row to eval.csv."""
        self._table("eval.csv", EVAL_COLUMNS, row).append(row)

    def _table(self, name: str, fixed: tuple[str, ...], row: Mapping[str, Any]) -> Table:
        if name not in self._tables:
            path = self.path / name
            columns = columns_for(fixed, row)
            if path.is_file():
                with path.open() as file:
                    columns = tuple(file.readline().strip().split(","))
            self._tables[name] = Table(path, columns)
        return self._tables[name]

    def _write_info(self) -> None:
        write_text(self.path / "run.json", json.dumps(self.info, indent=2) + "\n")

    def _clear(self) -> None:
        """Delete what a run writes, and nothing else."""
        pointers = [self.checkpoints / name for name in ("latest", "best")]
        for path in [
            *checkpoint.listed(self.checkpoints),
            *pointers,
            *(self.path / name for name in _FILES),
        ]:
            path.unlink(missing_ok=True)
        self._remove_temporaries()
        self._log.truncate(0)

    def _remove_temporaries(self) -> None:
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(f"{TEMPORARY}*"):
                path.unlink(missing_ok=True)


def read_info(path: Path) -> dict[str, Any]:
    """The content of ``path/run.json``; DataError where it is not one."""
    try:
        info = json.loads((path / "run.json").read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: not a run directory (no run.json)") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'run.json'}: cannot be read: {error}") from error
    if not isinstance(info, dict):
        raise DataError(f"{path / 'run.json'}: found {type(info).__name__}, expected an object")
    return info


def _holder(path: Path) -> str:
    try:
        return f"process {read_info(path)['pid']}"
    except (DataError, KeyError):
        return "its id is not known"
