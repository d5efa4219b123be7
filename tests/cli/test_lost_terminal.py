"""Losing the terminal, or whoever reads what a run prints, never ends the run."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from cli_tools import ROOT, same_runs

from gnopt.cli.lasting import _Lasting
from gnopt.training.rundir import RunDirectory

FULL = "/dev/full"  # every write fails there, as on a full disk


def statement(folder):
    return json.loads((folder / "run.json").read_text())["status"]


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&- 2>&- <&-", 0),
        (f">{FULL} 2>{FULL}", 1),  # the results could not be written
        ("2>&1 | head -1", 0),
    ],
)
@pytest.mark.skipif(not os.path.exists(FULL), reason="needs /dev/full")
def test_nobody_reads_what_a_run_prints(tiny, redirection, code):
    """What is printed does not get into the files of the run, either."""
    command = f"{sys.executable} -m gnopt train tiny.toml --out run -v {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert statement(tiny / "run") == "done"
    lines = (tiny / "run/log.txt").read_text().splitlines()
    assert lines
    assert all(line[:4].isdecimal() for line in lines)  # a year
    assert (tiny / "run/steps.csv").read_text().startswith("step,")


def test_a_stream_whose_reader_has_left_takes_all_and_remembers_why():
    reader, writer = os.pipe()
    os.close(reader)
    raw = _Lasting(writer, "wb")
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    for _ in range(3):
        stream.write("a line\n" * 10_000)
    assert isinstance(raw.error, BrokenPipeError)
    stream.close()


def test_a_terminal_that_does_not_block_gets_everything():
    """Another program may have set it so; a write is then refused while its buffer is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    found = bytearray()

    def read():
        while piece := os.read(reader, 1 << 16):
            found.extend(piece)

    raw = _Lasting(writer, "wb")
    stream = io.BufferedWriter(raw)
    thread = threading.Thread(target=read)
    thread.start()
    content = bytes(range(256)) * 4096
    stream.write(content)
    stream.close()
    thread.join()
    os.close(reader)
    assert raw.error is None
    assert bytes(found) == content


def signalled(monkeypatch, number):
    """Send a signal to the run in this process during its fifth update."""
    add = RunDirectory.add_step

    def add_step(self, row):
        add(self, row)
        if row["step"] == 5:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RunDirectory, "add_step", add_step)


def test_a_run_outlives_its_terminal(tiny, gnopt, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup had it ignored
    try:
        assert gnopt("train", "tiny.toml", "--out", "whole").code == 0
        signalled(monkeypatch, signal.SIGHUP)
        assert gnopt("train", "tiny.toml", "--out", "run").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert statement(tiny / "run") == "done"
    log = (tiny / "run/log.txt").read_text()
    assert "saved step-000005.h5" in log
    assert "SIGHUP: the terminal has closed; the run goes on" in log
    same_runs(tiny / "whole", tiny / "run")


def test_quit_ends_with_a_checkpoint(tiny, gnopt, monkeypatch):
    signalled(monkeypatch, signal.SIGQUIT)
    result = gnopt("train", "tiny.toml", "--out", "run")
    assert result.code == 128 + signal.SIGQUIT
    assert "gnopt train --resume --out run" in result.err
    assert (tiny / "run/checkpoints/latest").read_text() == "step-000005.h5\n"
    assert statement(tiny / "run") == "interrupted"
