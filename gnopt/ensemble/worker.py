"""Train one member of an ensemble: ``python -m gnopt.ensemble.worker RUN NUMBER``."""

from __future__ import annotations

import sys
from pathlib import Path

from gnopt.config import load
from gnopt.ensemble.members import members_of
from gnopt.training import rundir
from gnopt.workers.worker import make_run, serve


def train(ensemble: Path, number: str) -> None:
    """Train or finish the member of this number; raises what training raises."""
    config = ensemble / "config.toml"
    member = members_of(load(config))[int(number) - 1]
    flags = member.flags()
    sets = [part for key, (_, value) in flags.items() for part in ("--set", f"{key}={value}")]
    path = member.path(ensemble)
    argv = ["gnopt", "train", str(config), *sets, "--out", str(path)]
    start = rundir.read_info(ensemble).get("init_from")
    make_run(config, (), flags, path, argv, Path(start) if start else None)


if __name__ == "__main__":
    sys.exit(serve(train))
