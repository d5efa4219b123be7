"""Runs under a peer's interpreter, without gnopt: trains with torch's Adam or kfac-jax and logs
what it reaches.

Start: ``python peer_train.py TASK.json``. Rows of ``step,seconds,train_loss`` go to the task's
``log``; ``seconds`` are of training alone, without compilations.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

FIRST = 6  # updates that may hold compilations
CHUNK = 1000  # rows of an evaluation at a time


def keep_to_cores(count: int) -> None:
    """Run on the first ``count`` cores: the one limit on threads that every program keeps."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def batches(x: Any, y: Any, rows: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Endless batches, a new order in every epoch."""
    order = np.random.default_rng(seed)
    while True:
        shuffled = order.permutation(len(x))
        for start in range(0, len(x) - rows + 1, rows):
            chosen = shuffled[start : start + rows]
            yield x[chosen], y[chosen]


class Torch:
    """torch.optim.Adam with a fixed rate."""

    def __init__(self, task: dict[str, Any], weights: list[Any]) -> None:
        import torch

        torch.set_num_threads(task["threads"])
        self.torch, self.classes = torch, task["loss"] == "softmax_cross_entropy"
        layers: list[Any] = []
        for w, name in zip(weights, task["activations"], strict=True):
            linear = torch.nn.Linear(w.shape[1] - 1, len(w))
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w[:, :-1]))
                linear.bias.copy_(torch.from_numpy(w[:, -1]))
            layers += [linear, *([] if name == "identity" else [getattr(torch, name)])]
        self.layers = layers
        parameters = [
            p for layer in layers if isinstance(layer, torch.nn.Module) for p in layer.parameters()
        ]
        self.adam = torch.optim.Adam(parameters, lr=task["setting"])

    def loss(self, x: Any, y: Any) -> Any:
        """Mean over rows."""
        h, F = self.torch.from_numpy(x), self.torch.nn.functional
        for layer in self.layers:
            h = layer(h)
        target = self.torch.from_numpy(y)
        if self.classes:
            return F.cross_entropy(h, target.long())
        return F.binary_cross_entropy_with_logits(h, target, reduction="sum") / len(x)

    def step(self, data: Iterator[tuple[Any, Any]]) -> None:
        self.adam.zero_grad()
        self.loss(*next(data)).backward()
        self.adam.step()

    def evaluate(self, x: Any, y: Any) -> float:
        with self.torch.no_grad():
            return float(self.loss(x, y))


class KfacJax:
    """kfac-jax with the settings of its autoencoder example and a chosen initial damping."""

    def __init__(self, task: dict[str, Any], weights: list[Any]) -> None:
        import jax
        import jax.numpy as jnp
        import kfac_jax

        self.jax: Any = jax
        names, classes = task["activations"], task["loss"] == "softmax_cross_entropy"
        shapes = {"identity": lambda a: a, "tanh": jnp.tanh, "relu": jax.nn.relu}

        def loss(parameters: Any, batch: Any, register: bool = True) -> Any:
            h, y = batch
            for (w, b), name in zip(parameters, names, strict=True):
                h = shapes[name](h @ w + b)
            if classes:
                if register:
                    kfac_jax.register_softmax_cross_entropy_loss(h, y)
                return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1))
            if register:
                kfac_jax.register_sigmoid_cross_entropy_loss(h, y)
            return jnp.mean(jnp.sum(jax.nn.softplus(h) - y * h, 1))

        self.parameters = [(jnp.asarray(w[:, :-1].T), jnp.asarray(w[:, -1])) for w in weights]
        self.optimizer = kfac_jax.Optimizer(
            jax.value_and_grad(loss),
            l2_reg=1e-5,
            use_adaptive_learning_rate=True,
            use_adaptive_momentum=True,
            use_adaptive_damping=True,
            initial_damping=task["setting"],
            min_damping=1e-5,
            max_damping=1000.0,
            damping_adaptation_decay=0.95,
            damping_adaptation_interval=5,
            num_burnin_steps=5,
            curvature_ema=0.95,
            inverse_update_period=5,
        )
        self.key = jax.random.PRNGKey(task["seed"])
        self.state: Any = None
        self.loss = jax.jit(lambda parameters, batch: loss(parameters, batch, False))

    def step(self, data: Iterator[tuple[Any, Any]]) -> None:
        self.key, key = self.jax.random.split(self.key)
        if self.state is None:
            self.state = self.optimizer.init(self.parameters, key, next(data))
        self.parameters, self.state, _ = self.optimizer.step(
            self.parameters, self.state, key, data_iterator=data
        )
        self.jax.block_until_ready(self.parameters)

    def evaluate(self, x: Any, y: Any) -> float:
        return float(self.loss(self.parameters, (x, y)))


PROGRAMS: dict[str, Callable[..., Any]] = {"torch": Torch, "kfac-jax": KfacJax}


def mean_loss(peer: Any, x: Any, y: Any) -> float:
    """The objective over all rows."""
    total = 0.0
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        total += peer.evaluate(x[rows], y[rows]) * len(x[rows])
    return total / len(x)


def train(peer: Any, task: dict[str, Any], x: Any, y: Any) -> None:
    """Until the budget of seconds, a target, or a loss that is not finite."""
    data, waited, spent, evaluated = batches(x, y, task["batch"], task["seed"]), [], 0.0, 0.0
    with open(task["log"], "w", buffering=1) as log:
        log.write("step,seconds,train_loss\n")
        log.write(f"0,0,{mean_loss(peer, x, y)}\n")
        for step in itertools.count(1):
            start = time.perf_counter()
            peer.step(data)
            waited.append(time.perf_counter() - start)
            if step < 2 * FIRST:
                continue
            # The first updates hold compilations: the median of as many that follow stands for each
            # of them.
            spent = (
                spent + waited[-1]
                if spent
                else FIRST * float(np.median(waited[FIRST:])) + sum(waited[FIRST:])
            )
            if spent >= min(evaluated + task["every"], task["seconds"]):
                evaluated, value = spent, mean_loss(peer, x, y)
                log.write(f"{step},{spent},{value}\n")
                if spent >= task["seconds"] or value <= task["target"] or not np.isfinite(value):
                    return


def main() -> None:
    """Train as the task says."""
    with open(sys.argv[1]) as file:
        task = json.load(file)
    keep_to_cores(task["threads"])
    arrays = np.load(task["arrays"])
    weights = [arrays[f"W{layer}"] for layer in range(len(task["activations"]))]
    train(PROGRAMS[task["program"]](task, weights), task, arrays["x"], arrays["y"])


if __name__ == "__main__":
    main()
