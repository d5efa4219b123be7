"""What a command writes: whole or not at all, where it was asked to, and over nothing unasked."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from gnopt import files
from gnopt.errors import ConfigError, DataError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_that_exists_is_refused_unless_overwriting_was_asked_for(tmp_path):
    out = tmp_path / "out.h5"
    assert files.claim(out, overwrite=False) == out
    out.write_text("old")
    with pytest.raises(ConfigError, match="exists already; --overwrite replaces it"):
        files.claim(out, overwrite=False)
    assert files.claim(out, overwrite=True) == out
    with pytest.raises(DataError, match="is a directory"):
        files.claim(tmp_path, overwrite=True, error=DataError)


def test_links_are_followed_and_modes_kept(tmp_path):
    old, link = tmp_path / "old.txt", tmp_path / "link.txt"
    old.write_text("old")
    old.chmod(0o600)
    link.symlink_to("old.txt")
    with pytest.raises(ConfigError, match="exists already"):
        files.claim(link, overwrite=False)
    files.write_text(files.claim(link, overwrite=True), "new")
    assert link.is_symlink()
    assert old.read_text() == "new"
    assert mode(old) == 0o600
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to("made.txt")
    files.write_text(files.claim(dangling, overwrite=False), "made")
    assert (tmp_path / "made.txt").read_text() == "made"
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(ConfigError, match="leads back to itself"):
        files.claim(loop, overwrite=True)


@pytest.mark.parametrize("other", ["same", "link", "hard link", "inside", "way round"])
def test_what_a_command_reads_is_never_written_to(tmp_path, other):
    data, folder = tmp_path / "data.h5", tmp_path / "checkpoints"
    data.write_text("data")
    folder.mkdir()
    (tmp_path / "link.h5").symlink_to(data)
    os.link(data, tmp_path / "hard.h5")
    (tmp_path / "way").symlink_to(folder)
    out = {
        "same": data,
        "link": tmp_path / "link.h5",
        "hard link": tmp_path / "hard.h5",
        "inside": folder / "new.h5",
        "way round": tmp_path / "way" / "new.h5",
    }[other]
    with pytest.raises(ConfigError, match="which is read here"):
        files.claim(out, overwrite=True, kept=[data, folder, tmp_path / "absent"])


def test_devices_and_pipes_are_written_into(tmp_path):
    null = Path(os.devnull)
    assert files.claim(null, overwrite=False) == null
    files.write_text(null, "nothing")
    assert null.is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    files.write_hdf5(files.claim(pipe, overwrite=False), lambda file: file.update(x=np.arange(3.0)))
    reader.join(10)
    assert received[0].startswith(b"\x89HDF")
    assert pipe.is_fifo()


def test_a_pipe_without_a_reader_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no process reads this pipe"):
        files.write_text(pipe, "lost")
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_stdout_keeps_what_was_printed_before(tmp_path):
    code = (
        "from pathlib import Path; from gnopt import files; out = Path('/dev/stdout')\n"
        "print('first'); assert files.is_stdout(out)\n"
        "files.write_text(files.claim(out, False), 'second\\n'); print('third')"
    )
    with (tmp_path / "printed").open("w") as printed:
        subprocess.run([sys.executable, "-c", code], stdout=printed, check=True)
    assert (tmp_path / "printed").read_text() == "first\nsecond\nthird\n"


def test_files_of_killed_commands_are_deleted_and_others_are_left(tmp_path):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    host, dead = files._HOST, int(gone.stdout)
    names = {f"{dead}@{host}-out.h5": False, f"{os.getpid()}@{host}-out.h5": True}
    names |= {f"{dead}@elsewhere-out.h5": True, "mine": True}
    for name in names:
        (tmp_path / f"{files.TEMPORARY}{name}").touch()
    (tmp_path / f"{files.TEMPORARY}{dead}@{host}-folder").mkdir()
    files.claim(tmp_path / "out.h5", overwrite=False)
    for name, stays in names.items():
        assert (tmp_path / f"{files.TEMPORARY}{name}").exists() == stays, name
    assert (tmp_path / f"{files.TEMPORARY}{dead}@{host}-folder").is_dir()
    again = tmp_path / f"{files.TEMPORARY}{dead}@{host}-other.png"
    again.touch()
    files.write_text(tmp_path / "run.json", "any file that is written next")
    assert not again.exists()
    old = tmp_path / f"{files.TEMPORARY}{dead}@elsewhere-out.h5"
    os.utime(old, (0, 0))
    files.sweep(tmp_path)
    assert not old.exists()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    out = tmp_path / ("n" * 250 + ".txt")  # a name so long that no prefix fits
    files.write_text(out, "old")

    def interrupt(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_hdf5(out, interrupt)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
