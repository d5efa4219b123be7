"""A tiny problem, and the command line run in this process or as a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import CONFIG, CommandResult, start
from processes import finish

from gnopt.cli import main


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, holding tiny.h5 (60 rows of 12 grey pixels, three classes) and
    tiny.toml.
    """
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "tiny.h5", "w") as file:
        file["x"] = rng.integers(0, 256, (60, 12)).astype(np.uint8)
        file["x"].attrs["scale"] = 1 / 255
        file["y"] = rng.integers(0, 3, 60).astype(np.uint8)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
