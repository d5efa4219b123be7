"""The files of a run that its network needs, as bytes that no directory has to hold."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from gnopt.training import checkpoint, rundir
from gnopt.training.load import find_checkpoint

Files = Mapping[str, bytes]  # path inside the run directory → content


def pack(run: Path) -> dict[str, bytes]:
    """Return the files of the run or of the ensemble in ``run``, which stay as they are.

    Of checkpoints, the network that is handed out is left, without the state of the method.
    Raises DataError if ``run`` holds no network.
    """
    members = rundir.members(run)
    files = _plain_files(run, "")
    for part in members or [run]:
        prefix = f"{part.relative_to(run).as_posix()}/" if members else ""
        if members:
            files |= _plain_files(part, prefix)
        path = find_checkpoint(part)
        with tempfile.TemporaryDirectory(prefix="gnopt-") as folder:
            copy = Path(folder) / path.name
            checkpoint.save(copy, checkpoint.load_network(path), {})
            files[f"{prefix}checkpoints/{path.name}"] = copy.read_bytes()
        for pointer in ("best", "latest"):
            files[f"{prefix}checkpoints/{pointer}"] = f"{path.name}\n".encode()
    return files


def _plain_files(run: Path, prefix: str) -> dict[str, bytes]:
    return {
        f"{prefix}{path.name}": path.read_bytes()
        for path in sorted(run.iterdir())
        if path.is_file() and path.suffix in (".toml", ".json", ".csv", ".txt")
    }


def unpack(files: Files, run: Path) -> None:
    """Write the files of a run to the directory ``run``."""
    for name, content in files.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
