"""Training runs of other programs from gnopt's initial weights: torch's Adam and kfac-jax to an
objective.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnopt.aims import OBJECTIVE
from gnopt.config import load
from gnopt.errors import GnoptError
from gnopt.training.setup import build
from peers.children import Ended, run
from peers.targets import Problem, Rows, evaluations

SCRIPT = Path(__file__).with_name("peer_train.py")
LOSSES = ("binary_cross_entropy", "softmax_cross_entropy")
EVALUATIONS = 60  # a budget's, at most: evaluations do not count, but they take time


@dataclass(frozen=True)
class PeerRun:
    """One program with the setting that its users would tune: a learning rate, or the initial
    damping.
    """

    name: str
    program: str
    setting: float
    python: str
    threads: int

    def train(self, problem: Problem, targets: Sequence[float], folder: Path) -> tuple[Rows, Ended]:
        """Train until the lowest target or the budget; GnoptError where the interpreter lacks the
        program.
        """
        folder.mkdir(parents=True)
        log, task = folder / "eval.csv", folder / "task.json"
        task.write_text(
            json.dumps(
                {
                    **_export(problem, folder.parent / "start.npz"),
                    "program": self.program,
                    "setting": self.setting,
                    "threads": self.threads,
                    "seed": problem.seed,
                    "seconds": problem.seconds,
                    "every": problem.seconds / EVALUATIONS,
                    "target": min(targets, default=-np.inf),
                    "log": str(log),
                }
            )
        )
        ended = run([self.python, str(SCRIPT), str(task)])
        return evaluations(log), ended


def _export(problem: Problem, path: Path) -> dict[str, Any]:
    """Write the data and the weights of step 0, unless ``path`` is there already; what the task
    says of them.
    """
    experiment = build(
        load(problem.config, problem.sets, {"training.seed": ("--seed", problem.seed)}).aimed(
            OBJECTIVE
        )
    )
    try:
        loss = experiment.config.network.loss
        if loss not in LOSSES:
            raise GnoptError(
                f"{problem.config}: peers train with {' or '.join(LOSSES)}, not {loss}"
            )
        if not path.exists():  # all runs of a problem start from the same file
            x, y = experiment.data.train.batch(0, experiment.data.train.rows)
            theta = experiment.ops.to_host(experiment.initial_weights())
            np.savez(
                path,
                x=x,
                y=y,
                **{f"W{layer}": w for layer, w in enumerate(experiment.net.views(theta))},
            )
        return {
            "activations": [f.name for f in experiment.net.activations],
            "loss": loss,
            "arrays": str(path),
            "batch": experiment.config.training.batch_size,
        }
    finally:
        experiment.data.close()


def peer_runs(python: str, threads: int) -> tuple[list[PeerRun], list[str]]:
    """Adam at the rates around its best on deep autoencoders, kfac-jax from two dampings; what is
    absent, and why.
    """
    runs, absent = [], []
    for program, module, label, settings in (
        ("torch", "torch", "torch Adam, rate {:.6g}", (2.0**-8, 2.0**-9, 2.0**-10)),
        ("kfac-jax", "kfac_jax", "kfac-jax, damping {:g}", (10.0, 1.0)),
    ):
        reason = _lacks(python, module)
        if reason:
            absent.append(f"{program}: {reason}")
            continue
        runs += [
            PeerRun(label.format(setting), program, setting, python, threads)
            for setting in settings
        ]
    return runs, absent


def _lacks(python: str, module: str) -> str:
    """Why ``module`` cannot be had from this interpreter; empty if it can."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
    except OSError as error:
        return f"{python}: {error.strerror}"
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
