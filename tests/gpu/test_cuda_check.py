"""``bin/gpu-check`` tried on the double: the tests marked ``gpu``, and the comparison that it
prints.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
from cupy_double import python_path

HERE = Path(__file__).parent


def test_the_tests_for_a_gpu_pass_on_the_double():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(HERE / "test_cuda_hardware.py"),
    ]
    found = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    dots = re.sub(r"[^.s]", "", found.stdout.partition("[")[0])
    assert len(dots) > 60
    assert "s" not in dots


def test_tables(counters, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "methods", lambda: ["adam", "kfra"])
    assert gpu_check.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cuda:0: cupy")
    assert lines[-1] == "every method agrees"
    assert sum(line.startswith("kfra") for line in lines) == 2


def test_a_method_that_disagrees(counters, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "methods", lambda: ["adam"])
    monkeypatch.setattr(gpu_check, "disagreement", lambda *args: float("nan"))
    assert gpu_check.main(["--quick"]) == 1
    assert "1 of the methods disagree: adam" in capsys.readouterr().out


def test_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert gpu_check.main([]) == 2
    assert "gnopt[cuda13]" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", gpu_check.AGREEMENT)
def test_every_method_agrees_on_the_double(cuda, method_name, dtype):
    case = gpu_check.problem((40, 24, 8, 24, 40), ("tanh", "tanh", "sigmoid"), dtype, 60)
    assert gpu_check.disagreement(case, cuda, method_name, 3) <= gpu_check.AGREEMENT[dtype]
