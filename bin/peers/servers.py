"""Other programs as subjects of the same rounds: torch, BackPACK and kfac-jax under an interpreter
that has them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnopt.training.setup import Experiment
from peers.problems import Net, batches
from peers.rounds import Row
from peers.subjects import Seconds, Subject
from peers.tables import number, show

_FACTORS = ("passes", "statistics")
# A peer's work → the variant that does the same, and the phases that make it up. BackPACK computes
# factors in the course of a forward and a backward pass.
COUNTERPARTS = {
    "torch forward+backward": ("forward+backward", ("update",)),
    "torch Adam": ("adam", ("update",)),
    "kfac-jax update": ("kfac", ("update",)),
    **{
        f"BackPACK {name.upper()} factors": (f"{name}-full", _FACTORS)
        for name in ("kfra", "kfac", "kflr")
    },
    **{
        f"BackPACK {name.upper()} factors, Cholesky, solve": (
            f"{name}-full",
            (*_FACTORS, "inverses", "solve"),
        )
        for name in ("kfra", "kfac")
    },
}
SERVER = Path(__file__).with_name("peer_server.py")


class Peer(Subject):
    """One piece of work that a server does when asked."""

    def __init__(self, server: Server, name: str, floor: dict[str, float]) -> None:
        self.server, self.name, self.floor = server, name, floor
        self.every = 5 if "KFLR" in name or "kfac-jax" in name else 2 if "BackPACK" in name else 1

    def measure(self, number: int) -> Seconds | None:
        answer = self.server.ask(self.name)
        return None if answer is None else {"update": answer}


class Server:
    """A process that holds the peers; ``absence`` says in a line why it has none."""

    def __init__(
        self, base: Experiment, net: Net, python: str, threads: int, kind: str, scratch: Path
    ) -> None:
        x, y = batches(base).take(0, net.batch)
        arrays, task = scratch / f"{net.name}-peers.npz", scratch / f"{net.name}-peers.json"
        np.savez(arrays, x=base.ops.to_host(x), y=base.ops.to_host(y))
        task.write_text(
            json.dumps(
                {
                    "sizes": list(base.net.sizes),
                    "activations": [f.name for f in base.net.activations],
                    "loss": base.config.network.loss,
                    "threads": threads,
                    "clock": kind,
                    "arrays": str(arrays),
                }
            )
        )
        self.process: subprocess.Popen[str] | None = None
        self.names: list[str] = []
        self.versions: dict[str, str] = {}
        self.absence = ""
        try:
            self.process = subprocess.Popen(
                [python, str(SERVER), str(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            self.absence = f"{python}: {error.strerror}"
            return
        first: dict[str, Any] = self._read() or {"missing": "the process ended"}
        self.names, self.versions = first.get("names", []), first.get("versions", {})
        if first.get("missing"):
            self.absence = f"{python}: {first['missing']}"

    def subjects(self, base: Experiment, net: Net) -> list[Peer]:
        """Everything that this server can time."""
        least = base.optimizer.cost(net.batch).phases
        passes = {"update": least["passes"]}
        return [Peer(self, name, passes if name.startswith("torch") else {}) for name in self.names]

    def ask(self, name: str) -> float | None:
        """Seconds that the work called ``name`` took; None if the server is gone."""
        if self.process is None or self.process.stdin is None:
            return None
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
        except OSError:
            return None
        seconds: float | None = self._read()
        return seconds

    def _read(self) -> Any:
        line = self.process.stdout.readline() if self.process and self.process.stdout else ""
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                if self.process.stdin:
                    self.process.stdin.close()
            self.process.wait()


def beside(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """gnopt's time over each peer's for the same work, both in units of the passes of the same
    rounds.
    """
    table = {row.name: row for row in rows}
    found = []
    for peer, (own, phases) in COUNTERPARTS.items():
        if peer not in table or own not in table or "update" not in table[peer].figures:
            continue
        theirs, ours = (
            table[peer].figures["update"],
            [table[own].figures.get(phase) for phase in phases],
        )
        having = [figure for figure in ours if figure is not None]
        relative = sum(figure.relative or 0.0 for figure in having)
        found.append(
            {
                "peer": peer,
                "peer_seconds": theirs.seconds,
                "gnopt": own,
                "phases": " ".join(phases),
                "gnopt_seconds": sum(figure.seconds for figure in having),
                "gnopt_over_peer": relative / theirs.relative if theirs.relative else None,
            }
        )
    return found


def show_peers(net: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of ``beside``."""
    if rows:
        show(
            f"{net}: beside other programs",
            ["peer", "its ms", "gnopt's", "phases", "ms", "gnopt / peer"],
            [
                [
                    r["peer"],
                    number(r["peer_seconds"] * 1e3),
                    r["gnopt"],
                    r["phases"],
                    number(r["gnopt_seconds"] * 1e3),
                    number(r["gnopt_over_peer"]),
                ]
                for r in rows
            ],
        )
