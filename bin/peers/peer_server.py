"""Runs under the peers' interpreter, without gnopt: times one piece of work of torch, BackPACK or
kfac-jax per line.

Start: ``python peer_server.py TASK.json``; the first line of output names what can be measured
here, then each line of input, a name, is answered by the seconds it took.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from typing import Any

KINDS = {"wall": time.perf_counter, "cpu": time.process_time}


def trainers() -> Any:
    """peer_train, which lies beside this file and like it does without gnopt; ImportError without
    NumPy.
    """
    return importlib.import_module("peer_train")


class TorchPeers:
    """The same network, batch and number of threads as gnopt's, in torch, with BackPACK where it is
    there.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        import numpy as np
        import torch

        torch.set_num_threads(task["threads"])
        torch.manual_seed(0)
        self.torch = torch
        arrays = np.load(task["arrays"])
        self.x, self.y = (torch.from_numpy(arrays[name]) for name in ("x", "y"))
        self.classes, self.sizes, self.activations = (
            task["loss"] == "softmax_cross_entropy",
            task["sizes"],
            task["activations"],
        )
        self.model = self.network()
        self.adam = torch.optim.Adam(self.model.parameters(), lr=2.0**-9)
        self.work = {"torch forward+backward": self.passes, "torch Adam": self.update}
        try:
            import backpack  # noqa: F401
        except ImportError:
            return
        # BackPACK's binary cross-entropy takes a single output: its squared error has factors of
        # the same shapes.
        self.extended = self.extend()
        self.work |= {
            "BackPACK KFRA factors": lambda: self.factors("KFRA"),
            "BackPACK KFAC factors": lambda: self.factors("KFAC"),
            "BackPACK KFRA factors, Cholesky, solve": lambda: self.solved("KFRA"),
            "BackPACK KFAC factors, Cholesky, solve": lambda: self.solved("KFAC"),
        }
        if self.classes:
            self.work["BackPACK KFLR factors"] = lambda: self.factors("KFLR")

    def network(self) -> Any:
        nn = self.torch.nn
        layers: list[Any] = []
        for i, o, f in zip(self.sizes[:-1], self.sizes[1:], self.activations, strict=True):
            layers.append(nn.Linear(i, o))
            if f == "tanh":
                layers.append(nn.Tanh())
        return nn.Sequential(*layers)

    def loss(self, model: Any) -> Any:
        F = self.torch.nn.functional
        h = model(self.x)
        if self.classes:
            return F.cross_entropy(h, self.y)
        return F.binary_cross_entropy_with_logits(h, self.x, reduction="sum") / len(self.x)

    def passes(self) -> None:
        self.model.zero_grad()
        self.loss(self.model).backward()

    def update(self) -> None:
        self.passes()
        self.adam.step()

    def extend(self) -> tuple[Any, Any]:
        import backpack

        nn = self.torch.nn
        return backpack.extend(self.network()), backpack.extend(
            nn.CrossEntropyLoss() if self.classes else nn.MSELoss()
        )

    def factors(self, name: str) -> None:
        import backpack

        model, criterion = self.extended
        model.zero_grad()
        with backpack.backpack(getattr(backpack.extensions, name)()):
            criterion(model(self.x), self.y if self.classes else self.x).backward()

    def solved(self, name: str) -> None:
        """Factors with damping, Cholesky and solves for every weight matrix."""
        torch = self.torch
        self.factors(name)
        for parameter in self.extended[0].parameters():
            kron = getattr(parameter, name.lower())
            damped = [F + 0.1 * torch.eye(len(F)) * torch.trace(F) / len(F) for F in kron]
            g = parameter.grad if parameter.dim() == 2 else parameter.grad[:, None]
            g = torch.cholesky_solve(g, torch.linalg.cholesky(damped[0]))
            if len(damped) > 1:
                torch.cholesky_solve(g.T, torch.linalg.cholesky(damped[1]))


class KfacJaxPeer:
    """kfac-jax from random weights: an update, on average over a period of its inverses."""

    PERIOD = 5

    def __init__(self, task: dict[str, Any]) -> None:
        import numpy as np

        random, arrays = np.random.default_rng(0), np.load(task["arrays"])
        weights = [
            random.normal(0.0, i**-0.5, (o, i + 1)).astype(np.float32)
            for i, o in zip(task["sizes"][:-1], task["sizes"][1:], strict=True)
        ]
        self.peer = trainers().KfacJax({**task, "setting": 10.0, "seed": 0}, weights)
        self.data = itertools.repeat((arrays["x"], arrays["y"]))
        self.work = {"kfac-jax update": self.updates}
        self.updates()  # compiles

    def updates(self) -> None:
        for _ in range(self.PERIOD):
            self.peer.step(self.data)


def main() -> None:
    """Serve until the input ends."""
    with open(sys.argv[1]) as file:
        task = json.load(file)
    work: dict[str, Any] = {}
    missing = []
    for kind in (TorchPeers, KfacJaxPeer):
        try:
            trainers().keep_to_cores(task["threads"])
            work |= kind(task).work
        except ImportError as error:
            missing.append(str(error))
    known = ("torch", "backpack", "jax", "kfac_jax")
    versions = {
        name: getattr(sys.modules[name], "__version__", "?")
        for name in known
        if name in sys.modules
    }
    print(
        json.dumps({"names": list(work), "versions": versions, "missing": ", ".join(missing)}),
        flush=True,
    )
    read = KINDS[task["clock"]]
    for line in sys.stdin:
        name = line.strip()
        start = read()
        work[name]()
        seconds = read() - start
        print(
            json.dumps(seconds / (KfacJaxPeer.PERIOD if name.startswith("kfac-jax") else 1)),
            flush=True,
        )


if __name__ == "__main__":
    main()
