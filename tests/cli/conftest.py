"""A tiny problem, and the command line run in this process or as a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_tools import CommandResult, start, write_problem
from processes import finish

from gnopt.cli import main


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, holding tiny.h5 and tiny.toml."""
    write_problem(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A problem, a run of 12 updates that nothing happened to, and one of 5 updates, made once for
    the tests of a module.
    """
    folder = tmp_path_factory.mktemp("made")
    write_problem(folder)
    for name, updates in (("whole", 12), ("run", 5)):
        argv = [folder / "tiny.toml", "--out", folder / name, "--max-updates", updates, "-q"]
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["train", *map(str, argv)])
    return folder


@pytest.fixture
def gnopt(capfd: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Run a command in this process."""

    def run(*argv: object) -> CommandResult:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in argv])
        out, err = capfd.readouterr()
        return CommandResult(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture
def process() -> Callable[..., CommandResult]:
    """Run a command as a process of its own."""

    def run(*argv: object, **environment: str) -> CommandResult:
        child = start(*argv, **environment)
        out, err = finish(child)
        return CommandResult(child.returncode, out, err)

    return run
