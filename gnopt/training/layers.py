"""What can be written of a network for each row: its prediction, outputs, or activations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gnopt.engine.arrays import Array
from gnopt.engine.losses import Loss
from gnopt.engine.network import Network, forward
from gnopt.errors import ConfigError

Compute = Callable[[Array], np.ndarray]


def choose_layer(net: Network, name: str) -> int:
    """Return the number of the layer that ``name`` means, as `activations` takes it.

    ``name`` is a number from 1 to L, ``code`` for the narrowest hidden layer, ``logits`` for h_L
    (number L) or ``output`` for the prediction of the loss (number 0). Raises ConfigError for any
    other name.
    """
    if name == "output":
        return 0
    if name == "logits":
        return net.layers
    if name == "code" and net.layers > 1:
        hidden = net.sizes[1:-1]
        return 1 + hidden.index(min(hidden))
    if name.isdecimal() and 1 <= int(name) <= net.layers:
        return int(name)
    raise ConfigError(
        f"--layer {name!r}: expected output, logits, {'code, ' if net.layers > 1 else ''}"
        f"or a layer from 1 to {net.layers}"
    )


def activations(net: Network, loss: Loss, theta: Array, layer: int) -> Compute:
    """Return the function x (N, D) → activations (N, d) of ``layer``, on the host.

    `choose_layer` explains the number ``layer``.
    """
    views = net.views(theta)

    def compute(x: Array) -> np.ndarray:
        tape = forward(net, views, net.ops.asarray(x))
        if layer == 0:
            return net.ops.to_host(loss.prediction(net.ops, tape.output))
        return net.ops.to_host(tape.output if layer == net.layers else tape.abar[layer][:, :-1])

    return compute
