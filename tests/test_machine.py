"""What the package knows of its machine, held against the system's own word."""

import os
import subprocess
import sys

import pytest

from gnopt import machine


def test_it_loads_nothing_of_the_package():
    code = (
        "import sys, gnopt.machine; "
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('gnopt', 'numpy')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["gnopt", "gnopt.machine"]


def test_the_container_limits_free_memory(tmp_path, monkeypatch):
    limit, used = tmp_path / "limit", tmp_path / "used"
    limit.write_text("5000\n")
    used.write_text("2000\n")
    whole = machine.free_memory()
    assert whole > 5000
    monkeypatch.setattr(machine, "_LIMITS", [(limit, used)])
    assert machine.free_memory() == 3000
    used.write_text("6000\n")
    assert machine.free_memory() == 0  # more is used than is allowed
    limit.write_text("max\n")
    assert machine.free_memory() > 5000
    monkeypatch.setattr(machine, "_available", lambda: None)
    assert machine.free_memory() > 5000  # of what the machine has


def test_peak_memory_grows_by_what_is_used():
    before = machine.peak_memory()
    held = bytearray(before)  # as much again as there ever was
    held[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGE_SIZE")])
    assert machine.peak_memory() > before + len(held) // 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_is_kept_on_cores():
    usable = machine.usable_cores()
    assert set(usable) == os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        machine.pin(child.pid, usable[:1])
        assert os.sched_getaffinity(child.pid) == {usable[0]}
        machine.pin(child.pid, ())
        assert os.sched_getaffinity(child.pid) == {usable[0]}
        child.communicate(b"\n")
    machine.pin(child.pid, usable)  # it has ended: nothing happens


def test_threads_are_set_for_every_library(monkeypatch):
    for name in machine.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert machine.chosen_threads() == {}
    for name, value in machine.thread_environment(3).items():
        monkeypatch.setenv(name, value)
    assert machine.chosen_threads() == dict.fromkeys(machine.THREAD_VARIABLES, "3")


def test_own_threads_do_not_count_as_other_work(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 0.0, 0.0))
    assert (machine.busy_cores(0), machine.busy_cores(1), machine.busy_cores(4)) == (2.5, 1.5, 0.0)


def test_the_processor_has_a_name():
    assert machine.processor()
